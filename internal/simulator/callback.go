package simulator

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// callbackLimit is how long a dialogue callback may take. The platform's own limit is
// not documented.
const callbackLimit = 5 * time.Second

func (s *Simulator) callbackURL(a *account) string {
	if a.callbackURL != "" {
		return a.callbackURL
	}
	return s.config.CallbackURL
}

// converse is the dialogue of an answered call: the callee says one sentence, the
// callback is asked what to do (help document 112703), and "hangup" ends the call. Any
// other answer, or none, lets it run its time.
func (s *Simulator) converse(c *call) {
	defer s.busy.end(1)
	if s.exchange.over(c) {
		return // it waited too long for its turn: there is nobody left to talk to
	}
	began := time.Now()
	status, reply := s.askCallback(c, began)
	if s.lifetime.Err() != nil {
		return
	}
	e := s.entry(KindCallback, began)
	e.Account, e.CallID, e.OutID = c.account.name, c.id(), c.outID
	e.Status, e.Reply, e.TookUS = status, reply, time.Since(began).Microseconds()
	s.record(e)
	if reply == "hangup" {
		s.finish(c, time.Now())
	}
}

// askCallback returns the status (0 = none) and the action of the answer, empty if it
// could not be understood.
func (s *Simulator) askCallback(c *call, now time.Time) (status int, action string) {
	address, err := url.Parse(s.callbackURL(c.account))
	if err != nil {
		return 0, "" // New checked it
	}
	millis := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	content := marshal(struct {
		Words       string `json:"words"`
		BeginOffset string `json:"begin_offset"`
		EndOffset   string `json:"end_offset"`
		BeginTime   string `json:"begin_time"`
		IsPlaying   string `json:"is_playing"`
		DynamicID   string `json:"dynamic_id,omitempty"`
		AsrBegin    string `json:"asr_begin_time"`
		AsrEnd      string `json:"asr_end_time"`
	}{"喂你好", "0", "900", clockText(c.answeredAt), "true", c.dynamicID, millis(c.answeredAt), millis(now)})
	query := address.Query()
	query.Set("call_id", c.id())
	query.Set("timestamp", millis(now))
	query.Set("content_type", "normal")
	query.Set("content", string(content))
	address.RawQuery = query.Encode()

	ctx, cancel := context.WithTimeout(s.lifetime, callbackLimit)
	defer cancel()
	status, body, err := s.exchangeHTTP(ctx, address.String(), "", nil)
	if err != nil || status != http.StatusOK {
		return status, ""
	}
	var answer struct {
		Result string `json:"result"`
		Data   struct {
			CallID string `json:"call_id"`
			Action string `json:"action"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Result != "success" || answer.Data.CallID != c.id() {
		return status, ""
	}
	return status, answer.Data.Action
}
