package postgres_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialer/internal/campaign"
)

func nightly(c *campaign.Campaign) {
	c.Schedule = &campaign.Schedule{Cron: "0 9 * * *", Zone: "Asia/Shanghai"}
}

// scheduled makes an idle campaign whose next firing is planned.
func (w *world) scheduled(name string, planned time.Time) campaign.ID {
	w.Helper()
	c, _, err := w.db.ApplyCampaign(w.Context(), campaignFile(name, nightly), planned, w.now)
	w.must(err)
	return c.ID
}

func (w *world) fire() int {
	w.Helper()
	n, err := w.db.FireSchedules(w.Context(), w.now, time.Hour, campaign.Schedule.Next)
	w.must(err)
	return n
}

func TestAFiringOpensOneRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scheduled("c", w.now.Add(-time.Minute))
	var all sync.WaitGroup
	var opened atomic.Int64
	for range 4 {
		all.Go(func() {
			n, err := w.db.FireSchedules(t.Context(), w.now, time.Hour, campaign.Schedule.Next)
			if err != nil {
				t.Error(err)
			}
			opened.Add(int64(n))
		})
	}
	all.Wait()
	if opened.Load() != 1 {
		t.Errorf("%d runs were opened", opened.Load())
	}
	w.count(1, `SELECT count(*) FROM run WHERE ended_at IS NULL AND planned_at = $1`, w.now.Add(-time.Minute))
	c, err := w.db.Campaign(t.Context(), "c")
	if next, _ := c.Spec.Schedule.Next(w.now); err != nil || c.State != campaign.Running || !c.NextRunAt.Equal(next) {
		t.Errorf("%+v, %v; want the next run at %s", c, err, next)
	}
}

func TestFiringsAreSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scheduled("late", w.now.Add(-2*time.Hour))
	busy := w.scheduled("busy", w.now.Add(-time.Minute))
	w.scheduled("early", w.now.Add(time.Minute))
	_, _, err := w.db.Start(t.Context(), busy, w.now)
	w.must(err)
	if n := w.fire(); n != 0 {
		t.Errorf("%d runs were opened", n)
	}
	w.count(2, `SELECT count(*) FROM run WHERE end_reason = 'skipped' AND note <> ''`)
	w.state("late", campaign.Idle)
	w.state("busy", campaign.Running)
}

func TestStartTwiceAndEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.idle("c", 13800000000, 1)
	run, started, err := w.db.Start(t.Context(), id, w.now)
	if err != nil || !started {
		t.Fatal(started, err)
	}
	if again, started, err := w.db.Start(t.Context(), id, w.now); err != nil || started || again != run {
		t.Errorf("again: run %d, %t, %v", again, started, err)
	}
	if open, _, err := w.db.RunState(t.Context(), run); err != nil || !open {
		t.Errorf("open: %t, %v", open, err)
	}
	for range 2 {
		w.must(w.db.EndRun(t.Context(), run, "done", w.now))
	}
	if open, reason, err := w.db.RunState(t.Context(), run); err != nil || open || reason != "done" {
		t.Errorf("open: %t, %q, %v", open, reason, err)
	}
	w.state("c", campaign.Idle)
	_, _, err = w.db.RunState(t.Context(), 99)
	wantErr(t, err, campaign.ErrNotFound)
}

func TestCancelIsForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.running("c", 13800000000, 3)
	w.intend(id, w.now, w.fresh(id, 0, 1)...)
	w.must(w.db.Cancel(t.Context(), id, w.now))
	w.state("c", campaign.Cancelled)
	w.count(1, `SELECT count(*) FROM run WHERE end_reason = 'cancelled'`)
	if p := w.progress(id); p.Cancelled != 2 || p.Pending != 0 || p.Open != 1 {
		t.Errorf("progress %+v", p)
	}
	w.balanced(id)
	if _, _, err := w.db.Start(t.Context(), id, w.now); err == nil {
		t.Error("started again")
	}
	if _, err := w.db.ImportContacts(t.Context(), id, "x.csv", numbers(13900000000, 1), w.now); err == nil {
		t.Error("imported into")
	}
	wantErr(t, w.db.Resume(t.Context(), id, w.now), campaign.ErrNotRunning)
}
