package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

// drain is how contacts are dialled without a platform: intents one batch after the
// other, and beside them one who records responses, one who takes receipts, and one
// who applies them, as a node does it.
type drain struct {
	contacts int           // fresh ones, to be used up
	batch    int           // contacts per intent transaction
	every    time.Duration // between the beginnings of two batches; 0: at once
}

const (
	readAhead   = 2000
	readDue     = 500
	lookForDue  = 250 * time.Millisecond
	recordEvery = 50 * time.Millisecond
	recordMost  = 500
	pushEvery   = 100 * time.Millisecond
	reportsEach = 50 // in one push
	pushesAtOne = 100
)

// did is what a drain did.
type did struct {
	attempts, suppressed, held int
	intents                    times // how long each intent transaction took
	late                       int   // batches that began later than planned by more than their interval
}

// dialling is one drain under way.
type dialling struct {
	drain
	*world
	set  *set
	done did

	responses chan campaign.Response
	reports   chan report
	arrived   chan struct{}
}

// dial uses up contacts of a set. Several sets may be dialled at once.
func (w *world) dial(ctx context.Context, s *set, how drain) (did, error) {
	d := &dialling{
		drain: how, world: w, set: s,
		responses: make(chan campaign.Response, 2000), reports: make(chan report, 20_000), arrived: make(chan struct{}, 1),
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	begin := func(f func(context.Context) error, after func()) {
		all.Go(func() {
			defer after()
			if err := f(ctx); err != nil {
				stop(err)
			}
		})
	}
	pages := make(chan []campaign.Pending, 1)
	begin(func(ctx context.Context) error { return d.read(ctx, pages) }, func() { close(pages) })
	begin(func(ctx context.Context) error { return d.intend(ctx, pages) }, func() { close(d.responses) })
	begin(d.record, func() { close(d.reports) })
	begin(d.push, func() { close(d.arrived) })
	begin(d.apply, func() {})
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return d.done, fmt.Errorf("dial account %d: %w", s.account, err)
	}
	return d.done, nil
}

