package torture

import (
	"fmt"
	"testing"
	"time"
)

// Number 8 of the first tests (G6, I9): nodes come, leave, die and sleep at full pace, and
// whoever has the account next begins at once. No sliding second at the platform holds
// more than the account's limit, counted over all of them.
func TestSlidingSecondOverNodes(t *testing.T) {
	t.Parallel()
	changes := 12
	if Long() {
		changes = 200
	}
	n := NewNight(t, NightOptions{})
	n.Prepare(t, 2500*changes)
	lives := []string{"--lost-after", lostAfter.String(), "--lease", "1s"}
	var nodes []*Node
	for i := range 4 {
		nodes = append(nodes, n.StartNode(t, NodeOptions{Name: fmt.Sprintf("node%d", i+1), Args: lives}))
	}
	for i := range changes {
		// A full second of requests is in the platform's window at every change.
		begin := n.Simulator.Stats().Requests
		Eventually(t, 30*time.Second, "the pace is taken up", func() (bool, string) {
			got := n.Simulator.Stats().Requests - begin
			return got >= 1500, fmt.Sprintf("%d requests since the last change", got)
		})
		holder := n.holder(t, nodes)
		switch i % 4 {
		case 0, 2: // the account is given back, and taken at once
			if code, took := holder.Stop(); code != 0 || took > 20*time.Second {
				t.Errorf("node %s stopped with exit code %d after %s", holder.Name, code, took)
			}
			must(t, holder.Restart(""))
		case 1:
			holder.Kill()
			must(t, holder.Restart(""))
		case 3:
			holder.Freeze()
			Eventually(t, 30*time.Second, "another node dials", func() (bool, string) {
				return n.holder(t, nodes) != holder, holder.Name
			})
			holder.Thaw()
		}
	}
	n.Dialer("campaign", "cancel", "greeting")
	n.settled(t)
	n.Check(Rules{Quiescent: true, LostAfter: lostAfter})
	st := n.Simulator.Stats()
	t.Logf("%d changes of hands: %d requests, %d throttled, worst second %d of %d", changes, st.Requests, st.Throttled, st.Accounts["tests"].WorstSecond, nightLimit)
	if st.Throttled != 0 || st.Accounts["tests"].WorstSecond > nightLimit {
		t.Errorf("%d requests were throttled, worst second %d of %d", st.Throttled, st.Accounts["tests"].WorstSecond, nightLimit)
	}
	if st.Accounts["tests"].WorstSecond < nightLimit*8/10 {
		t.Errorf("the worst second held %d requests: the pace was never near the limit of %d, so this test shows nothing", st.Accounts["tests"].WorstSecond, nightLimit)
	}
}

// holder waits until one of the nodes holds the account, and returns it.
func (n *Night) holder(t testing.TB, nodes []*Node) *Node {
	t.Helper()
	db := n.DB()
	var found *Node
	Eventually(t, 30*time.Second, "a node holds the account", func() (bool, string) {
		var name string
		err := db.Pool().QueryRow(t.Context(), `
			SELECT coalesce((SELECT n.name FROM lease l JOIN node n USING (node_id) WHERE l.until > clock_timestamp() LIMIT 1), '')`).Scan(&name)
		if err != nil {
			return false, err.Error()
		}
		for _, node := range nodes {
			if node.Name == name {
				found = node
			}
		}
		return found != nil, name
	})
	return found
}
