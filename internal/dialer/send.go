package dialer

import (
	"context"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/failpoint"
	"dialer/internal/smartcall"
)

// job is an attempt whose intent is committed and whose request is to be made.
type job struct {
	work     *work
	contact  campaign.Pending
	attempt  campaign.AttemptID
	caller   string
	intentAt time.Time
	sendBy   time.Time
}

// send makes the requests of attempts, one after the other, until there are no more.
// It goes on after the node was told to stop: what was intended is sent or given up
// by its send_by, and answered or unknown by its deadline.
func (h *holder) send(jobs chan *job) {
	for j := range jobs {
		r, f := h.request(j)
		failpoint.Hit(failpoint.AfterReply)
		h.results <- r
		h.react(j, r, f)
		h.crew.rest(jobs)
	}
}

// request makes the one request of an attempt.
func (h *holder) request(j *job) (campaign.Response, fault) {
	req, err := request(&j.work.spec, j.caller, &j.contact.Contact, h.DB.OutIDKey().OutID(j.attempt))
	if err != nil {
		return campaign.Response{Attempt: j.attempt, State: campaign.Refused, AnsweredAt: time.Now(), Code: "template", Message: err.Error()}, fault{}
	}
	// The law of the account's limit is held here, by the sender, a moment before the
	// first byte: what happened since the token does not matter.
	slot, free := h.guard.TryAcquire()
	if !free {
		wait, cancel := context.WithDeadline(context.Background(), j.sendBy)
		slot, err = h.guard.Acquire(wait)
		cancel()
		if err != nil {
			return judge(j, nil, &smartcall.Error{Class: smartcall.ClassUnsent, Err: err}, time.Now())
		}
	}
	deadline := time.Now().Add(h.RequestTimeout)
	resp, err := h.client.SmartCall(context.Background(), req, j.sendBy)
	now := time.Now()
	r, f := judge(j, resp, err, now)
	switch {
	case r.State == campaign.Unsent:
		slot.Unsent()
	case answered(err):
		slot.Answered(r.SentAt, now)
	default:
		slot.Unanswered(deadline)
	}
	return r, f
}

// answered tells whether the platform answered at all.
func answered(err error) bool {
	e, failed := err.(*smartcall.Error)
	return !failed || e.HTTPStatus != 0
}

// react does what an answer means for more than its contact.
func (h *holder) react(j *job, r campaign.Response, f fault) {
	switch r.State {
	case campaign.Throttled, campaign.Refused:
		h.account.lines.free(j.attempt)
	case campaign.Unsent:
		h.account.lines.free(j.attempt)
		h.brake.unsent(time.Now())
	}
	if r.State != campaign.Unsent {
		h.brake.sent()
	}
	if f.scope == scopeContact {
		if reason := j.work.tally(r); reason != "" {
			f = fault{scope: scopeCampaign, reason: reason}
		}
	}
	ctx, cancel := context.WithTimeout(h.last, h.RequestTimeout)
	defer cancel()
	switch f.scope {
	case scopeThrottle:
		h.pace.Throttled()
	case scopeWindow:
		h.log.Warn("campaign waits", "campaign", j.work.spec.Name, "until", f.until, "reason", f.reason)
		j.work.holdUntil(f.until)
	case scopeCampaign:
		j.work.stop()
		h.log.Error("campaign paused", "campaign", j.work.spec.Name, "reason", f.reason)
		if err := h.DB.Pause(ctx, j.work.id, f.reason, time.Now()); err != nil {
			h.log.Warn("pause the campaign", "campaign", j.work.spec.Name, "err", err)
		}
	case scopeAccount:
		j.work.stop()
		h.log.Error("account paused", "reason", f.reason)
		if err := h.DB.PauseAccount(ctx, h.account.id, f.reason, time.Now()); err != nil {
			h.log.Warn("pause the account", "err", err)
		}
	}
}

// streak counts contacts in a row that got the same discouraging answer.
type streak struct {
	code string
	n    int
}

// Contact after contact refused for the same reason is a fault of the campaign; one
// request after the other without an understood answer may be anything, and each of
// them may be a phone that rang.
const (
	refusedInARow = 5
	unknownInARow = 20
)

// tally counts answers in a row, and returns why the campaign must stop, or "".
func (w *work) tally(r campaign.Response) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case r.State == campaign.Accepted:
		w.streak = streak{}
		return ""
	case r.State == campaign.Refused && !r.Counts && !aboutTheNumber(r.Code), r.State == campaign.Unknown:
		if w.streak.code != r.Code {
			w.streak = streak{code: r.Code}
		}
		w.streak.n++
	default:
		return ""
	}
	switch {
	case r.State == campaign.Refused && w.streak.n == refusedInARow:
		return "five contacts in a row were refused with " + r.Code
	case r.State == campaign.Unknown && w.streak.n == unknownInARow:
		return "twenty requests in a row got no answer that says what came of them (" + r.Code + ")"
	}
	return ""
}

// aboutTheNumber tells whether a code speaks of the called number itself.
func aboutTheNumber(code string) bool {
	switch code {
	case "isv.MOBILE_NUMBER_ILLEGAL", "Mobile.Invalid", "isv.COMPLAINT_REJECT", "ComplaintReject", "template":
		return true
	}
	return false
}
