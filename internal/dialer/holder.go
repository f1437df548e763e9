package dialer

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/limiter"
	"dialer/internal/smartcall"
)

// holder dials one account for as long as its node holds the account's lease.
type holder struct {
	*Dialer
	account *account
	lease   campaign.Lease
	log     *slog.Logger
	client  *smartcall.Client
	pace    *limiter.Pace
	guard   *limiter.Guard
	brake   brake

	mu    sync.Mutex
	spec  campaign.Account
	trust time.Time // until when this node may believe that it still holds the lease
	works []*work   // one per open run
	turn  int       // whose turn it is among works

	begin   time.Time // no intent is made before
	expired time.Time // when calls were looked through for those whose time is over
	seq     int64     // the account's last batch
	results chan campaign.Response
	crew    crew
	// woken is sent on when there may be something to dial.
	woken chan struct{}
}

// newHolder prepares to dial an account that this node was granted. Everything that can
// fail fails here.
func (d *Dialer) newHolder(ctx context.Context, a *account, spec campaign.Account, g *grant, log *slog.Logger) (*holder, error) {
	client, err := d.connect(spec)
	if err != nil {
		return nil, errors.Join(err, d.DB.PauseAccount(ctx, a.id, err.Error(), time.Now()))
	}
	last, err := d.trust(ctx, a, g.Lease, log)
	if err != nil {
		return nil, err
	}
	open, err := d.DB.OpenLines(ctx, a.id, time.Now().Add(-longestCall))
	if err != nil {
		return nil, err
	}
	a.lines.reset()
	for id, caller := range open {
		a.lines.take(id, caller, time.Now().Add(longestCall))
	}
	h := &holder{
		Dialer: d, account: a, spec: spec, lease: g.Lease, log: log, client: client,
		pace: limiter.NewPace(float64(spec.Limit)), guard: limiter.NewGuard(spec.Limit),
		seq:     last.Seq,
		results: make(chan campaign.Response, recordMost), crew: newCrew(d.mostSenders()),
		woken: make(chan struct{}, 1),
	}
	h.trustFrom(g.asked)
	// The last holder's last requests may be less than a second old, and count at the
	// platform.
	h.guard.Inherit(g.Rest.Left(), g.got)
	if g.TakenOver {
		// Attempts that were made meanwhile would only grow old waiting for the guard, so
		// none are.
		h.guard.Hold(time.Second)
		h.begin = time.Now().Add(time.Second)
	}
	return h, nil
}

// longestCall is how long a line is believed to be taken when no receipt frees it:
// ten minutes of talk unless the campaign sets a session timeout, two of ringing.
const longestCall = 12 * time.Minute

// trustFrom extends the time for which this node trusts its lease, after a renewal
// that was begun at asked. The margin is for a request that is being written when the
// trust ends.
func (h *holder) trustFrom(asked time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := asked.Add(h.LeaseTTL - h.LeaseTTL/6); until.After(h.trust) {
		h.trust = until
	}
}

func (h *holder) trusted() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trust
}

// run dials until ctx is cancelled, the account's file changes in a way that needs a new
// holder, or the lease is lost. Then it stops making intents, waits for the requests in
// hand, and writes what came of them, whatever ctx says.
func (h *holder) run(ctx context.Context, changed <-chan struct{}) error {
	defer h.client.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	var recorder, loops sync.WaitGroup
	recording, giveUp := context.WithCancel(h.last)
	defer giveUp()
	recorder.Go(func() { h.record(recording) })
	h.crew.allow(h.sendersFor(h.spec.Limit))
	loops.Go(func() { h.renew(ctx, stop) })
	loops.Go(func() { h.watch(ctx) })
	loops.Go(func() { h.sweep(ctx) })
	loops.Go(func() { h.ask(ctx) })
	loops.Go(func() {
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			var spec campaign.Account
			if spec, changed = h.settings(h.account); !h.follow(spec) {
				stop(errChanged)
				return
			}
		}
	})
	err := h.dispense(ctx)
	stop(err)
	h.crew.dismiss()
	loops.Wait()
	h.crew.Wait()
	close(h.results)
	// While dialling, the recorder waits for the database for ever; a node that stops
	// must end at some time.
	defer time.AfterFunc(recordAfterStop, giveUp).Stop()
	recorder.Wait()
	if cause := context.Cause(ctx); err == nil && errors.Is(cause, campaign.ErrLeaseLost) {
		err = cause
	}
	return err
}

