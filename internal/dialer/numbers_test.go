package dialer_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/simulator"
)

// Twenty campaigns with the same thousand numbers, dialled at once by two nodes that
// both want the account: no number gets a second call within the cap's minute or while
// it is in a call, and a number that is suppressed meanwhile gets none after that but
// the ones intended before (faults.md, H4 and I11).
func TestTheSameNumbersInManyCampaigns(t *testing.T) {
	t.Parallel()
	const campaigns, numbers, limit = 20, 1000, 2000
	ledger := new(sharedBuffer)
	n := newNightOf(t, limit, simulator.Config{Ledger: ledger})
	var all []postgres.Campaign
	for i := range campaigns {
		c := n.campaign(t, fmt.Sprintf("c%02d", i), numbers, func(c *campaign.Campaign) {
			c.Caps = campaign.Caps{PerMinute: 1, PerDay: 2, Per30Days: 6}
		})
		all = append(all, c)
	}
	n.node(t)
	n.node(t)

	suppressed := make(map[string]time.Time)
	for i := range 100 {
		phone := campaign.Phone(13800000001 + 10*i)
		if err := n.db.Suppress(t.Context(), phone, time.Time{}, "asked", "test", time.Now()); err != nil {
			t.Fatal(err)
		}
		suppressed[phone.Digits()] = time.Now()
	}
	// Everybody is called, held by the cap, or suppressed; the caps hold for a minute, in
	// which this test ends.
	eachOnce := func() (bool, string) {
		waiting := 0
		for _, c := range all {
			p, err := n.db.Progress(t.Context(), c.ID)
			if err != nil {
				t.Fatal(err)
			}
			held, _, err := n.db.Waiting(t.Context(), c.AccountID, c.ID)
			if err != nil {
				t.Fatal(err)
			}
			waiting += int(p.Pending-held) + int(p.Open)
		}
		return waiting == 0, fmt.Sprintf("%d contacts not judged yet, or open", waiting)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(50 * time.Second)
	for {
		done, state := eachOnce()
		if done {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(state)
		}
	}
	st := n.sim.Stats()
	if st.Overlaps != 0 || st.Repeats != 0 || st.Accounts["main"].WorstSecond > limit {
		t.Errorf("%d overlaps, %d repeats, worst second %d of %d", st.Overlaps, st.Repeats, st.Accounts["main"].WorstSecond, limit)
	}
	if err := n.sim.Close(); err != nil {
		t.Fatal(err)
	}
	last := make(map[string]time.Time)
	calls := 0
	for e, err := range simulator.ReadLedger(ledger.reader()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != simulator.KindRequest || e.Verdict != simulator.VerdictAccepted {
			continue
		}
		calls++
		if before, again := last[e.Callee]; again && e.Wall.Sub(before) < 59*time.Second {
			t.Errorf("one number was called twice within %s", e.Wall.Sub(before))
		}
		last[e.Callee] = e.Wall
		if since, no := suppressed[e.Callee]; no && e.Wall.After(since.Add(3*time.Second)) {
			t.Errorf("a number was called %s after it was suppressed", e.Wall.Sub(since))
		}
	}
	if calls < numbers-len(suppressed) || calls > 2*numbers {
		t.Errorf("%d calls, want one per number but for the %d suppressed", calls, len(suppressed))
	}
}

// sharedBuffer is a ledger in memory.
type sharedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *sharedBuffer) reader() *strings.Reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.NewReader(b.text.String())
}
