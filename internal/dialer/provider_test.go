package dialer

import (
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/smartcall"
)

// Only a definite no makes a contact pending again, and it says what it counts for.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	sent := now.Add(-20 * time.Millisecond)
	for _, c := range []struct {
		class  smartcall.Class
		state  campaign.AttemptState
		again  campaign.DueReason // "": the contact is not pending again
		chance int
		counts bool
		scope  scope
	}{
		{smartcall.ClassThrottled, campaign.Throttled, campaign.DueThrottled, 1, false, scopeThrottle},
		{smartcall.ClassUnsent, campaign.Unsent, campaign.DueUnsent, 1, false, scopeContact},
		{smartcall.ClassRefused, campaign.Refused, "", 0, false, scopeContact},
		{smartcall.ClassLater, campaign.Refused, campaign.DueTooOften, 2, true, scopeContact},
		{smartcall.ClassWindow, campaign.Refused, campaign.DueHold, 1, false, scopeWindow},
		{smartcall.ClassCampaignFault, campaign.Refused, campaign.DueHold, 1, false, scopeCampaign},
		{smartcall.ClassBug, campaign.Refused, campaign.DueHold, 1, false, scopeCampaign},
		{smartcall.ClassAccountFault, campaign.Refused, campaign.DueHold, 1, false, scopeAccount},
		{smartcall.ClassUnknown, campaign.Unknown, "", 0, true, scopeContact},
		{"something new", campaign.Unknown, "", 0, true, scopeContact},
	} {
		j := &job{
			work:    &work{spec: campaign.Campaign{MaxAttempts: 2}, zone: time.UTC},
			contact: campaign.Pending{Try: 1, Chance: 1}, attempt: campaign.NewAttemptID(1, 1, 1), intentAt: sent,
		}
		r, f := judge(j, nil, &smartcall.Error{Class: c.class, Code: "X", SentAt: sent}, now)
		if r.State != c.state || r.Again.Reason != c.again || r.Again.Chance != c.chance || r.Counts != c.counts || f.scope != c.scope {
			t.Errorf("%s: got %+v, scope %d", c.class, r, f.scope)
		}
		if (r.Again.Reason == "") != r.Again.At.IsZero() {
			t.Errorf("%s: again %+v", c.class, r.Again)
		}
	}
}

// The platform repeats the called number in its texts; people see them in report.attempt.
func TestTheMessageHoldsNoNumber(t *testing.T) {
	for _, c := range []struct {
		phone         campaign.Phone
		message, want string
	}{
		{13800138000, "被叫号码13800138000呼叫失败", "被叫号码138****8000呼叫失败"},
		{13800138000, "+8613800138000, 008613800138000", "+861****8000, 008****8000"},
		{57188888888, "057188888888 or +8657188888888", "057****8888 or +865****8888"},
		{0, "no number", "no number"},
	} {
		j := &job{work: &work{}, contact: campaign.Pending{Contact: campaign.Contact{Phone: c.phone}, Try: 1, Chance: 1}, attempt: campaign.NewAttemptID(1, 1, 1)}
		for _, class := range []smartcall.Class{smartcall.ClassRefused, smartcall.ClassUnknown} {
			if r, _ := judge(j, nil, &smartcall.Error{Class: class, Code: "X", Message: c.message}, time.Now()); r.Message != c.want {
				t.Errorf("%s: got %q, want %q", class, r.Message, c.want)
			}
		}
	}
}

func TestTheLastTryIsTheLast(t *testing.T) {
	j := &job{work: &work{}, contact: campaign.Pending{Try: campaign.MaxTries, Chance: 1}, attempt: campaign.NewAttemptID(1, 1, campaign.MaxTries)}
	if r, _ := judge(j, nil, &smartcall.Error{Class: smartcall.ClassThrottled}, time.Now()); !r.Again.At.IsZero() {
		t.Errorf("try %d is followed by another: %+v", campaign.MaxTries, r.Again)
	}
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	for n, most := range map[int]time.Duration{0: time.Second, 3: 8 * time.Second, 60: 5 * time.Minute} {
		for range 200 {
			if d := backoff(n, 5*time.Minute); d < 50*time.Millisecond || d > most+50*time.Millisecond {
				t.Fatalf("backoff(%d) = %v, want at most %v", n, d, most)
			}
		}
	}
}

func TestStreaksStopACampaign(t *testing.T) {
	w := &work{}
	refused := campaign.Response{State: campaign.Refused, Code: "isv.INVALID_PARAMETERS"}
	for i := 1; i <= refusedInARow; i++ {
		if reason := w.tally(refused); (reason != "") != (i == refusedInARow) {
			t.Errorf("refusal %d: %q", i, reason)
		}
	}
	w = &work{}
	for i := range 100 {
		if reason := w.tally(campaign.Response{State: campaign.Refused, Code: "isv.MOBILE_NUMBER_ILLEGAL"}); reason != "" {
			t.Fatalf("bad number %d stopped the campaign: %s", i, reason)
		}
	}
	for i := range 100 {
		w.tally(refused)
		if reason := w.tally(campaign.Response{State: campaign.Accepted}); reason != "" {
			t.Fatalf("round %d: %s", i, reason)
		}
	}
}

func TestLines(t *testing.T) {
	l := newLines([]campaign.CallerID{{Number: "a", Lines: 1}, {Number: "b", Lines: 2}})
	id := func(n int32) campaign.AttemptID { return campaign.NewAttemptID(1, n, 1) }
	now := time.Now()
	if caller, free := l.choose([]string{"a", "b"}); caller != "b" || free != 2 {
		t.Errorf("choose = %s, %d", caller, free)
	}
	l.take(id(1), "b", now.Add(time.Minute))
	l.take(id(1), "b", now.Add(time.Minute)) // the same call takes one line
	l.take(id(2), "b", now.Add(-time.Minute))
	l.take(id(3), "a", now.Add(time.Minute))
	if _, free := l.choose([]string{"a", "b"}); free != 0 {
		t.Errorf("%d lines free, want none", free)
	}
	if open := l.expire(now); len(open) != 2 {
		t.Errorf("%d calls open after one expired, want 2", len(open))
	}
	l.free(id(3), id(3))
	if caller, free := l.choose([]string{"a"}); caller != "a" || free != 1 {
		t.Errorf("choose = %s, %d", caller, free)
	}
}
