package dialer

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/smartcall"
)

const (
	// askEvery is how long to wait before the platform is asked about the same call
	// again: a record that is not assembled yet is there after 3 to 5 minutes.
	askEvery = 5 * time.Minute
	// askPace is the time between two questions: a tenth of what the platform permits.
	askPace = 100 * time.Millisecond
	// askAtOnce bounds how many calls one look finds.
	askAtOnce = 200
)

// ask asks the platform about accepted calls whose receipt has not come, until their
// attempts are lost. It is a repair of gaps and not a way to learn outcomes: the
// platform answers a tenth as many questions as it takes calls. A question, unlike a
// request for a call, may be asked again.
func (h *holder) ask(ctx context.Context) {
	asked := make(map[campaign.AttemptID]time.Time)
	every(ctx, sweepEvery(h.AskAfter), func() {
		now := time.Now()
		overdue, err := h.DB.Overdue(ctx, h.account.id, now.Add(-h.LostAfter), now.Add(-h.AskAfter), askAtOnce)
		if err != nil {
			if ctx.Err() == nil {
				h.log.Warn("look for calls without a receipt", "err", err)
			}
			return
		}
		again := min(askEvery, h.AskAfter)
		for id, at := range asked {
			if now.Sub(at) > h.LostAfter {
				delete(asked, id)
			}
		}
		for _, call := range overdue {
			if now.Sub(asked[call.Attempt]) < again {
				continue
			}
			asked[call.Attempt] = now
			if !sleep(ctx, askPace) {
				return
			}
			h.askAbout(ctx, call.Attempt, call.CallID, call.AnsweredAt)
		}
	})
}

// askAbout asks about one call, on the day of its request and, for one shortly before
// midnight, on the next.
func (h *holder) askAbout(ctx context.Context, id campaign.AttemptID, callID string, accepted time.Time) {
	detail, err := h.client.QueryCallDetailByCallId(ctx, callID, accepted)
	if errors.Is(err, smartcall.ErrNoRecord) {
		detail, err = h.client.QueryCallDetailByCallId(ctx, callID, accepted.Add(2*time.Hour))
	}
	if err != nil {
		if !errors.Is(err, smartcall.ErrNotReady) && !errors.Is(err, smartcall.ErrNoRecord) && ctx.Err() == nil {
			h.log.Warn("ask about a call", "call_id", callID, "err", err)
		}
		return
	}
	r := receiptOf(id, callID, detail)
	if r.Outcome == "" {
		return // still under way
	}
	if err := h.DB.ApplyAnswer(ctx, h.account.id, h.node, r, time.Now()); err != nil {
		h.log.Warn("ask about a call", "call_id", callID, "err", err)
		return
	}
	h.account.lines.free(id)
}

// receiptOf puts the platform's record of a call into our words.
func receiptOf(id campaign.AttemptID, callID string, d *smartcall.CallDetail) campaign.Receipt {
	answeredAt := d.StartDate
	if !d.BStartTime.IsZero() {
		answeredAt = d.BStartTime
	}
	endedAt := d.EndDate
	if !d.BEndTime.IsZero() {
		endedAt = d.BEndTime
	}
	sum := sha256.Sum256(append([]byte("query "), d.Raw...))
	return campaign.Receipt{
		Attempt: id, CallID: callID, Key: [16]byte(sum[:16]), Kind: "query", Final: true,
		Outcome:    campaign.OutcomeOf(campaign.Report{StatusCode: d.State, Duration: d.Duration, AnsweredAt: answeredAt}),
		StatusCode: d.State, StatusMsg: campaign.MaskNumbers(d.StateDesc), Hangup: d.HangupDirection,
		TalkSeconds: d.Duration, RangAt: d.BRingTime, AnsweredAt: answeredAt, EndedAt: endedAt, Raw: d.Raw,
	}
}
