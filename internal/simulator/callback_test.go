package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialogueCallback(t *testing.T) {
	const callID = "116300000001^102800000001" // of a simulator's first call
	for name, test := range map[string]struct {
		answer  func(int, *http.Request) (*http.Response, error)
		reply   string
		seconds int
	}{
		"hangup": {func(int, *http.Request) (*http.Response, error) {
			return respond(200, `{"result":"success","msg":"ok","data":{"call_id":"`+callID+`","action":"hangup","action_code":""}}`)
		}, "hangup", 1},
		"donothing": {func(int, *http.Request) (*http.Response, error) {
			return respond(200, `{"result":"success","data":{"call_id":"`+callID+`","action":"donothing"}}`)
		}, "donothing", 20},
		"fail": {func(int, *http.Request) (*http.Response, error) {
			return respond(200, `{"result":"fail","data":{}}`)
		}, "", 20},
		"another call's answer": {func(int, *http.Request) (*http.Response, error) {
			return respond(200, `{"result":"success","data":{"call_id":"1^2","action":"hangup"}}`)
		}, "", 20},
		"500": {func(int, *http.Request) (*http.Response, error) {
			return respond(500, `{"result":"success","data":{"call_id":"`+callID+`","action":"hangup"}}`)
		}, "", 20},
		"nobody there": {func(int, *http.Request) (*http.Response, error) { return nil, errors.New("refused") }, "", 20},
		"too slow": {func(_ int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, "", 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ledger bytes.Buffer
				rc := newReceiver(test.answer)
				config := fixedTimes(testConfig())
				config.Outcomes = map[string]float64{"answered": 1}
				config.CallbackURL = "http://127.0.0.1:1/voice/secret?x=1"
				config.Transport, config.Ledger = rc, &ledger
				s := start(t, config)
				answeredAt := time.Now().Add(4 * time.Second)
				v := orderOf(1)
				v["DynamicId"] = "c42-k9"
				place(t, s, v)
				waitQuiet(t, s)

				if len(rc.urls) != 1 || rc.at[0] != 4*time.Second {
					t.Fatalf("asked %d times at %v, want once after 4 s", len(rc.urls), rc.at)
				}
				u, err := url.Parse(rc.urls[0])
				if err != nil {
					t.Fatal(err)
				}
				q := u.Query()
				if q.Get("call_id") != callID || q.Get("content_type") != "normal" || q.Get("x") != "1" || u.Path != "/voice/secret" {
					t.Errorf("asked %s", u)
				}
				if ms := q.Get("timestamp"); ms != strconv.FormatInt(answeredAt.UnixMilli(), 10) {
					t.Errorf("timestamp %s, want %d", ms, answeredAt.UnixMilli())
				}
				var content map[string]string
				if err := json.Unmarshal([]byte(q.Get("content")), &content); err != nil || content["words"] == "" || content["dynamic_id"] != "c42-k9" {
					t.Errorf("content %v (%v), want words and dynamic_id", content, err)
				}
				call := entries(t, &ledger, KindCall)[0]
				if call.DurationS != test.seconds {
					t.Errorf("talked %d s, want %d", call.DurationS, test.seconds)
				}
				if want := answeredAt.Add(time.Duration(test.seconds/20*20) * time.Second); !call.EndedAt.Equal(want) {
					t.Errorf("ended at %s, want %s", call.EndedAt, want)
				}
				asked := entries(t, &ledger, KindCallback)
				if len(asked) != 1 || asked[0].Reply != test.reply || asked[0].CallID != callID || asked[0].OutID != "A000001" {
					t.Errorf("ledger: %+v, want reply %q", asked, test.reply)
				}
				if st := s.Stats(); st.Ended != 1 || st.Callbacks != 1 {
					t.Errorf("%d calls ended, %d callbacks, want one of each", st.Ended, st.Callbacks)
				}
			})
		})
	}
}