// follow takes over what has changed in the account's file, at once, if it is only how
// fast the account and its caller IDs may be dialled. Otherwise it returns false.
func (h *holder) follow(spec campaign.Account) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !sameButSpeed(h.spec, spec) {
		return false
	}
	if spec.Limit != h.spec.Limit {
		h.log.Info("limit changed", "from", h.spec.Limit, "to", spec.Limit)
	}
	h.spec = spec
	h.crew.allow(h.sendersFor(spec.Limit))
	h.guard.SetLimit(spec.Limit)
	h.pace.Set(float64(spec.Limit))
	return true
}

// sameButSpeed tells whether two files of an account differ in nothing but the limit
// and the lines and paces of its caller IDs.
func sameButSpeed(a, b campaign.Account) bool {
	if !slices.EqualFunc(a.CallerIDs, b.CallerIDs, func(a, b campaign.CallerID) bool { return a.Number == b.Number }) {
		return false
	}
	a.Limit, a.CallerIDs = b.Limit, b.CallerIDs
	return reflect.DeepEqual(a, b)
}

// errChanged ends a holder whose account's file has changed; the next one reads it.
var errChanged = errors.New("the account's file has changed")

// renew extends the lease when the keeper, which extends all of them three times per TTL,
// has not: an intent held the row, or the keeper waits for the database.
func (h *holder) renew(ctx context.Context, stop context.CancelCauseFunc) {
	every(ctx, h.LeaseTTL/6, func() {
		if time.Until(h.trusted()) > h.LeaseTTL/3 {
			return
		}
		asked := time.Now()
		try, cancel := context.WithTimeout(ctx, h.LeaseTTL/2)
		defer cancel()
		switch err := h.DB.Renew(try, h.lease, h.LeaseTTL); {
		case err == nil:
			h.trustFrom(asked)
		case errors.Is(err, campaign.ErrLeaseLost):
			stop(err)
		case ctx.Err() == nil:
			h.log.Warn("renew the lease", "err", err)
		}
	})
}

// sweep does what must be done now and then while an account is held: attempts that
// nobody can account for are lost, contradictions are looked for, replaced rows of
// the running totals are deleted.
func (h *holder) sweep(ctx context.Context) {
	// The first look goes back further than any run lasts; later ones begin where the
	// last one ended.
	from := time.Now().Add(-30 * 24 * time.Hour)
	looked := time.Now().Add(-time.Hour)
	every(ctx, sweepEvery(h.LostAfter), func() {
		now := time.Now()
		to := now.Add(-h.LostAfter)
		if lost, err := h.DB.Lose(ctx, h.account.id, h.node, from, to, now); err != nil {
			h.sweepFailed(ctx, err)
		} else {
			from = to
			if len(lost) > 0 {
				h.log.Warn("attempts lost: nobody can say what came of them", "attempts", len(lost))
				h.account.lines.free(lost...)
			}
		}
		if n, err := h.DB.Contradict(ctx, h.account.id, looked, now); err != nil {
			h.sweepFailed(ctx, err)
		} else {
			looked = now.Add(-time.Minute)
			if n > 0 {
				h.log.Error("SOMEBODY MAY HAVE BEEN CALLED TWICE: campaigns paused, see report.incident", "attempts", n)
			}
		}
		if err := h.DB.Compact(ctx, h.account.id); err != nil {
			h.sweepFailed(ctx, err)
		}
	})
}

func (h *holder) sweepFailed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		h.log.Warn("sweep", "err", err)
	}
}

// sweepEvery keeps the delay of settling small beside the deadline itself.
func sweepEvery(lostAfter time.Duration) time.Duration {
	return min(max(lostAfter/10, 200*time.Millisecond), 15*time.Second)
}

// brake slows the dispenser down while requests cannot even be sent, so that a
// platform that is away costs an attempt now and then and not thousands a second.
type brake struct {
	mu    sync.Mutex
	fails int
	until time.Time
}

// unsent notes a request that could not be sent.
func (b *brake) unsent(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.until) {
		return // one of those that were under way together
	}
	b.until = now.Add(min(100*time.Millisecond<<min(b.fails, 20), 30*time.Second))
	b.fails++
}

// sent notes a request that was.
func (b *brake) sent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails, b.until = 0, time.Time{}
}

// wait returns when the next request may be tried.
func (b *brake) wait() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until
}
