package torture

import (
	"fmt"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/failpoint"
	"dialer/internal/postgres"
)

// Number 2 of the first tests (A2, A3, A4): a node is killed at each moment around a
// request. The node after it calls those who have no attempt, and nobody else; whose
// request left is settled by the receipt; whose request did not leave waits for a person
// as lost, because nobody can know.
func TestKillAroundTheSend(t *testing.T) {
	for _, moment := range []failpoint.Name{
		failpoint.BeforeIntent, failpoint.AfterIntent, failpoint.BeforeWrite, failpoint.AfterWrite, failpoint.AfterReply, failpoint.AfterRecord,
	} {
		t.Run(string(moment), func(t *testing.T) {
			t.Parallel()
			const contacts = 400
			n := NewNight(t, NightOptions{})
			n.Prepare(t, contacts, "pace: 200")
			times := 40 // a batch is two contacts at this pace
			if moment == failpoint.AfterRecord {
				times = 10 // which is passed at most every 50 ms
			}
			node := n.StartNode(t, NodeOptions{Name: "killed", Args: shortLives, Failpoints: fmt.Sprintf("%s=kill:%d", moment, times)})
			select {
			case <-node.Exited():
			case <-time.After(60 * time.Second):
				t.Fatal("the moment does not come")
			}
			atDeath := n.Simulator.Stats().Requests
			if atDeath < 10 || atDeath > contacts/2 {
				t.Fatalf("%d requests when the node died, want it in the middle", atDeath)
			}
			must(t, node.Restart(""))
			p := n.ended(t, "greeting", 60*time.Second)
			n.Quiet()
			report := n.Check(Rules{Quiescent: true, LostAfter: lostAfter})
			if doubts := report.Doubts.Total(); doubts > killBound {
				t.Errorf("%d attempts are in doubt after one kill, want at most %d", doubts, killBound)
			}
			if calls := n.Simulator.Stats().Accepted; calls+p.Unknown != contacts {
				t.Errorf("%d calls and %d contacts of which nobody knows, want %d in all: each request that left has its outcome", calls, p.Unknown, contacts)
			}
			if moment == failpoint.BeforeIntent || moment == failpoint.AfterReply || moment == failpoint.AfterRecord {
				return
			}
			if moment == failpoint.AfterWrite && p.Unknown > 0 {
				// What was written reaches the platform although its sender is dead.
				t.Logf("%d requests were written in part", p.Unknown)
			}
			if moment == failpoint.AfterIntent && p.Unknown == 0 {
				t.Error("the intents that were never sent are not lost")
			}
		})
	}
}

// lostAfter is past the longest call and the last push at a time scale of 50.
const lostAfter = 12 * time.Second

// shortLives are flags of nodes that settle soon what nobody can know, and whose accounts
// are taken over soon.
var shortLives = []string{"--lost-after", lostAfter.String(), "--lease", "1s"}

// killBound is how many attempts one killed node may leave in doubt at this pace: a batch,
// the requests in flight, and the answers that wait for their commit, which on a busy
// machine takes up to half a second.
const killBound = 100

// ended waits until a campaign's run has ended because it was done, and returns its
// progress.
func (n *Night) ended(t testing.TB, name string, within time.Duration) campaign.Progress {
	t.Helper()
	db := n.DB()
	stored, err := db.Campaign(t.Context(), name)
	must(t, err)
	var p campaign.Progress
	Eventually(t, within, name+" is done", func() (bool, string) {
		var err error
		if p, err = db.Progress(t.Context(), stored.ID); err != nil {
			if postgres.IsTransient(err) {
				return false, err.Error()
			}
			t.Fatal(err)
		}
		return p.State == campaign.Idle, fmt.Sprintf("%+v", p)
	})
	return p
}
