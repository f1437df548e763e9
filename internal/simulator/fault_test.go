package simulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// listen serves the simulator on loopback.
func listen(t *testing.T, s *Simulator) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

// over sends a signed SmartCall over the network.
func over(ctx context.Context, t *testing.T, address string, n int) (*http.Response, error) {
	t.Helper()
	r := request3("SmartCall", orderOf(n))
	out, err := http.NewRequestWithContext(ctx, "POST", address+"/?"+r.URL.RawQuery, nil)
	if err != nil {
		t.Fatal(err)
	}
	out.Header = r.Header
	out.Host = r.Host
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return transport.RoundTrip(out)
}

func TestNeverAnswerPlacesTheCallAndHoldsTheLine(t *testing.T) {
	var ledger bytes.Buffer
	config := testConfig()
	config.Faults.NeverAnswer = 1
	config.TimeScale, config.Ledger = 1e6, &ledger
	s := start(t, config)
	address := listen(t, s)

	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := over(ctx, t, address, 1)
		failed <- err
	}()
	await(t, func() bool { return s.Stats().Accepted == 1 })
	select {
	case err := <-failed:
		t.Fatalf("the request ended by itself: %v", err)
	default:
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want only our own cancellation", err)
	}
	waitQuiet(t, s) // the handler notices that its sender went away
	checkOnly(t, &ledger, Entry{Verdict: VerdictAccepted, Fault: faultNever, Answered: false})
	if calls := entries(t, &ledger, KindCall); len(calls) != 1 {
		t.Errorf("%d calls ended, want 1", len(calls))
	}
}

func TestCloseReleasesHeldAnswers(t *testing.T) {
	config := testConfig()
	config.Faults.NeverAnswer = 1
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	address := listen(t, s)
	failed := make(chan error)
	go func() {
		_, err := over(t.Context(), t, address, 1)
		failed <- err
	}()
	await(t, func() bool { return s.Stats().Accepted == 1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("Close answered a request that is never answered")
	}
}

func TestCutsCloseTheConnection(t *testing.T) {
	for name, test := range map[string]struct {
		faults  Faults
		fault   string
		verdict string
		calls   int64
	}{
		"after placing":  {Faults{Cut: 1}, faultCut, VerdictAccepted, 1},
		"before placing": {Faults{CutBefore: 1}, faultCutBefore, VerdictDropped, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var ledger bytes.Buffer
			config := testConfig()
			config.Faults, config.TimeScale, config.Ledger = test.faults, 1e6, &ledger
			s := start(t, config)
			_, err := over(t.Context(), t, listen(t, s), 1)
			if !errors.Is(err, io.EOF) {
				t.Errorf("got %v, want the connection closed without an answer", err)
			}
			waitQuiet(t, s)
			checkOnly(t, &ledger, Entry{Verdict: test.verdict, Fault: test.fault})
			if st := s.Stats(); st.Ended != test.calls || st.Unanswered != 1 {
				t.Errorf("%d calls, %d unanswered, want %d and 1", st.Ended, st.Unanswered, test.calls)
			}
		})
	}
}

// Where the connection cannot be taken over, the server is told to drop it.
func TestCutWithoutHijacker(t *testing.T) {
	config := testConfig()
	config.Faults.Cut = 1
	s := start(t, config)
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("got panic %v, want http.ErrAbortHandler", got)
		}
		if st := s.Stats(); st.Accepted != 1 || st.Unanswered != 1 {
			t.Errorf("got %+v, want one call placed and unanswered", st)
		}
	}()
	s.ServeHTTP(httptest.NewRecorder(), request3("SmartCall", orderOf(1)))
}

// A request that is cut before its end is no request.
func TestHalfARequestIsNoRequest(t *testing.T) {
	config := testConfig()
	s := start(t, config)
	address := strings.TrimPrefix(listen(t, s), "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil { // until the server gives up
		t.Fatal(err)
	}
	conn.Close()
	waitQuiet(t, s)
	if st := s.Stats(); st.Requests != 0 {
		t.Errorf("%d requests counted, want none", st.Requests)
	}
}

