package simulator

import (
	"encoding/json"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// query asks for a call; change replaces parameters.
func query(t *testing.T, s *Simulator, callID string, change map[string]string) reply {
	t.Helper()
	now := time.Now().In(china)
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, china)
	values := map[string]string{
		"CallId": callID, "ProdId": prodSmartCall, "QueryDate": strconv.FormatInt(midnight.UnixMilli(), 10),
	}
	for name, value := range change {
		if values[name] = value; value == "" {
			delete(values, name)
		}
	}
	return send(t, s, request3("QueryCallDetailByCallId", values))
}

func TestQueryCallDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := fixedTimes(testConfig())
		config.Outcomes = map[string]float64{"answered": 1}
		s := start(t, config)
		placed := time.Now().In(china)
		callID := place(t, s, orderOf(1)).CallId

		at := func(since time.Duration) { <-time.After(since - time.Since(placed)) }
		for _, since := range []time.Duration{0, 10 * time.Second, 24 * time.Second, 63 * time.Second} {
			at(since) // ringing, talking, just over, not written yet
			if got := query(t, s, callID, nil); got.Code != "OK" || got.Data != "" {
				t.Errorf("after %s: code %q, Data %q, want OK without Data", since, got.Code, got.Data)
			}
		}
		at(64*time.Second + finalAfter)
		got := query(t, s, callID, nil)
		var d callDetail
		if err := json.Unmarshal([]byte(got.Data), &d); err != nil {
			t.Fatalf("Data is not JSON in a string: %v", err)
		}
		text := func(since time.Duration) string { return placed.Add(since).Format("2006-01-02 15:04:05") }
		want := callDetail{
			CallID: callID, Caller: testShown, Callee: phoneNumber(1), CalleeShowNumber: testShown, GmtCreate: text(0), BRingTime: text(0),
			BStartTime: text(4 * time.Second), BEndTime: text(24 * time.Second), StartDate: text(4 * time.Second), EndDate: text(24 * time.Second),
			Duration: 20, State: d.State, StateDesc: "用户接听",
		}
		if d != want || (d.State != "200000" && d.State != "200001") {
			t.Errorf("got  %+v\nwant %+v", d, want)
		}

		midnight := time.Date(placed.Year(), placed.Month(), placed.Day(), 0, 0, 0, 0, china)
		millis := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
		for name, change := range map[string]map[string]string{
			"another product":    {"ProdId": "11000000300006"},
			"yesterday":          {"QueryDate": millis(midnight.AddDate(0, 0, -1))},
			"tomorrow":           {"QueryDate": millis(midnight.AddDate(0, 0, 1))},
			"the day, but later": {"QueryDate": millis(placed.Add(time.Second))},
			"unknown call":       {"CallId": "116300999999^102800999999"},
			"halves of two":      {"CallId": "116300000001^102800000002"},
			"no id at all":       {"CallId": "nonsense"},
		} {
			if got := query(t, s, callID, change); got.Code != "OK" || got.Data != "" {
				t.Errorf("%s: code %q, Data %q, want OK without Data", name, got.Code, got.Data)
			}
		}
		for _, test := range []struct{ name, value, code string }{
			{"CallId", "", "MissingCallId"}, {"ProdId", "", "MissingProdId"}, {"QueryDate", "", "MissingQueryDate"},
			{"QueryDate", "2026-03-02", "InvalidParameter.date"},
		} {
			if got := query(t, s, callID, map[string]string{test.name: test.value}); got.Code != test.code || got.Status != 400 {
				t.Errorf("%s %q: got %d %s, want 400 %s", test.name, test.value, got.Status, got.Code, test.code)
			}
		}
	})
}

// Some records say 200 before their final code is there, none after.
func TestQueryBeforeTheFinalCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, fixedTimes(testConfig()))
		var callIDs []string
		for i := range 90 {
			callIDs = append(callIDs, place(t, s, orderOf(i)).CallId)
		}
		pending := func() (n int) {
			for _, id := range callIDs {
				var d callDetail
				if err := json.Unmarshal([]byte(query(t, s, id, nil).Data), &d); err != nil {
					t.Fatal(err)
				}
				if d.State == "200" {
					n++
				}
			}
			return n
		}
		<-time.After(24*time.Second + recordAfter)
		if n := pending(); n == 0 || n > 30 {
			t.Errorf("%d of 90 pending, want some", n)
		}
		<-time.After(finalAfter)
		if n := pending(); n != 0 {
			t.Errorf("%d still pending after %s", n, finalAfter)
		}
	})
}

func TestQueryLimitAndForeignCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := fixedTimes(testConfig())
		config.Accounts["second"] = Account{Name: "other", Secret: testSecret}
		s := start(t, config)
		r := request3("SmartCall", orderOf(1))
		sign3Request(r, "second", testSecret)
		foreign := send(t, s, r).CallId
		<-time.After(time.Hour)
		if got := query(t, s, foreign, nil); got.Code != "OK" || got.Data != "" {
			t.Errorf("another account's call: code %q, Data %q, want OK without Data", got.Code, got.Data)
		}
		for i := range 99 {
			if got := query(t, s, foreign, nil); got.Code != "OK" {
				t.Fatalf("query %d of this second: %s", i+2, got.Code)
			}
		}
		if got := query(t, s, foreign, nil); got.Code != "Throttling.User" || got.Status != 400 {
			t.Errorf("query 101 of this second: %d %s, want 400 Throttling.User", got.Status, got.Code)
		}
		place(t, s, orderOf(2)) // SmartCall has a window of its own
		if st := s.Stats(); st.Queries != 101 || st.Requests != 2 || st.Accounts["main"].WorstQuerySecond != 101 || st.Accounts["main"].QueriesThrottled != 1 {
			t.Errorf("wrong figures: %+v", st)
		}
	})
}

func TestOldCallsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := fixedTimes(testConfig())
		config.Keep = 2
		s := start(t, config)
		var ids []string
		for i := range 3 {
			ids = append(ids, place(t, s, orderOf(i)).CallId)
		}
		<-time.After(time.Hour)
		for i, id := range ids {
			if known := query(t, s, id, nil).Data != ""; known != (i > 0) {
				t.Errorf("call %d known: %t", i, known)
			}
		}
		if len(s.exchange.calls) != 2 {
			t.Errorf("%d calls kept, want 2", len(s.exchange.calls))
		}
	})
}
