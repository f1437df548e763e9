package dialer_test

import (
	"testing"
	"time"

	"dialer/internal/campaign"
)

// What a person asks for is in force a second later, whatever it was before, and the
// account does not change hands for it.
func TestSpeedChangesWithinASecond(t *testing.T) {
	t.Parallel()
	d := newSimDatabase(t)
	apply := func(limit int, callerPace float64) func(*world) {
		return func(w *world) {
			a := w.account.Spec
			a.Limit = limit
			a.CallerIDs = []campaign.CallerID{{Number: "057100000000", Lines: 1000, Pace: callerPace}}
			if _, err := w.db.ApplyAccount(t.Context(), &a, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(f func(*world) error) func(*world) {
		return func(w *world) {
			if err := f(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	inWorld(t, d, quiet(2000, 100, on("10:00:00")), t.Name(), func(w *world) {
		w.begin(nil)
		w.startNode()
		for _, c := range []struct {
			what   string
			change func(*world)
			want   int // requests per second
		}{
			{"the limit it began with", func(*world) {}, 100},
			{"limit lowered", apply(20, 0), 20},
			{"limit raised", apply(80, 0), 80},
			{"a pace for the caller ID", apply(80, 30), 30},
			{"a slower one", apply(80, 10), 10},
			{"and none", apply(80, 0), 80},
			{"account paused", must(func(w *world) error {
				return w.db.PauseAccount(t.Context(), w.account.ID, "lunch", time.Now())
			}), 0},
			{"account resumed", must(func(w *world) error { return w.db.ResumeAccount(t.Context(), "main", time.Now()) }), 80},
			{"campaign paused", must(func(w *world) error { return w.db.Pause(t.Context(), w.campaign.ID, "lunch", time.Now()) }), 0},
			{"campaign resumed", must(func(w *world) error { return w.db.Resume(t.Context(), w.campaign.ID, time.Now()) }), 80},
			{"limit raised to what it was", apply(100, 0), 100},
		} {
			c.change(w)
			time.Sleep(time.Second)
			before := w.network.sent()
			time.Sleep(2 * time.Second)
			got := w.network.sent() - before
			w.trace.add("%s: %d requests in two seconds", c.what, got)
			// A pace keeps 50 ms of tokens for a dispenser that is late.
			if most := 2*c.want + max(c.want/20, 2); got > most || got < 2*c.want*9/10 || c.want == 0 && got > 0 {
				t.Errorf("%s: %d requests from the first to the third second, want %d", c.what, got, 2*c.want)
			}
		}
		w.settle()
		if got := w.progress(); got.Done != 2000 {
			t.Errorf("progress %+v, want everybody called", got)
		}
		var term int
		if err := w.db.Pool().QueryRow(t.Context(), `SELECT term FROM lease`).Scan(&term); err != nil || term != 1 {
			t.Errorf("the account's term is %d, %v; want 1, the first holder's", term, err)
		}
	}, func(*world) {})
}