// Each fault alone: what is seen, what is true, and how often both differ.
func TestFaultAnswers(t *testing.T) {
	type seen struct {
		status            int
		code, contentType string
		callID            bool
	}
	const n = 400
	jsonType := "application/json;charset=utf-8"
	for name, test := range map[string]struct {
		faults Faults
		fault  string
		seen   []seen   // any of these
		placed [2]int   // share of calls placed, per cent, from and to
		rest   string   // verdict of those not placed
		calls  int      // per placed request
		codes  []string // in the ledger
	}{
		"throttle":     {Faults{Throttle: 1}, faultThrottle, []seen{{400, "Throttling.User", jsonType, false}}, [2]int{0, 0}, VerdictThrottled, 1, nil},
		"page":         {Faults{HTML: 1}, faultHTML, []seen{{200, "", "text/html; charset=utf-8", false}}, [2]int{42, 58}, VerdictDropped, 1, nil},
		"503":          {Faults{Status503: 1}, fault503, []seen{{503, "ServiceUnavailable", jsonType, false}}, [2]int{42, 58}, VerdictDropped, 1, nil},
		"redirect":     {Faults{Redirect302: 1}, fault302, []seen{{302, "", "", false}}, [2]int{42, 58}, VerdictDropped, 1, nil},
		"no CallId":    {Faults{OKWithoutCallID: 1}, faultNoCallID, []seen{{200, "OK", jsonType, false}}, [2]int{100, 100}, "", 1, nil},
		"system error": {Faults{SystemError: 1}, faultSystem, []seen{{500, "isp.SYSTEM_ERROR", jsonType, false}}, [2]int{42, 58}, VerdictDropped, 1, nil},
		"ring twice":   {Faults{RingTwice: 1}, faultRingTwice, []seen{{200, "OK", jsonType, true}}, [2]int{100, 100}, "", 2, nil},
		"number's own cap": {Faults{Business: map[string]float64{"isv.BUSINESS_LIMIT_CONTROL": 1}}, faultBusiness,
			[]seen{{200, "isv.BUSINESS_LIMIT_CONTROL", jsonType, false}, {400, "isv.BUSINESS_LIMIT_CONTROL", jsonType, false}}, [2]int{0, 0}, VerdictRefused, 1, nil},
		"gateway code": {Faults{Business: map[string]float64{"InvalidAccessKeyId.NotFound": 1}}, faultBusiness,
			[]seen{{404, "InvalidAccessKeyId.NotFound", jsonType, false}}, [2]int{0, 0}, VerdictRefused, 1, nil},
		"may have rung, 400": {Faults{Business: map[string]float64{"isp.UNKNOWN": 1}}, faultBusiness,
			[]seen{{400, "isp.UNKNOWN", jsonType, false}}, [2]int{42, 58}, VerdictDropped, 1, nil},
		"may have rung": {Faults{Business: map[string]float64{"isv.VOICE_CALL_FAIL": 1}}, faultBusiness,
			[]seen{{200, "isv.VOICE_CALL_FAIL", jsonType, false}, {400, "isv.VOICE_CALL_FAIL", jsonType, false}}, [2]int{42, 58}, VerdictDropped, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ledger bytes.Buffer
				config := testConfig()
				config.Faults, config.Ledger = test.faults, &ledger
				s := start(t, config)
				forms := make(map[seen]int)
				for i := range n {
					rec := httptest.NewRecorder()
					s.ServeHTTP(rec, request3("SmartCall", orderOf(i)))
					body := rec.Body.String()
					got := seen{rec.Code, between(body, `"Code":"`, `"`), rec.Header().Get("Content-Type"), strings.Contains(body, "CallId")}
					forms[got]++
				}
				waitQuiet(t, s)
				for _, want := range test.seen {
					if forms[want] < n/len(test.seen)*3/4 {
						t.Errorf("answers %+v, want %+v", forms, test.seen)
					}
					delete(forms, want)
				}
				if len(forms) > 0 {
					t.Errorf("also got %+v", forms)
				}
				placed := 0
				for _, e := range entries(t, &ledger, KindRequest) {
					if e.Fault != test.fault || !e.Answered || e.Code != test.seen[0].code {
						t.Fatalf("ledger: fault %q, code %q, answered %t", e.Fault, e.Code, e.Answered)
					}
					if e.Verdict == VerdictAccepted {
						placed++
					} else if e.Verdict != test.rest {
						t.Fatalf("verdict %s, want %s", e.Verdict, test.rest)
					}
					if (e.CallID != "") != (e.Verdict == VerdictAccepted) || (e.SecondID != "") != (test.calls == 2) {
						t.Fatalf("%s with CallIds %q and %q", e.Verdict, e.CallID, e.SecondID)
					}
				}
				if share := placed * 100 / n; share < test.placed[0] || share > test.placed[1] {
					t.Errorf("%d%% placed, want between %d%% and %d%%", share, test.placed[0], test.placed[1])
				}
				if calls := len(entries(t, &ledger, KindCall)); calls != placed*test.calls {
					t.Errorf("%d calls rang for %d placed requests, want %d each", calls, placed, test.calls)
				}
			})
		})
	}
}

func TestFaultShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ledger bytes.Buffer
		config := testConfig()
		config.Faults = Faults{Throttle: 0.3, HTML: 0.1, Business: map[string]float64{"isv.OUT_OF_SERVICE": 0.2, "isv.MOBILE_NUMBER_ILLEGAL": 0.1}}
		config.Ledger = &ledger
		s := start(t, config)
		const n = 5000
		for i := range n {
			s.ServeHTTP(httptest.NewRecorder(), request3("SmartCall", orderOf(i)))
		}
		waitQuiet(t, s)
		got := make(map[string]int)
		for _, e := range entries(t, &ledger, KindRequest) {
			got[strings.TrimPrefix(e.Fault+" "+e.Code, " ")]++
		}
		for what, want := range map[string]int{
			"throttle Throttling.User": 30, "html ": 10, "business isv.OUT_OF_SERVICE": 20, "business isv.MOBILE_NUMBER_ILLEGAL": 10, "OK": 30,
		} {
			if share := float64(got[what]) * 100 / n; share < float64(want)-2.5 || share > float64(want)+2.5 {
				t.Errorf("%q: %.1f%%, want about %d%%", what, share, want)
			}
		}
		// Steering in the run.
		if err := s.SetFaults(Faults{}); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			place(t, s, orderOf(n+i))
		}
		if s.SetFaults(Faults{Cut: 2}) == nil {
			t.Error("a share of 2 was taken")
		}
	})
}

// The receipt may come before the answer does.
func TestDelayLetsTheReceiptOvertakeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ledger bytes.Buffer
		rc := newReceiver(acknowledge)
		config := pushConfig(rc)
		config.Faults.Delay = Range{10 * time.Second, 10 * time.Second}
		config.Ledger = &ledger
		s := start(t, config)
		began := time.Now()
		place(t, s, orderOf(1))
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("answered after %s, want 10 s", took)
		}
		if len(rc.at) != 1 || rc.at[0] != firstPush {
			t.Errorf("pushed at %v, want once at %s", rc.at, firstPush)
		}
		waitQuiet(t, s)
		if e := entries(t, &ledger, KindRequest)[0]; e.MonoUS != 0 || !e.Answered {
			t.Errorf("arrival %d us, answered %t, want 0 and true", e.MonoUS, e.Answered)
		}
	})
}

func TestSenderGoneDuringDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ledger bytes.Buffer
		config := testConfig()
		config.Faults.Delay = Range{10 * time.Second, 10 * time.Second}
		config.Ledger = &ledger
		s := start(t, config)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		func() {
			defer func() {
				if got := recover(); got != http.ErrAbortHandler {
					t.Errorf("got panic %v, want http.ErrAbortHandler", got)
				}
			}()
			s.ServeHTTP(httptest.NewRecorder(), request3("SmartCall", orderOf(1)).WithContext(ctx))
		}()
		waitQuiet(t, s)
		checkOnly(t, &ledger, Entry{Verdict: VerdictAccepted, Code: "OK", Answered: false})
	})
}

// checkOnly wants one request in the ledger, with these marks.
func checkOnly(t *testing.T, ledger *bytes.Buffer, want Entry) {
	t.Helper()
	got := entries(t, ledger, KindRequest)
	if len(got) != 1 {
		t.Fatalf("%d requests in the ledger, want 1", len(got))
	}
	if e := got[0]; e.Verdict != want.Verdict || e.Fault != want.Fault || e.Code != want.Code || e.Answered != want.Answered {
		t.Errorf("ledger: verdict %s, fault %q, code %q, answered %t, want %s, %q, %q, %t",
			e.Verdict, e.Fault, e.Code, e.Answered, want.Verdict, want.Fault, want.Code, want.Answered)
	}
}

func between(s, before, after string) string {
	_, s, found := strings.Cut(s, before)
	if !found {
		return ""
	}
	s, _, _ = strings.Cut(s, after)
	return s
}

// await polls for something that happens on another goroutine.
func await(t *testing.T, happened func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !happened() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatal("it did not happen within 10 s")
		}
	}
}
