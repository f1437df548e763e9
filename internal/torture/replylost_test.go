package torture

import (
	"testing"
	"time"
)

// Number 4 of the tests with most harm per hour (faults B2 and B3): the connection to
// the database breaks when the server has committed an intent or a response, so that
// the node does not learn of it. An intent is read again before anything is sent, a
// response is written again; nobody is called twice, nobody is forgotten. Now and then the
// connection breaks while an intent is being committed, or before a response is: the node
// cannot tell these from the others.
func TestCommitReplyLost(t *testing.T) {
	contacts, within := 5000, 2*time.Minute
	if Long() {
		contacts, within = 50_000, 10*time.Minute
	}
	night := NewNight(t, NightOptions{})
	night.Prepare(t, contacts)
	db := night.DB()
	proxy := NewCommitProxy(t, "tcp", night.Postgres.Addr(), 1)
	night.Database = proxy.URL()
	// A commit is that of a batch, and of many at once when the database is slow: few
	// senders keep it small.
	intents := &Loss{Match: Holding("WITH fence AS MATERIALIZED"), Every: 8}
	torn := &Loss{Match: Holding("WITH fence AS MATERIALIZED"), Every: 100, When: DuringCommit}
	responses := &Loss{Match: Holding("INSERT INTO response"), Every: 3}
	unwritten := &Loss{Match: Holding("INSERT INTO response"), Every: 10, When: BeforeCommit}
	others := &Loss{Every: 100} // whatever else is written: receipts, leases
	proxy.Lose(torn, intents, unwritten, responses, others)

	node := night.StartNode(t, NodeOptions{Name: "one", Args: []string{"--senders", "20"}})
	began := time.Now()
	night.settle(t, db, within)
	took := time.Since(began)
	if code, _ := node.Stop(); code != 0 {
		t.Errorf("the node ended with code %d", code)
	}

	v := night.judge(t, db)
	for _, loss := range []struct {
		name  string
		loss  *Loss
		least int
	}{{"intents", intents, 21}, {"responses", responses, 21}, {"intents while committing", torn, 1}, {"responses not even written", unwritten, 2}, {"others", others, 0}} {
		seen, lost := proxy.Lost(loss.loss)
		t.Logf("%s: the replies to %d of %d commits were lost", loss.name, lost, seen)
		if lost < loss.least {
			t.Errorf("%s: %d replies were lost, want %d at least", loss.name, lost, loss.least)
		}
	}
	if v.called != contacts || v.silent != 0 {
		t.Errorf("%+v of %d contacts; want each called, and each response recorded", v, contacts)
	}
	if node.Logged("cannot be stored") {
		t.Error("a response was given up: see the log")
	}
	t.Logf("%+v of %d contacts, in %s", v, contacts, took.Round(time.Millisecond))
}