// read reads fresh contacts ahead.
func (d *dialling) read(ctx context.Context, pages chan<- []campaign.Pending) error {
	for n, left := d.set.lastRead, d.contacts; left > 0; {
		page, err := d.db.Fresh(ctx, d.set.account, d.set.campaign, n, min(readAhead, left))
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return fmt.Errorf("the campaign has no contact after %d", n)
		}
		n, left = page[len(page)-1].N, left-len(page)
		d.set.lastRead = n
		select {
		case pages <- page:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// intend writes intents: contacts that are due first, as the engine takes them.
func (d *dialling) intend(ctx context.Context, pages <-chan []campaign.Pending) error {
	var fresh, due []campaign.Pending
	looked, next := time.Now(), time.Now()
	for {
		for len(fresh) < d.batch {
			page, ok := <-pages
			if !ok {
				break
			}
			fresh = append(fresh, page...)
		}
		if len(fresh) == 0 || ctx.Err() != nil {
			return nil
		}
		if len(due) == 0 && time.Since(looked) > lookForDue {
			var err error
			if due, err = d.db.Due(ctx, d.set.account, d.set.campaign, time.Now(), readDue); err != nil {
				return err
			}
			looked = time.Now()
		}
		if d.every > 0 {
			d.await(ctx, &next)
		}
		again := min(len(due), d.batch)
		first := min(len(fresh), d.batch-again)
		contacts := append(due[:again:again], fresh[:first]...)
		due, fresh = due[again:], fresh[first:]
		if err := d.write(ctx, contacts); err != nil {
			return err
		}
	}
}

// await waits for the time of the next batch.
func (d *dialling) await(ctx context.Context, next *time.Time) {
	wait := time.Until(*next)
	if wait < -d.every {
		d.done.late++
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	*next = next.Add(d.every)
}

// write writes one batch and answers for the platform: one request in a hundred is
// throttled and comes again.
func (d *dialling) write(ctx context.Context, contacts []campaign.Pending) error {
	at := time.Now()
	b := &campaign.IntentBatch{
		Lease: d.set.lease, Seq: d.set.seq + 1, Campaign: d.set.campaign, CallerID: callerID, At: at, SendBy: at.Add(3 * time.Second),
		Window: campaign.Span{Start: at.Add(-time.Hour), End: at.Add(time.Hour)}, MaxSkew: 5 * time.Second, Caps: caps, Contacts: contacts,
	}
	verdicts, err := d.db.WriteIntents(ctx, b)
	if err != nil {
		return err
	}
	d.set.seq++
	d.done.intents = append(d.done.intents, time.Since(at))
	for i, v := range verdicts {
		switch {
		case v.Suppressed:
			d.done.suppressed++
			continue
		case v.Attempt == 0:
			d.done.held++
			continue
		}
		d.done.attempts++
		n := d.set.answered()
		r := campaign.Response{Attempt: v.Attempt, SentAt: at, AnsweredAt: time.Now(), RequestID: requestID(n)}
		if contacts[i].Try == 1 && v.Attempt.Contact()%100 == 50 {
			r.State, r.Code = campaign.Throttled, "Throttling.User"
			r.Again = campaign.Again{At: time.Now(), Reason: campaign.DueThrottled, Chance: 1}
		} else {
			r.State, r.Counts, r.Code, r.CallID = campaign.Accepted, true, "OK", callID(n)
		}
		select {
		case d.responses <- r:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// record writes responses in batches.
func (d *dialling) record(ctx context.Context) error {
	return gather(d.responses, min(recordMost, 10*d.batch), recordEvery, func(batch []campaign.Response) error {
		if err := d.db.WriteResponses(ctx, d.set.account, d.set.lease.Node, batch, time.Now()); err != nil {
			return err
		}
		for _, r := range batch {
			if r.State == campaign.Accepted {
				d.reports <- report{r.Attempt, r.CallID}
			}
		}
		return nil
	})
}

// push stores receipts as the platform pushes them, as many pushes in one transaction
// as have come.
func (d *dialling) push(ctx context.Context) error {
	return gather(d.reports, reportsEach*pushesAtOne, pushEvery, func(reports []report) error {
		var pushes []postgres.Push
		for len(reports) > 0 {
			n := min(reportsEach, len(reports))
			pushes = append(pushes, postgres.Push{ReceivedAt: time.Now(), Body: body(d.db.OutIDKey(), reports[:n])})
			reports = reports[n:]
		}
		if err := d.db.StorePushes(ctx, d.set.account, pushes); err != nil {
			return err
		}
		select {
		case d.arrived <- struct{}{}:
		default:
		}
		return nil
	})
}

// apply applies what was pushed, until there is nothing more to come.
func (d *dialling) apply(ctx context.Context) error {
	parse := func(body []byte) []campaign.Receipt { return receipts(d.db.OutIDKey(), body) }
	for more := true; more && ctx.Err() == nil; {
		_, more = <-d.arrived
		for {
			_, n, err := d.db.ApplyInbox(ctx, d.set.account, d.set.lease.Node, pushesAtOne, time.Now(), parse)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
		}
	}
	return nil
}

// gather calls f with what comes from a channel: up to most at once, and nothing waits
// longer than every. After an error it takes the rest and does nothing with it, so that
// nobody who sends is held up.
func gather[T any](from <-chan T, most int, every time.Duration, f func([]T) error) error {
	for first := range from {
		batch := append(make([]T, 0, most), first)
		timer := time.NewTimer(every)
	more:
		for len(batch) < most {
			select {
			case one, ok := <-from:
				if !ok {
					break more
				}
				batch = append(batch, one)
			case <-timer.C:
				break more
			}
		}
		timer.Stop()
		if err := f(batch); err != nil {
			for range from {
			}
			return err
		}
	}
	return nil
}
