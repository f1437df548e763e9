package torture

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"dialer/internal/pgserver"
	"dialer/internal/postgres"
)

// migrated is a private, durable Postgres with the program's schema.
func migrated(t *testing.T) (url string) {
	t.Helper()
	server, err := pgserver.Start(t.Context(), pgserver.Options{Dir: folder(t)})
	must(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	_, err = postgres.Migrate(t.Context(), server.URL())
	must(t, err)
	return server.URL()
}

// A node is started, frozen, thawed, stopped in order, started again and killed, and
// is reached at the same address all the while.
func TestNodeLife(t *testing.T) {
	n := StartNode(t, NodeOptions{Name: "one", Env: []string{"DATABASE_URL=" + migrated(t)}, Args: []string{"--lost-after", "1h"}})
	client := &http.Client{Timeout: 300 * time.Millisecond}
	answers := func() bool {
		resp, err := client.Post("http://"+n.Address()+"/receipts/", "application/json", strings.NewReader("[]"))
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	}
	if !answers() || !n.Running() || n.Frozen() {
		t.Fatalf("a started node: answers %t, running %t, frozen %t", answers(), n.Running(), n.Frozen())
	}

	n.Freeze()
	Eventually(t, 5*time.Second, "the process is stopped", func() (bool, string) { return n.Frozen(), "" })
	if answers() {
		t.Error("a frozen node answers")
	}
	n.Thaw()
	Eventually(t, 5*time.Second, "the node answers again", func() (bool, string) { return answers(), "" })

	exited := n.Exited()
	if code, took := n.Stop(); code != 0 || took > 20*time.Second {
		t.Errorf("a stopped node ended with code %d after %s", code, took)
	}
	<-exited
	if !n.Logged("node stopped") || n.Logged("no such line") {
		t.Error("the log of the node is not what it said")
	}

	must(t, n.Restart(""))
	if !answers() {
		t.Error("a node started again does not answer at its address")
	}
	if err := n.Restart(""); err == nil {
		t.Error("a running node was started once more")
	}
	n.Freeze()
	n.Kill() // frozen or not
	if n.Running() || answers() {
		t.Error("a killed node is still there")
	}
}

// A node that comes to a crash point dies there, and is started again without it.
func TestNodeDiesAtItsFailpoint(t *testing.T) {
	night := NewNight(t, NightOptions{})
	night.Prepare(t, 5)
	n := night.StartNode(t, NodeOptions{Name: "one", Failpoints: "after_intent=kill"})
	select {
	case <-n.Exited():
	case <-time.After(20 * time.Second):
		t.Fatal("the node passes its crash point")
	}
	if got := night.Simulator.Stats().Requests; got != 0 {
		t.Errorf("%d requests before the crash point, want 0", got)
	}
	must(t, n.Restart(""))
	if !n.Running() {
		t.Error("the node died again")
	}
}
