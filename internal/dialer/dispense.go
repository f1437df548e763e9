package dialer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/failpoint"
	"dialer/internal/postgres"
	"dialer/internal/smartcall"
)

// dispense is the heart: token first, intent second, request third. It returns when
// ctx is done or the account must not be dialled by this node any more.
func (h *holder) dispense(ctx context.Context) error {
	if !sleep(ctx, time.Until(h.begin)) {
		return nil
	}
	for {
		if !h.waitForWork(ctx) {
			return nil
		}
		free := h.gather(ctx)
		if free == 0 {
			return nil // ctx is done
		}
		tokens, err := h.pace.Take(ctx, free)
		if err != nil {
			return nil // ctx is done
		}
		// What one campaign leaves of the tokens goes to the next: a slow campaign must
		// not cost the account its pace.
		used := 0
		for left := tokens; left > 0 && err == nil; {
			w, caller, contacts := h.choose(left)
			if w == nil {
				break
			}
			left -= len(contacts)
			var sent int
			sent, err = h.intend(ctx, w, caller, contacts)
			used += sent
		}
		for range free - used {
			h.crew.free <- struct{}{}
		}
		if err != nil {
			return err
		}
	}
}

// gather waits for senders that are free, and returns how many it took: what is intended
// can be sent at once. It hires some if too few are free. When there are as many as there
// may be, so that they and not the pace are what limits, one becomes free after the other,
// and a transaction for each would cost several times as much: it waits a moment for more.
func (h *holder) gather(ctx context.Context) (free int) {
	for len(h.crew.free) < goodBatch && h.crew.hire(h.send) {
	}
	select {
	case <-h.crew.free:
		free = 1
	case <-ctx.Done():
		return 0
	}
	var moment <-chan time.Time
	for free < maxBatch {
		select {
		case <-h.crew.free:
			free++
			continue
		default:
		}
		if free >= goodBatch {
			break
		}
		if moment == nil {
			moment = time.After(gatherFor)
		}
		select {
		case <-h.crew.free:
			free++
		case <-moment:
			return free
		case <-ctx.Done():
			return free
		}
	}
	return free
}

const (
	goodBatch = 50
	gatherFor = 5 * time.Millisecond
)

// maxBatch bounds how many contacts one transaction turns into attempts. More would
// not make it much cheaper per contact, and lets contacts wait between their intent
// and their request.
const maxBatch = 100

