package torture

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Ports of parts that go away and come back lie below those that the kernel gives to
// connections and to listeners on port 0, so that nobody takes them meanwhile.
const (
	lowestPort  = 20000
	highestPort = 29999
)

// taken holds the ports that this process has given out: a part that is down must
// find its own free when it comes back.
var taken sync.Map

// port returns a free port of the loopback address.
func port(t testing.TB) int {
	t.Helper()
	for range 1000 {
		n := lowestPort + rand.IntN(highestPort-lowestPort+1)
		if _, known := taken.LoadOrStore(n, true); known {
			continue
		}
		ln, err := net.Listen("tcp", loopback(n))
		if err != nil {
			continue // somebody else's, and it stays taken
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatalf("no free port from %d to %d", lowestPort, highestPort)
	return 0
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Eventually waits until what f reports is true, and fails the test after the deadline
// with what f last said. It must be called from the test's own goroutine.
func Eventually(t testing.TB, within time.Duration, what string, f func() (ok bool, state string)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		ok, state := f()
		if ok {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s: %s", within, what, state)
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		case <-tick.C:
		}
	}
}

// must ends the test if a tool failed.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// errorOf turns what a tool could not do into one sentence.
func errorOf(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
