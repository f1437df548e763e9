package dialer_test

import (
	"fmt"
	"testing"
	"time"

	"dialer/internal/campaign"
)

// quiet is a plan in which nothing goes wrong: the test that uses it sees to that.
func quiet(contacts, limit int, start time.Time) *plan {
	return &plan{seed: 1, contacts: contacts, limit: limit, nodes: 1, attempts: 1, perMinute: 3, start: start, fates: make(map[fateKind]float64), platform: ordinary(1)}
}

func on(clock string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04:05", "2000-01-03 "+clock, shanghai)
	if err != nil {
		panic(err)
	}
	return t
}

// sent is how many requests have left.
func (n *network) sent() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.left)
}

// oneWindow makes the run end when its window does.
func oneWindow(c *campaign.Campaign) { c.Windows = campaign.Windows{{From: 9 * 60, To: 12 * 60}} }

// F1: nobody is called unless both clocks, the node's and the database's, are inside the
// window and agree. When they do again, everybody is.
func TestWindowsWithWrongClocks(t *testing.T) {
	t.Parallel()
	d := newSimDatabase(t)
	for _, c := range []struct {
		what  string
		node  time.Time
		ahead time.Duration // the database is
		still time.Duration // nobody is called for so long
	}{
		{"database two hours ahead, in the window", on("09:30:00"), 2 * time.Hour, 5 * time.Second},
		{"database two hours behind, in the window", on("11:30:00"), -2 * time.Hour, 5 * time.Second},
		{"database two hours ahead, after the window", on("11:00:00"), 2 * time.Hour, 5 * time.Second},
		{"database six seconds ahead", on("10:00:00"), 6 * time.Second, 5 * time.Second},
		{"database six seconds behind", on("10:00:00"), -6 * time.Second, 5 * time.Second},
		{"the window is open by the node's clock alone", on("09:00:01"), -4 * time.Second, 3 * time.Second},
		{"the window is open by the database's clock alone", on("08:59:57"), 4 * time.Second, 3 * time.Second},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := quiet(10, 20, c.node)
			p.skew = c.ahead
			inWorld(t, d, p, c.what, func(w *world) {
				w.begin(oneWindow)
				w.startNode()
				time.Sleep(c.still - time.Millisecond)
				if n := w.network.sent(); n != 0 {
					t.Errorf("%d requests in %v", n, c.still)
				}
				w.plan.skew = 0
				w.clock.setSkew(0)
				w.settle()
				if got := w.progress(); got.Done != 10 {
					t.Errorf("progress %+v, want all 10 done when the clocks were right again", got)
				}
			}, func(*world) {})
		})
	}
	for _, step := range []time.Duration{2 * time.Hour, -2 * time.Hour, 6 * time.Second, -6 * time.Second} {
		t.Run(fmt.Sprintf("database steps by %v in the run", step), func(t *testing.T) {
			inWorld(t, d, quiet(60, 20, on("09:59:59")), step.String(), func(w *world) {
				w.begin(oneWindow)
				w.startNode()
				time.Sleep(1500 * time.Millisecond)
				if n := w.network.sent(); n == 0 || n == 60 {
					t.Fatalf("%d requests before the step, want some and not all", n)
				}
				w.do(act{kind: stepClock, skew: step, at: 1500 * time.Millisecond, last: 5 * time.Second}) // checkPeople sees what is intended meanwhile
				w.settle()
				if got := w.progress(); got.Done != 60 {
					t.Errorf("progress %+v, want all 60 done", got)
				}
			}, func(*world) {})
		})
	}
}

// F2: a request that needs the whole of its time-out arrives before the window ends, and
// up to there nothing is given away.
func TestWindowEndsAtFullRate(t *testing.T) {
	t.Parallel()
	d := newSimDatabase(t)
	const limit = 50
	end := on("12:00:00")
	for phase := range 8 {
		t.Run(fmt.Sprintf("phase %d", phase), func(t *testing.T) {
			p := quiet(600, limit, end.Add(-6*time.Second-time.Duration(phase)*137*time.Millisecond))
			p.seed, p.fates[slowRequest] = uint64(phase+1), 1
			inWorld(t, d, p, t.Name(), func(w *world) {
				w.begin(oneWindow)
				w.startNode()
				w.settle()
			}, func(w *world) {
				var lastLeft, lastSeen time.Time
				for _, times := range w.network.left {
					lastLeft = later(lastLeft, times[0])
				}
				for _, entries := range w.found.requests {
					lastSeen = later(lastSeen, entries[0].Wall)
				}
				if !lastSeen.Before(end) {
					t.Errorf("the last request arrived at %v, after the end of the window", lastSeen)
				}
				if edge := end.Add(-simRequestTimeout - time.Second); !lastLeft.Before(edge) || lastLeft.Before(edge.Add(-200*time.Millisecond)) {
					t.Errorf("the last request left at %v, want just before %v", lastLeft, edge)
				}
				if n := len(w.found.requests); n < limit || n == 600 { // slow requests hold their slots
					t.Errorf("%d requests, want as many as the limit lets, and some contacts left over", n)
				}
			})
		})
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
