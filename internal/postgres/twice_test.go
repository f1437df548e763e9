package postgres_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialer/internal/campaign"
)

// A campaign that a hundred hands start at the same moment has one run (faults.md, H1).
func TestStartedByManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.idle("c", 13800000000, 3)
	var all sync.WaitGroup
	var started atomic.Int64
	begin := make(chan struct{})
	for range 100 {
		all.Go(func() {
			<-begin
			_, mine, err := w.db.Start(t.Context(), id, w.now)
			if err != nil {
				t.Error(err)
			}
			if mine {
				started.Add(1)
			}
		})
	}
	close(begin)
	all.Wait()
	if started.Load() != 1 {
		t.Errorf("%d of them started it", started.Load())
	}
	w.count(1, `SELECT count(*) FROM run`)
}

// One file that is imported by several at the same moment is there once (H2): every
// row is a contact of one import and a duplicate of the others.
func TestImportedByManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.idle("c", 13800000000, 0)
	const rows, hands = 500, 6
	var all sync.WaitGroup
	var contacts, duplicates atomic.Int64
	begin := make(chan struct{})
	for range hands {
		all.Go(func() {
			<-begin
			imp, err := w.db.ImportContacts(t.Context(), id, "same.csv", numbers(13800000000, rows), w.now)
			if err != nil {
				t.Error(err)
			}
			contacts.Add(int64(imp.Contacts))
			duplicates.Add(int64(imp.Duplicates))
		})
	}
	close(begin)
	all.Wait()
	if contacts.Load() != rows || duplicates.Load() != rows*(hands-1) {
		t.Errorf("%d contacts and %d duplicates, want %d and %d", contacts.Load(), duplicates.Load(), rows, rows*(hands-1))
	}
	w.count(rows, `SELECT count(DISTINCT n) FROM contact WHERE n BETWEEN 1 AND $1`, rows)
	w.balanced(id)
}

// Four nodes look at a schedule again and again while its runs last longer than its
// period now and then: each planned firing has exactly one row, and a campaign never
// has two runs (H5, G7). The clock is the test's own.
func TestEveryFiringHasOneRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const firings = 300
	at := w.now
	id := w.scheduled("c", at)
	every := func(s campaign.Schedule, after time.Time) (time.Time, error) {
		return at.Add(after.Sub(at).Truncate(time.Minute) + time.Minute), nil
	}
	opened := 0
	for i := range firings {
		now := at.Add(time.Duration(i)*time.Minute + time.Second)
		var all sync.WaitGroup
		var mine atomic.Int64
		for range 4 {
			all.Go(func() {
				n, err := w.db.FireSchedules(t.Context(), now, time.Hour, every)
				if err != nil {
					t.Error(err)
				}
				mine.Add(int64(n))
			})
		}
		all.Wait()
		opened += int(mine.Load())
		if mine.Load() > 1 {
			t.Fatalf("firing %d opened %d runs", i, mine.Load())
		}
		if i%3 != 0 { // every third run outlasts the next firing
			if _, err := w.db.Pool().Exec(t.Context(), `UPDATE run SET ended_at = $1, end_reason = 'done' WHERE ended_at IS NULL`, now); err != nil {
				t.Fatal(err)
			}
			if _, err := w.db.Pool().Exec(t.Context(), `UPDATE campaign SET state = 'idle'`); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.count(firings, `SELECT count(DISTINCT planned_at) FROM run WHERE campaign_id = $1`, id)
	w.count(firings, `SELECT count(*) FROM run`)
	w.count(firings-opened, `SELECT count(*) FROM run WHERE end_reason = 'skipped' AND started_at IS NULL AND note <> ''`)
	if opened != firings*2/3 {
		t.Errorf("%d runs were opened, want %d: each third firing finds the run before it still open", opened, firings*2/3)
	}
}
