package torture

import (
	"fmt"
	"testing"
	"time"

	"dialer/internal/simulator"
)

// Number 3 of the tests with most harm per hour (fault C5): answers come within 5 ms of
// the request's time-out, before it or after. A late one is unknown until its receipt
// comes, its bytes are never read as another request's answer, and no CallId lands on a
// wrong attempt.
func TestLateAnswers(t *testing.T) {
	contacts, within := 1000, 2*time.Minute
	if Long() {
		contacts, within = 10_000, 5*time.Minute
	}
	const timeout = 300 * time.Millisecond
	night := NewNight(t, NightOptions{})
	night.Prepare(t, contacts, "pace: 250")
	db := night.DB()

	// The way to the platform and back takes a moment too, a longer one on a busy
	// machine: the middle follows, so that about half of the answers are late.
	middle := timeout - time.Millisecond
	follow := func() {
		must(t, night.Simulator.SetFaults(simulator.Faults{Delay: simulator.Range{Min: middle - 5*time.Millisecond, Max: middle + 5*time.Millisecond}}))
	}
	follow()
	node := night.StartNode(t, NodeOptions{Name: "one", Args: []string{"--timeout", timeout.String()}})
	var before, late int
	Eventually(t, within, "an answer or none to every request", func() (bool, string) {
		was, wasLate := before, late
		must(t, db.Pool().QueryRow(t.Context(), `
			SELECT count(*) FILTER (WHERE class = 'accepted'), count(*) FILTER (WHERE class = 'unknown') FROM response`).Scan(&before, &late))
		// The more one-sided the last ones were, the larger the step.
		if was, wasLate = before-was, late-wasLate; was+wasLate > 0 {
			middle += 2 * time.Millisecond * time.Duration(was-wasLate) / time.Duration(was+wasLate)
		}
		follow()
		var paused bool
		must(t, db.Pool().QueryRow(t.Context(), `SELECT state = 'paused' FROM campaign`).Scan(&paused))
		if paused {
			night.Dialer("campaign", "resume", "greeting") // twenty late ones in a row
		}
		return before+late == contacts, fmt.Sprintf("%d in time, %d late", before, late)
	})
	night.settle(t, db, within)
	if code, _ := node.Stop(); code != 0 {
		t.Errorf("the node ended with code %d", code)
	}

	v := night.judge(t, db)
	t.Logf("%d answers in time, %d late, at last around %s: %+v", before, late, middle, v)
	if v.called != contacts || v.doubted != late {
		t.Errorf("%+v, want all %d called and the %d late ones in doubt", v, contacts, late)
	}
	if before < contacts/20 || late < contacts/20 {
		t.Errorf("%d in time and %d late: that tests one side only", before, late)
	}
}