// waitForWork waits until some campaign has a contact that could be dialled now.
func (h *holder) waitForWork(ctx context.Context) bool {
	for {
		if until := h.brake.wait(); time.Now().Before(until) {
			if !sleep(ctx, time.Until(until)) {
				return false
			}
			continue
		}
		if h.ready() {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(h.Poll)
		select {
		case <-h.woken:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return false
		}
	}
}

// intend writes the intents of some contacts of a campaign and hands the attempts to
// the senders. It returns how many it handed over.
func (h *holder) intend(ctx context.Context, w *work, caller string, contacts []campaign.Pending) (int, error) {
	at := time.Now()
	span, open := w.open(at)
	sendBy := earliest(at.Add(h.SendWithin), h.trusted(), span.End.Add(-h.RequestTimeout-time.Second))
	if !open || !at.Before(sendBy) {
		w.putBack(contacts)
		if at.Before(h.trusted()) {
			return 0, nil // the window has closed
		}
		return 0, untilTrusted(ctx, h)
	}
	b := &campaign.IntentBatch{
		Lease: h.lease, Seq: h.seq + 1, Campaign: w.id, CallerID: caller,
		At: at, SendBy: sendBy, Window: span, MaxSkew: h.MaxSkew, Caps: w.spec.Caps, Contacts: contacts,
	}
	failpoint.Hit(failpoint.BeforeIntent)
	verdicts, err := h.write(ctx, b)
	failpoint.Hit(failpoint.AfterIntent)
	if err != nil {
		return 0, h.refused(ctx, w, contacts, err)
	}
	h.seq++
	if err := h.memory.remember(b, verdicts); err != nil {
		h.log.Error("not dialling: a node that cannot remember whom it called must not call", "err", err)
		h.giveUp(w, b, verdicts, err)
		return 0, nil
	}
	sent := 0
	for i, v := range verdicts {
		if v.Attempt == 0 {
			continue
		}
		h.account.lines.take(v.Attempt, caller, at.Add(w.longest))
		// A sender is waiting: one was counted free for every contact.
		h.crew.give(&job{work: w, contact: contacts[i], attempt: v.Attempt, caller: caller, intentAt: at, sendBy: sendBy})
		sent++
	}
	return sent, nil
}

// giveUp records attempts whose requests will not be made, for a reason of our own.
func (h *holder) giveUp(w *work, b *campaign.IntentBatch, verdicts []campaign.Verdict, reason error) {
	h.brake.unsent(time.Now())
	for i, v := range verdicts {
		if v.Attempt == 0 {
			continue
		}
		j := &job{work: w, contact: b.Contacts[i], attempt: v.Attempt, caller: b.CallerID, intentAt: b.At, sendBy: b.SendBy}
		r, _ := judge(j, nil, &smartcall.Error{Class: smartcall.ClassUnsent, Err: reason}, time.Now())
		h.results <- r
	}
}

// write writes the batch. If the database does not say whether it was written, it
// asks until it knows: nothing is sent before.
func (h *holder) write(ctx context.Context, b *campaign.IntentBatch) ([]campaign.Verdict, error) {
	// A database that does not answer in this time would only make attempts that
	// nobody may send any more. A node that stops does not break the statement off: the
	// server could finish it after it was asked, and the attempts would be in doubt.
	try, cancel := context.WithDeadline(context.WithoutCancel(ctx), b.SendBy)
	defer cancel()
	verdicts, err := h.DB.WriteIntents(try, b)
	if err == nil || refusal(err) {
		return verdicts, err
	}
	h.log.Warn("write intents: the database did not say whether it wrote them", "err", err)
	// Not under ctx: the attempts must be given up one by one even while stopping.
	ask, cancelAsk := context.WithTimeout(h.last, time.Minute)
	defer cancelAsk()
	for {
		try, cancelTry := context.WithTimeout(ask, readWithin)
		verdicts, written, askErr := h.DB.Intended(try, b)
		cancelTry()
		switch {
		case askErr == nil && written:
			return verdicts, nil
		case refusal(askErr):
			return nil, askErr
		case askErr == nil:
			h.seq = b.Seq // an empty batch has the number
			if err := h.memory.remember(&campaign.IntentBatch{Lease: b.Lease, Seq: b.Seq, Campaign: b.Campaign, At: b.At, SendBy: b.SendBy}, nil); err != nil {
				h.log.Warn("an empty batch is not in the journal", "err", err)
			}
			return nil, fmt.Errorf("%w: %w", errNotWritten, err)
		}
		if !sleep(ask, 200*time.Millisecond) {
			// The attempts, if there are any, are unknown and will be lost: they are not
			// dialled again.
			h.unrecorded.Add(int64(len(b.Contacts)))
			return nil, fmt.Errorf("write intents, and ask whether they are written: %w", askErr)
		}
	}
}

// errNotWritten: the database says that a batch was not written.
var errNotWritten = errors.New("the intents were not written")

func refusal(err error) bool {
	for _, r := range []error{campaign.ErrLeaseLost, campaign.ErrServerChanged, campaign.ErrOutOfOrder, campaign.ErrStale, campaign.ErrAccountPaused, campaign.ErrNotRunning, campaign.ErrWindowClosed, campaign.ErrClockSkew} {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// refused decides what to do after a batch was not written.
func (h *holder) refused(ctx context.Context, w *work, contacts []campaign.Pending, err error) error {
	w.putBack(contacts)
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, campaign.ErrLeaseLost), errors.Is(err, campaign.ErrServerChanged):
		return err // in the second case the next holder decides whether to trust the server
	case errors.Is(err, campaign.ErrOutOfOrder):
		return h.reorder(ctx)
	case errors.Is(err, campaign.ErrStale):
		w.reread()
		return nil
	case errors.Is(err, campaign.ErrAccountPaused), errors.Is(err, campaign.ErrNotRunning):
		w.stop() // until the next look at the runs
		return nil
	case errors.Is(err, campaign.ErrWindowClosed), errors.Is(err, campaign.ErrClockSkew):
		h.log.Warn("not dialling", "campaign", w.spec.Name, "err", err)
		w.holdUntil(time.Now().Add(time.Second))
		return nil
	case errors.Is(err, errNotWritten), postgres.IsTransient(err):
		h.log.Warn("no intent, no call: waiting for the database", "err", err)
		sleep(ctx, time.Second)
		return nil
	}
	return err
}

// reorder is called when the database's last batch is not the one this node wrote
// last. If it has forgotten batches that were committed, it was restored or failed
// over with a loss, and contacts whose phones rang look as if they had not been called.
func (h *holder) reorder(ctx context.Context) error {
	last, err := h.DB.LastBatch(ctx, h.account.id)
	if err != nil {
		return err
	}
	if last.Seq >= h.seq {
		h.seq = last.Seq
		return nil
	}
	return h.distrust(ctx, h.account, forgotten(last, h.seq))
}

// untilTrusted waits until the lease was renewed or the node stops.
func untilTrusted(ctx context.Context, h *holder) error {
	sleep(ctx, h.LeaseTTL/6)
	return nil
}

// sleep waits for d, and returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func earliest(times ...time.Time) time.Time {
	first := times[0]
	for _, t := range times[1:] {
		if t.Before(first) {
			first = t
		}
	}
	return first
}
