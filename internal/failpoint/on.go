//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Variable says what happens where: "after_write=kill:17,before_intent=stop:3" kills
// the process by SIGKILL at the 17th passing of after_write and stops it by SIGSTOP at
// the third of before_intent. Without a number it is the first. A stopped process
// goes on at SIGCONT.
const Variable = "DIALER_FAILPOINTS"

type action struct {
	signal syscall.Signal
	at     int64
	passed atomic.Int64
}

// planned is read once: the environment of a process does not change.
var planned = plan(os.Getenv(Variable))

func plan(text string) map[Name]*action {
	actions := make(map[Name]*action)
	for item := range strings.SplitSeq(text, ",") {
		if item == "" {
			continue
		}
		name, what, _ := strings.Cut(item, "=")
		verb, count, counted := strings.Cut(what, ":")
		a := &action{at: 1}
		switch verb {
		case "kill":
			a.signal = syscall.SIGKILL
		case "stop":
			a.signal = syscall.SIGSTOP
		default:
			panic(fmt.Sprintf("%s: %q is neither kill nor stop", Variable, item))
		}
		if counted {
			n, err := strconv.ParseInt(count, 10, 64)
			if err != nil || n < 1 {
				panic(fmt.Sprintf("%s: %q does not count from 1", Variable, item))
			}
			a.at = n
		}
		actions[Name(name)] = a
	}
	return actions
}

// Hit is called at the moment that name names.
func Hit(name Name) {
	a := planned[name]
	if a == nil || a.passed.Add(1) != a.at {
		return
	}
	if err := syscall.Kill(os.Getpid(), a.signal); err != nil {
		panic(err)
	}
	if a.signal == syscall.SIGKILL {
		select {} // nothing of this process may go on
	}
	// SIGSTOP takes effect when the kernel delivers it to this thread, which may be a
	// moment later: it is delivered before any system call returns.
	syscall.Getppid()
}
