package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"dialer/internal/simulator"
)

// node is a 'dialer serve' in a process of its own.
type node struct {
	cmd     *exec.Cmd
	address string // where it takes receipts
	read    chan struct{}
	last    string // line on standard error; to be looked at after read
}

func startNode(t *testing.T, env environment, name string) *node {
	t.Helper()
	return startProgram(t, env, "", name, "--listen", "127.0.0.1:0")
}

// startProgram starts a node with other arguments, or of another build than this one.
func startProgram(t *testing.T, env environment, program, name string, args ...string) *node {
	t.Helper()
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	n := &node{cmd: exec.Command(program, append([]string{"serve", "--node", name}, args...)...), read: make(chan struct{})}
	n.cmd.Env = append(os.Environ(), asProgram+"=1", "DIALER_STATE="+t.TempDir())
	for k, v := range env {
		n.cmd.Env = append(n.cmd.Env, k+"="+v)
	}
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.kill() })
	address := make(chan string, 1)
	go func() {
		defer close(n.read)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var line struct{ Level, Msg, Receipts string }
			n.last = lines.Text()
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Level != "INFO" {
				fmt.Fprintf(t.Output(), "node %s: %s\n", name, lines.Bytes())
			}
			if line.Msg == "node started" {
				address <- strings.TrimSuffix(strings.TrimPrefix(line.Receipts, "http://"), "/receipts/")
			}
		}
	}()
	select {
	case n.address = <-address:
	case <-n.read:
		t.Fatalf("node %s ended before it began", name)
	case <-time.After(30 * time.Second):
		t.Fatalf("node %s does not begin", name)
	}
	return n
}

// kill ends the node as kill -9 does.
func (n *node) kill() {
	if n.cmd.ProcessState != nil {
		return
	}
	n.cmd.Process.Kill()
	<-n.read // Wait closes the pipe
	n.cmd.Wait()
}

// said returns the sentence with which a node that failed has ended.
func (n *node) said() string {
	sentence, failed := strings.CutPrefix(n.last, "dialer: ")
	if !failed {
		return ""
	}
	return sentence
}

// terminate ends the node as kill does, and returns its exit code. A node that takes
// longer than that fails the test.
func (n *node) terminate(t *testing.T, within time.Duration) int {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return n.end(t, within)
}

// end waits for the node's own end.
func (n *node) end(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-n.read:
	case <-time.After(within):
		t.Fatalf("the node has not ended after %s", within)
	}
	n.cmd.Wait() // the exit code says all
	return n.cmd.ProcessState.ExitCode()
}

// A node that is killed while it dials, with requests in hand, makes nobody's phone
// ring twice: the node after it calls those who have no attempt, and nobody else.
func TestKilledNode(t *testing.T) {
	const contacts = 3000
	env := environment{"DATABASE_URL": durable(t)}
	env.must(t, "migrate")
	sim := simulate(t, simulator.Config{})
	sim.prepare(t, env, contacts)
	db := open(t, env["DATABASE_URL"])

	first := startNode(t, env, "first")
	sim.pushTo(t, first.address)
	eventually(t, 30*time.Second, "800 requests", func() (bool, string) {
		n := sim.Stats().Requests
		return n >= 800, fmt.Sprint(n)
	})
	first.kill()
	if n := sim.Stats().Requests; n >= contacts {
		t.Fatalf("the node was killed after its work: %d requests", n)
	}

	second := startNode(t, env, "second")
	sim.pushTo(t, second.address)
	// What is left then are attempts of the killed node of which nothing is known.
	eventually(t, 60*time.Second, "everything that can be known", func() (bool, string) {
		var untried, waiting, unsettled int
		err := db.Pool().QueryRow(t.Context(), `
			SELECT (SELECT count(*) FROM contact k WHERE NOT EXISTS (SELECT FROM attempt a WHERE (a.account_id, a.campaign_id, a.n) = (k.account_id, k.campaign_id, k.n))),
			       (SELECT count(*) FROM due),
			       (SELECT count(*) FROM attempt a JOIN node USING (node_id)
			          LEFT JOIN response r USING (account_id, attempt_id)
			          LEFT JOIN outcome o USING (account_id, attempt_id)
			         WHERE o.attempt_id IS NULL AND CASE WHEN r.class IS NULL THEN node.name <> 'first' ELSE r.class IN ('accepted', 'unknown') END)`).Scan(&untried, &waiting, &unsettled)
		if err != nil {
			t.Fatal(err)
		}
		st := sim.Stats()
		return untried == 0 && waiting == 0 && unsettled == 0 && st.Open == 0 && st.Acked+st.GivenUp == st.Reports,
			fmt.Sprintf("%d without an attempt, %d due, %d unsettled, %d calls open, %d of %d reports acknowledged, %d given up", untried, waiting, unsettled, st.Open, st.Acked, st.Reports, st.GivenUp)
	})

	st := sim.Stats()
	if st.Repeats != 0 || st.Overlaps != 0 {
		t.Errorf("%d OutIds with two calls, %d phones rung while in a call", st.Repeats, st.Overlaps)
	}
	if worst := st.Accounts["tests"].WorstSecond; worst > 1000 {
		t.Errorf("%d requests in one sliding second, the limit is 1000", worst)
	}
	byCallee, byOutID := sim.calls(t)
	for callee, n := range byCallee {
		if n > 1 {
			t.Errorf("%s was called %d times", callee, n)
		}
	}
	// Every contact was called, by the ledger of the platform, or is in doubt.
	tried := make(map[int]int) // contact: attempts that were called or are in doubt
	called, doubt, byFirst := 0, 0, 0
	rows, err := db.Pool().Query(t.Context(), `
		SELECT a.n, out_id(a.attempt_id), node.name, r.attempt_id IS NOT NULL, o.attempt_id IS NOT NULL
		  FROM attempt a JOIN node USING (node_id)
		  LEFT JOIN response r USING (account_id, attempt_id)
		  LEFT JOIN outcome o USING (account_id, attempt_id)`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		var outID, name string
		var responded, ended bool
		if err := rows.Scan(&n, &outID, &name, &responded, &ended); err != nil {
			t.Fatal(err)
		}
		if name == "first" {
			byFirst++
		}
		inDoubt := name == "first" && !responded && !ended
		switch {
		case inDoubt:
			doubt++
			tried[n]++
		case byOutID[outID] == 1:
			called++
			tried[n]++
		}
		if ended && byOutID[outID] != 1 {
			t.Errorf("contact %d has an outcome of a call that was never placed", n)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= contacts; n++ {
		if tried[n] != 1 {
			t.Errorf("contact %d has %d attempts that were called or are in doubt, want 1", n, tried[n])
		}
	}
	if doubt > 200 {
		t.Errorf("%d contacts are in doubt, want 200 at most", doubt)
	}
	t.Logf("%d called, %d in doubt; %d attempts by the killed node", called, doubt, byFirst)
}
