package dialer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/limiter"
	"dialer/internal/postgres"
)

// work is an open run that a holder dials: the contacts read ahead, and what holds
// them back.
type work struct {
	run     campaign.RunID
	id      campaign.ID
	spec    campaign.Campaign
	zone    *time.Location
	pace    *limiter.Pace // the campaign's own; nil: the account's limit is enough
	longest time.Duration // a line is taken no longer than this
	cancel  context.CancelFunc

	mu      sync.Mutex
	running bool
	until   time.Time // nothing is dialled before
	fresh   []campaign.Pending
	due     []campaign.Pending
	read    int32 // fresh contacts are read up to this number
	stale   bool  // what was read is to be read again
	all     int32 // the number of the campaign's last contact
	streak  streak
}

// Read ahead: enough for two seconds at 1000/s, so that reading never holds up the
// dispenser.
const (
	readAhead = 2000
	readDue   = 500
)

// readWithin is how long a look at the tables may take. A server that has fallen silent
// without closing the connection would otherwise be waited for when it is long back.
const readWithin = 5 * time.Second

func (h *holder) newWork(r postgres.Run) (*work, error) {
	// The account's file may have changed since the campaign's was applied.
	h.mu.Lock()
	err := h.spec.Allows(&r.Spec)
	h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(r.Spec.Zone)
	if err != nil {
		// A window that cannot be evaluated is closed.
		return nil, fmt.Errorf("campaign %s: %w", r.Spec.Name, err)
	}
	w := &work{run: r.ID, id: r.Campaign, spec: r.Spec, zone: zone, longest: longestCall, read: r.UptoN}
	if r.Spec.Pace > 0 {
		w.pace = limiter.NewPace(r.Spec.Pace)
	}
	if t := r.Spec.Call.SessionTimeout; t != nil {
		w.longest = time.Duration(*t)*time.Second + 2*time.Minute
	}
	return w, nil
}

// watch looks at the account's open runs, and ends those that are done.
func (h *holder) watch(ctx context.Context) {
	known := make(map[campaign.RunID]*work)
	var feeders sync.WaitGroup
	defer feeders.Wait()
	every(ctx, h.Poll, func() {
		look, cancel := context.WithTimeout(ctx, readWithin)
		defer cancel()
		runs, err := h.DB.OpenRuns(look, h.account.id)
		if err != nil {
			if ctx.Err() == nil {
				h.log.Warn("read the open runs", "err", err)
			}
			return
		}
		open := make(map[campaign.RunID]bool, len(runs))
		var works []*work
		for _, r := range runs {
			open[r.ID] = true
			w := known[r.ID]
			if w == nil {
				if w, err = h.newWork(r); err != nil {
					h.log.Error("not dialling", "err", err)
					continue
				}
				known[r.ID] = w
				feedCtx, cancel := context.WithCancel(ctx)
				w.cancel = cancel
				feeders.Go(func() { h.feed(feedCtx, w) })
				h.log.Info("run taken up", "campaign", r.Spec.Name, "run", r.ID)
			}
			w.update(r)
			works = append(works, w)
			h.finish(look, w, r)
		}
		for id, w := range known {
			if !open[id] {
				w.cancel()
				delete(known, id)
				h.log.Info("run ended", "campaign", w.spec.Name, "run", id)
			}
		}
		h.mu.Lock()
		h.works = works
		h.mu.Unlock()
		h.freeLines(look)
		h.wake()
	})
	for _, w := range known {
		w.cancel()
	}
}

// expireEvery is how often calls are forgotten whose time is over, while lines are free.
const expireEvery = 10 * time.Second

// freeLines frees the lines of calls whose receipts another node took, or whose time
// is over.
func (h *holder) freeLines(ctx context.Context) {
	// There may be as many calls as a minute has requests: they are not gone through
	// without need.
	scarce := h.scarce()
	if !scarce && time.Since(h.expired) < expireEvery {
		return
	}
	h.expired = time.Now()
	open := h.account.lines.expire(h.expired)
	if len(open) == 0 || !scarce {
		return
	}
	settled, err := h.DB.Settled(ctx, h.account.id, open)
	if err != nil {
		if ctx.Err() == nil {
			h.log.Warn("look for free lines", "err", err)
		}
		return
	}
	h.account.lines.free(settled...)
}

// scarce tells whether a campaign waits for a line.
func (h *holder) scarce() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.works {
		if w.ready() && !h.account.lines.anyFree(w.spec.CallerIDs) {
			return true
		}
	}
	return false
}

// finish ends a run when every contact has ended, or its last window of the day has
// closed.
func (h *holder) finish(ctx context.Context, w *work, r postgres.Run) {
	now := time.Now()
	if _, open := w.open(now); !open {
		next := w.spec.Windows.Next(now, w.zone)
		y, m, d := now.In(w.zone).Date()
		ny, nm, nd := next.In(w.zone).Date()
		if next.IsZero() || y != ny || m != nm || d != nd {
			// At once after a start outside every window of the day, too: what would
			// happen instead is a run that sleeps until tomorrow.
			h.end(ctx, r, "window_closed")
		}
		return
	}
	if !r.Running || r.UptoN < r.Contacts || w.ready() {
		return
	}
	p, err := h.DB.Progress(ctx, w.id)
	if err != nil {
		if ctx.Err() == nil {
			h.log.Warn("look at the progress", "err", err)
		}
		return
	}
	if p.Pending == 0 && p.Open == 0 {
		h.end(ctx, r, "done")
	}
}

