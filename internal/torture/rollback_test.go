package torture

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Number 5 of the first tests (B4): a database that has forgotten intents, because an
// old backup was put back, because it is a copy, or because a standby was promoted that
// was behind. No request leaves before a person has settled what is missing; afterwards
// everybody is called who was not, and nobody twice.

// forgetful is a night in which a node has dialled a part of a campaign.
type forgetful struct {
	*Night
	node     *Node
	contacts int
}

func newForgetful(t *testing.T) *forgetful {
	t.Helper()
	f := &forgetful{Night: NewNight(t, NightOptions{}), contacts: 900}
	f.Prepare(t, f.contacts, "pace: 150")
	return f
}

// dialled waits until the platform has had that many requests.
func (f *forgetful) dialled(requests int) {
	f.t.Helper()
	Eventually(f.t, 60*time.Second, fmt.Sprintf("%d requests", requests), func() (bool, string) {
		got := f.Simulator.Stats().Requests
		return got >= int64(requests), fmt.Sprint(got)
	})
}

// held waits until the node says that it will not dial, and makes sure that it does not.
func (f *forgetful) held(node *Node, why string) {
	f.t.Helper()
	Eventually(f.t, 30*time.Second, "the node refuses to dial", func() (bool, string) {
		return node.Logged("NOT DIALLING") && node.Logged(why), node.log.last()
	})
	before := f.Simulator.Stats().Requests
	quiet := time.NewTimer(3 * time.Second)
	<-quiet.C // there is no event for what does not happen
	if after := f.Simulator.Stats().Requests; after != before {
		f.t.Errorf("%d requests left before a person had settled it", after-before)
	}
}

// finish waits until every contact has ended or is in doubt, and checks that nobody was
// called twice.
func (f *forgetful) finish(mostDoubt int) {
	f.t.Helper()
	db := f.DB()
	stored, err := db.Campaign(f.t.Context(), "greeting")
	must(f.t, err)
	Eventually(f.t, 60*time.Second, "everybody who can be called is called", func() (bool, string) {
		p, err := db.Progress(f.t.Context(), stored.ID)
		if err != nil {
			return false, err.Error()
		}
		return p.Pending == 0 && p.Open <= int64(mostDoubt) && f.Simulator.Stats().Open == 0, fmt.Sprintf("%+v", p)
	})
	f.Quiet()
	called := make(map[string]int)
	for _, r := range f.Requests() {
		called[r.Callee]++
	}
	for callee, n := range called {
		if n > 1 {
			f.t.Errorf("the contact %s**** got %d requests", callee[:7], n)
		}
	}
	if missing := f.contacts - len(called); missing > mostDoubt {
		f.t.Errorf("%d contacts got no request, want at most the %d in doubt", missing, mostDoubt)
	}
}

func (f *forgetful) recover(want string) {
	f.t.Helper()
	stdout, _, err := f.Try("recover")
	if err == nil || !strings.Contains(stdout, want) {
		f.t.Errorf("'dialer recover' shows, with %v:\n%s\nwant exit code 1 and %q", err, stdout, want)
	}
	f.t.Log(stdout)
	f.t.Log(f.Dialer("recover", "--reason", "the test wants it", "--by", "somebody"))
}

func TestRolledBackDatabase(t *testing.T) {
	t.Run("an old backup is put back", func(t *testing.T) {
		t.Parallel()
		f := newForgetful(t)
		f.node = f.StartNode(t, NodeOptions{Name: "first"})
		f.dialled(200)
		f.node.Kill()
		backup := f.Postgres.ColdCopy(t)
		must(t, f.node.Restart(""))
		f.dialled(450)
		f.node.Kill()
		must(t, f.Postgres.Restore(backup))
		must(t, f.node.Restart(""))
		f.held(f.node, "has forgotten intents")
		if _, stderr, err := f.Try("account", "resume", "tests"); err != nil {
			t.Fatal(stderr)
		}
		f.held(f.node, "has forgotten intents") // resumed by somebody who did not read why
		f.recover("the database has forgotten intents")
		f.finish(600) // whose receipts came before the backup was put back stays unknown
	})

	t.Run("an old backup is put back under a running node", func(t *testing.T) {
		t.Parallel()
		f := newForgetful(t)
		f.node = f.StartNode(t, NodeOptions{Name: "only"})
		f.dialled(150)
		backup := f.Postgres.ColdCopy(t)
		f.dialled(450)
		must(t, f.Postgres.Restore(backup))
		f.held(f.node, "has forgotten intents")
		f.recover("the database has forgotten intents")
		f.finish(600)
	})

	t.Run("a copy is dialled by a node that remembers nothing", func(t *testing.T) {
		t.Parallel()
		f := newForgetful(t)
		f.node = f.StartNode(t, NodeOptions{Name: "first"})
		f.dialled(200)
		f.node.Kill()
		clone := f.Postgres.ColdCopy(t)
		must(t, clone.Start())
		f.Database = clone.URL()
		staging := f.StartNode(t, NodeOptions{Name: "staging", Env: []string{"DIALER_STATE=" + t.TempDir()}})
		f.held(staging, "no journal of the account")
	})

	t.Run("a server is started again and a node that remembers everything goes on", func(t *testing.T) {
		t.Parallel()
		f := newForgetful(t)
		f.node = f.StartNode(t, NodeOptions{Name: "first"})
		f.dialled(200)
		must(t, f.Postgres.Stop(Immediate))
		must(t, f.Postgres.Start())
		f.finish(0)
	})

	t.Run("a standby that was behind is promoted", func(t *testing.T) {
		t.Parallel()
		f := newForgetful(t)
		link := NewProxy(t, "tcp", f.Postgres.Addr())
		standby := f.Postgres.Standby(t, link.Addr())
		wire := NewProxy(t, "tcp", f.Postgres.Addr())
		f.Database = databaseURL(wire.Addr(), "dialer")
		f.node = f.StartNode(t, NodeOptions{Name: "first"})
		f.dialled(200)
		link.Partition()
		f.dialled(400)
		must(t, f.Postgres.Kill9())
		must(t, standby.Promote())
		wire.Retarget("tcp", standby.Addr())
		wire.CutAll()
		lost := f.Postgres
		f.Postgres = standby
		f.held(f.node, "NOT DIALLING")
		f.recover("missing")
		f.finish(600)
		if lost.running() != nil {
			t.Error("the old primary runs")
		}
	})
}
