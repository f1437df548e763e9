package torture

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Number 6 of the first tests (G2, G3): nodes that are stopped past their lease and past
// the send_by of what they have intended, while another node takes the account over. What
// a node finds in its hands when it wakes up is not sent late and not written under its
// old term, and nobody is called twice.
func TestPausedNode(t *testing.T) {
	t.Parallel()
	pauses := 30
	if Long() {
		pauses = 1000
	}
	if *torturePauses > 0 {
		pauses = *torturePauses
	}
	contacts := 1000 * pauses
	n := NewNight(t, NightOptions{})
	n.Prepare(t, contacts)
	lives := []string{"--lost-after", lostAfter.String(), "--lease", "1s"}
	var nodes []*Node
	for i := range 3 {
		nodes = append(nodes, n.StartNode(t, NodeOptions{Name: fmt.Sprintf("node%d", i+1), Args: lives}))
	}
	db := n.DB()
	past := time.NewTimer(0)
	defer past.Stop()
	<-past.C
	dice := rand.New(rand.NewPCG(1, 6))
	frozen, batches := 0, 0
	for frozen < pauses {
		// Whoever dials now is stopped in the middle of it, for longer than its lease and
		// every send_by.
		var holder string
		enough := batches + 1 + dice.IntN(50)
		Eventually(t, 30*time.Second, "some node dials", func() (bool, string) {
			err := db.Pool().QueryRow(t.Context(), `
				SELECT n.name, b.seq
				  FROM lease l
				  JOIN node n USING (node_id)
				  JOIN LATERAL (SELECT node_id, seq FROM batch WHERE account_id = l.account_id ORDER BY seq DESC LIMIT 1) b ON b.node_id = l.node_id
				 WHERE l.until > clock_timestamp()`).Scan(&holder, &batches)
			if err != nil {
				return false, err.Error()
			}
			return batches >= enough, fmt.Sprint(batches)
		})
		for _, node := range nodes {
			if node.Name != holder {
				continue
			}
			node.Freeze()
			frozen++
			past.Reset(1600 * time.Millisecond)
			<-past.C
			node.Thaw()
		}
		if p, err := db.Campaigns(t.Context()); err != nil || p[0].State != "running" {
			t.Fatalf("after %d pauses the campaign is over: give it more contacts", frozen)
		}
	}
	n.Dialer("campaign", "cancel", "greeting")
	n.settled(t)
	report := n.Check(Rules{Quiescent: true, LostAfter: lostAfter})
	st := n.Simulator.Stats()
	t.Logf("%d pauses: %d requests, %d calls, %d throttled, worst second %d", frozen, st.Requests, st.Accepted, st.Throttled, report.Figures.Accounts[0].WorstSecond)
}

// settled waits until no attempt is under way or in doubt any more, however it ended.
func (n *Night) settled(t testing.TB) {
	t.Helper()
	db := n.DB()
	Eventually(t, 2*time.Minute, "every attempt is settled", func() (bool, string) {
		var open int
		err := db.Pool().QueryRow(t.Context(), `
			SELECT count(*)
			  FROM attempt a
			  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
			 WHERE (r.class IS NULL OR r.class IN ('accepted', 'unknown'))
			   AND NOT EXISTS (SELECT FROM outcome o WHERE o.account_id = a.account_id AND o.attempt_id = a.attempt_id)
			   AND NOT EXISTS (SELECT FROM lost l WHERE l.account_id = a.account_id AND l.attempt_id = a.attempt_id)`).Scan(&open)
		if err != nil {
			return false, err.Error()
		}
		return open == 0, fmt.Sprintf("%d open", open)
	})
	n.Quiet()
}