func (h *holder) end(ctx context.Context, r postgres.Run, reason string) {
	if err := h.DB.EndRun(ctx, r.ID, reason, time.Now()); err != nil && ctx.Err() == nil {
		h.log.Warn("end the run", "err", err)
	}
}

// feed reads contacts ahead of the dispenser: fresh ones in order, and those that
// have become due.
func (h *holder) feed(ctx context.Context, w *work) {
	every(ctx, h.Poll, func() {
		read, cancel := context.WithTimeout(ctx, readWithin)
		defer cancel()
		for read.Err() == nil {
			after, more, wantDue := w.wants()
			if wantDue {
				due, err := h.DB.Due(read, h.account.id, w.id, time.Now(), readDue)
				if err != nil {
					h.feedFailed(ctx, w, err)
					return
				}
				w.addDue(due)
				if len(due) > 0 {
					h.wake()
				}
			}
			if !more {
				return
			}
			fresh, err := h.DB.Fresh(read, h.account.id, w.id, after, readAhead)
			if err != nil {
				h.feedFailed(ctx, w, err)
				return
			}
			w.addFresh(after, fresh)
			h.wake()
			if len(fresh) == 0 {
				return
			}
		}
	})
}

func (h *holder) feedFailed(ctx context.Context, w *work, err error) {
	if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		h.log.Warn("read contacts", "campaign", w.spec.Name, "err", err)
	}
}

// wake tells the dispenser that there may be something to dial.
func (h *holder) wake() {
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

// ready tells whether some campaign could be dialled now.
func (h *holder) ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for _, w := range h.works {
		if _, open := w.open(now); open && w.ready() {
			if h.account.lines.anyFree(w.spec.CallerIDs) {
				return true
			}
		}
	}
	return false
}

// choose picks the campaign whose turn it is, a caller ID, and up to most contacts.
func (h *holder) choose(most int) (w *work, caller string, contacts []campaign.Pending) {
	h.mu.Lock()
	works, turn, limit := h.works, h.turn, float64(h.spec.Limit)
	h.mu.Unlock()
	now := time.Now()
	for i := range works {
		w := works[(turn+i)%len(works)]
		if _, open := w.open(now); !open || !w.ready() {
			continue
		}
		caller, free := h.account.lines.choose(w.spec.CallerIDs)
		if free == 0 {
			continue
		}
		n := min(most, free, w.waiting())
		// A pace that the account's own stays within would be a second bucket behind the first.
		if w.pace != nil && w.spec.Pace < limit {
			n = w.pace.TryTake(n)
		}
		if contacts := w.takeUp(n); len(contacts) > 0 {
			h.account.lines.spend(caller, len(contacts))
			h.mu.Lock()
			h.turn = (turn + i + 1) % len(works)
			h.mu.Unlock()
			return w, caller, contacts
		}
	}
	return nil, "", nil
}

func (w *work) update(r postgres.Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = r.Running
	w.all = r.Contacts
	if w.stale {
		w.read, w.stale = r.UptoN, false
	}
}

// reread drops what was read ahead: another run of the campaign dialled some of it.
func (w *work) reread() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fresh, w.due, w.stale, w.running = nil, nil, true, false
}

// open returns the span of the window that is open at a time, and whether one is.
func (w *work) open(at time.Time) (campaign.Span, bool) { return w.spec.Windows.Open(at, w.zone) }

// ready tells whether there are contacts to dial and nothing holds them back.
func (w *work) ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running && !time.Now().Before(w.until) && len(w.due)+len(w.fresh) > 0
}

func (w *work) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.due) + len(w.fresh)
}

func (w *work) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
}

func (w *work) holdUntil(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = t
}

// wants says what there is to read: fresh contacts after a number, and due ones.
func (w *work) wants() (after int32, fresh, due bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.read, len(w.fresh) < readAhead/2 && w.read < w.all && !w.stale, len(w.due) == 0
}

// addFresh adds the contacts that were read after a number, unless what was read ahead
// was dropped meanwhile: they would stand before those that are read again.
func (w *work) addFresh(after int32, contacts []campaign.Pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(contacts) > 0 && !w.stale && w.read == after {
		w.read = contacts[len(contacts)-1].N
		w.fresh = append(w.fresh, contacts...)
	}
}

func (w *work) addDue(contacts []campaign.Pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = contacts
}

// takeUp removes up to n contacts, those that waited first. A batch never skips a
// fresh contact: the cursor is the highest number it holds.
func (w *work) takeUp(n int) []campaign.Pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := min(n, len(w.due))
	fresh := min(n-due, len(w.fresh))
	contacts := make([]campaign.Pending, 0, due+fresh)
	contacts = append(append(contacts, w.due[:due]...), w.fresh[:fresh]...)
	w.due, w.fresh = w.due[due:], w.fresh[fresh:]
	return contacts
}

// putBack returns contacts of a batch that was not written. Due ones are read again.
func (w *work) putBack(contacts []campaign.Pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var fresh []campaign.Pending
	for _, c := range contacts {
		if !c.Due {
			fresh = append(fresh, c)
		}
	}
	w.fresh = append(fresh, w.fresh...)
}
