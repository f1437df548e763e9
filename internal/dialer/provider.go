package dialer

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/smartcall"
)

// This file is where our words meet the provider's.

// connect makes the client of an account.
func (d *Dialer) connect(spec campaign.Account) (*smartcall.Client, error) {
	credentials, err := d.credentials(spec)
	if err != nil {
		return nil, err
	}
	return smartcall.New(smartcall.Config{
		Endpoint:    spec.Endpoint,
		Credentials: credentials,
		Timeout:     d.RequestTimeout,
		Conns:       d.mostSenders(),
		Proxy:       d.Proxy,
		Dial:        d.Dial,
	})
}

func (d *Dialer) credentials(spec campaign.Account) (smartcall.Credentials, error) {
	if spec.AccessKeyID == "" {
		return smartcall.ChainCredentials()
	}
	var values [3]string
	for i, ref := range []string{spec.AccessKeyID, spec.AccessKeySecret, spec.SecurityToken} {
		if ref == "" {
			continue
		}
		value, err := d.Secret(ref)
		if err != nil {
			return nil, fmt.Errorf("credentials of account %s: %w", spec.Name, err)
		}
		values[i] = value
	}
	return smartcall.StaticCredentials(values[0], values[1], values[2]), nil
}

// sendersFor is how many requests may be under way at once for an account of a limit.
func (d *Dialer) sendersFor(limit int) int {
	if d.Senders > 0 {
		return d.Senders
	}
	return min(max(limit, 16), d.mostSenders())
}

func (d *Dialer) mostSenders() int { return cmp.Or(d.Senders, 2000) }

// request builds the request of an attempt. An error means that this contact cannot
// be called with this campaign's settings.
func request(spec *campaign.Campaign, caller string, c *campaign.Contact, outID string) (*smartcall.Request, error) {
	param, err := spec.Call.RenderParam(c.Vars)
	if err != nil {
		return nil, err
	}
	call := &spec.Call
	return &smartcall.Request{
		CalledShowNumber:    caller,
		CalledNumber:        c.Phone.Digits(),
		VoiceCode:           call.VoiceCode,
		VoiceCodeParam:      param,
		RecordFlag:          call.RecordFlag,
		Volume:              call.Volume,
		AsrModelID:          call.AsrModelID,
		AsrBaseID:           call.AsrBaseID,
		PauseTime:           call.PauseTime,
		MuteTime:            call.MuteTime,
		ActionCodeBreak:     call.ActionCodeBreak,
		ActionCodeTimeBreak: call.ActionCodeTimeBreak,
		OutID:               outID,
		DynamicID:           outID,
		EarlyMediaAsr:       call.EarlyMediaAsr,
		SessionTimeout:      call.SessionTimeout,
		TtsStyle:            call.TtsStyle,
		TtsVolume:           call.TtsVolume,
		TtsSpeed:            call.TtsSpeed,
		TtsConf:             call.TtsConf,
		StreamAsr:           call.StreamAsr,
		BackgroundFileCode:  call.BackgroundFileCode,
		EnableITN:           call.EnableITN,
	}, nil
}

// fault is what a response says about more than its contact.
type fault struct {
	scope  scope
	reason string
	until  time.Time // scopeWindow: when the platform may permit calls again
}

type scope int

const (
	scopeContact  scope = iota
	scopeThrottle       // the whole account is too fast
	scopeWindow         // the campaign waits for its next window
	scopeCampaign       // the campaign must be mended
	scopeAccount        // the account must be mended
)

// judge turns the client's answer into the attempt's response, and says what it means
// for the campaign and the account. Only a definite no makes the contact pending again.
func judge(j *job, resp *smartcall.Response, err error, now time.Time) (campaign.Response, fault) {
	r := campaign.Response{Attempt: j.attempt, AnsweredAt: now}
	if err == nil {
		r.State, r.Counts, r.Code = campaign.Accepted, true, "OK"
		r.CallID, r.RequestID, r.SentAt, r.AnsweredAt = resp.CallID, resp.RequestID, resp.SentAt, resp.AnsweredAt
		return r, fault{}
	}
	e, ok := errors.AsType[*smartcall.Error](err)
	if !ok {
		e = &smartcall.Error{Class: smartcall.ClassUnknown, Err: err} // what is not understood is unknown
	}
	r.Code, r.Message, r.RequestID, r.SentAt = e.Code, campaign.MaskNumbers(e.Message), e.RequestID, e.SentAt
	reason := "the platform answered " + e.Code
	if e.Code == "" {
		reason = e.Error() // our own fault, or no key was to be had
		r.Code = "not_made"
	}
	switch e.Class {
	case smartcall.ClassThrottled:
		r.State = campaign.Throttled
		r.Again = campaign.Again{At: now.Add(backoff(j.contact.Try-j.contact.Chance, mostThrottled)), Reason: campaign.DueThrottled, Chance: j.contact.Chance}
		return j.bounded(r), fault{scope: scopeThrottle}
	case smartcall.ClassUnsent:
		r.State, r.Code, r.SentAt = campaign.Unsent, "not_sent", time.Time{}
		if e.Err != nil {
			r.Message = e.Err.Error()
		}
		r.Again = campaign.Again{At: now.Add(backoff(j.contact.Try-j.contact.Chance, mostUnsent)), Reason: campaign.DueUnsent, Chance: j.contact.Chance}
		return j.bounded(r), fault{}
	case smartcall.ClassRefused:
		r.State = campaign.Refused
		return r, fault{}
	case smartcall.ClassLater:
		// The platform counts the number's calls over all its customers: it counts here, too.
		r.State, r.Counts = campaign.Refused, true
		if j.contact.Chance < j.work.spec.MaxAttempts {
			wait := []time.Duration{time.Minute, time.Hour, 24 * time.Hour}[min(j.contact.Chance-1, 2)]
			r.Again = campaign.Again{At: now.Add(wait), Reason: campaign.DueTooOften, Chance: j.contact.Chance + 1}
		}
		return j.bounded(r), fault{}
	case smartcall.ClassWindow:
		r.State = campaign.Refused
		until := j.work.spec.Windows.Next(now, j.work.zone)
		if until.IsZero() {
			until = now.Add(time.Hour)
		}
		r.Again = campaign.Again{At: until, Reason: campaign.DueHold, Chance: j.contact.Chance}
		return j.bounded(r), fault{scope: scopeWindow, reason: reason + ": it does not permit calls at this time of day", until: until}
	case smartcall.ClassCampaignFault, smartcall.ClassBug:
		r.State = campaign.Refused
		r.Again = campaign.Again{At: now, Reason: campaign.DueHold, Chance: j.contact.Chance}
		return j.bounded(r), fault{scope: scopeCampaign, reason: reason}
	case smartcall.ClassAccountFault:
		r.State = campaign.Refused
		r.Again = campaign.Again{At: now, Reason: campaign.DueHold, Chance: j.contact.Chance}
		return j.bounded(r), fault{scope: scopeAccount, reason: reason}
	}
	r.State, r.Counts = campaign.Unknown, true
	if r.SentAt.IsZero() {
		r.SentAt = j.intentAt // it may have been sent; when is not known better
	}
	if e.Code == "" {
		r.Code = "no_answer_understood"
	}
	if r.Message == "" && e.Err != nil {
		r.Message = e.Err.Error()
	}
	return r, fault{}
}

// bounded drops the next attempt of a contact that has had as many as can be named.
func (j *job) bounded(r campaign.Response) campaign.Response {
	if j.attempt.Try() >= campaign.MaxTries {
		r.Again = campaign.Again{}
	}
	return r
}

// The longest waits of a contact that was throttled or not sent. A throttled one need
// not wait long, because the whole account slows down at once.
const (
	mostThrottled = 5 * time.Second
	mostUnsent    = 5 * time.Minute
)

// backoff is the wait before try n+1 after n tries that came to nothing: full jitter
// below a bound that doubles from 1 s up to most, so that contacts that were refused
// together do not come back together.
func backoff(n int, most time.Duration) time.Duration {
	bound := min(time.Second<<min(n, 20), most)
	return 50*time.Millisecond + rand.N(bound)
}

// read turns a pushed body into receipts in our words.
func read(key campaign.OutIDKey, body []byte) []campaign.Receipt {
	items, _, err := smartcall.DecodePush(body)
	if err != nil {
		return []campaign.Receipt{{Raw: body, Unreadable: err.Error()}}
	}
	receipts := make([]campaign.Receipt, len(items))
	for i, item := range items {
		receipts[i] = receipt(key, item)
	}
	return receipts
}

func receipt(key campaign.OutIDKey, item smartcall.Item) campaign.Receipt {
	if item.Err != nil {
		return campaign.Receipt{Raw: item.Raw, Unreadable: item.Err.Error()}
	}
	id, _ := key.AttemptID(item.OutID)
	r := campaign.Receipt{
		Attempt: id, CallID: item.CallID, Key: item.Key(), Kind: string(item.Kind), Final: item.Final,
		StatusCode: item.StatusCode, StatusMsg: campaign.MaskNumbers(item.StatusMsg), SmartStatusCode: item.SmartStatusCode, EarlyMediaCode: item.EarlyMediaCode,
		Hangup: item.HangupDirection, TalkSeconds: item.Duration, RangAt: item.RingTime, AnsweredAt: item.StartTime, EndedAt: item.EndTime,
		Raw: item.Raw,
	}
	if item.Final {
		r.Outcome = campaign.OutcomeOf(campaign.Report{
			StatusCode: item.StatusCode, SmartStatusCode: item.SmartStatusCode, EarlyMediaCode: item.EarlyMediaCode,
			VoiceType: item.VoiceType, Duration: item.Duration, AnsweredAt: item.StartTime,
		})
	}
	return r
}
