package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// receiver is the other end of pushes and callbacks, without a network.
type receiver struct {
	began  time.Time
	answer func(try int, r *http.Request) (*http.Response, error)

	mu     sync.Mutex
	at     []time.Duration
	urls   []string
	bodies []string
}

func newReceiver(answer func(try int, r *http.Request) (*http.Response, error)) *receiver {
	return &receiver{began: time.Now(), answer: answer}
}

func (rc *receiver) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	rc.mu.Lock()
	rc.at = append(rc.at, time.Since(rc.began))
	rc.urls = append(rc.urls, r.URL.String())
	rc.bodies = append(rc.bodies, string(body))
	try := len(rc.at)
	rc.mu.Unlock()
	return rc.answer(try, r)
}

func respond(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func acknowledge(int, *http.Request) (*http.Response, error) {
	return respond(200, `{"code":0,"msg":"ok"}`)
}

// reports decodes everything received, keeping numbers and strings apart.
func (rc *receiver) reports(t *testing.T) []map[string]any {
	t.Helper()
	rc.mu.Lock()
	defer rc.mu.Unlock()
	var all []map[string]any
	for _, body := range rc.bodies {
		var array []map[string]any
		if err := json.Unmarshal([]byte(body), &array); err != nil {
			t.Fatalf("pushed body is not an array of objects: %v\n%s", err, body)
		}
		all = append(all, array...)
	}
	return all
}

// pushConfig has a call that takes 4 s and a report 2 s later.
func pushConfig(rc *receiver) Config {
	config := fixedTimes(testConfig())
	config.Outcomes = map[string]float64{"no_answer": 1}
	config.PushURL = "http://127.0.0.1:1/receipts/secret"
	config.Transport = rc
	return config
}

const firstPush = 6100 * time.Millisecond // 4 s ring, 2 s delay, 0.1 s for others to join

func TestPushRetrySchedule(t *testing.T) {
	const s, m = time.Second, time.Minute
	down := errors.New("connection refused")
	hang := func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }
	for _, test := range []struct {
		name   string
		scale  float64
		answer func(try int, r *http.Request) (*http.Response, error)
		after  []time.Duration // tries, since the first
		acked  bool
	}{
		{"acknowledged", 1, acknowledge, []time.Duration{0}, true},
		{"never there", 1, func(int, *http.Request) (*http.Response, error) { return nil, down }, []time.Duration{0, m, 6 * m, 16 * m}, false},
		{"back at the third", 1, func(try int, r *http.Request) (*http.Response, error) {
			if try < 3 {
				return respond(503, "{}")
			}
			return acknowledge(try, r)
		}, []time.Duration{0, m, 6 * m}, true},
		{"too slow by the time limit", 1, func(try int, r *http.Request) (*http.Response, error) {
			if try == 1 {
				return hang(r)
			}
			return acknowledge(try, r)
		}, []time.Duration{0, m + 700*time.Millisecond}, true},
		{"compressed 60 times", 60, func(int, *http.Request) (*http.Response, error) { return nil, down }, []time.Duration{0, s, 6 * s, 16 * s}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ledger bytes.Buffer
				rc := newReceiver(test.answer)
				config := pushConfig(rc)
				config.TimeScale, config.Ledger = test.scale, &ledger
				s := start(t, config)
				call := place(t, s, orderOf(1))
				waitQuiet(t, s)

				first := rc.at[0]
				first = first.Round(time.Microsecond) // scaling rounds
				if want := time.Duration(6*float64(time.Second)/test.scale) + 100*time.Millisecond; first != want {
					t.Errorf("first push after %s, want %s", first, want)
				}
				var after []time.Duration
				for _, at := range rc.at {
					after = append(after, (at - first).Round(time.Microsecond))
				}
				if !slices.Equal(after, test.after) {
					t.Errorf("tries after %v, want %v", after, test.after)
				}
				for i, e := range entries(t, &ledger, KindPush) {
					last := i == len(test.after)-1
					if e.Try != i+1 || e.PushID != 1 || e.Report != voiceReport || e.Acked != (last && test.acked) || e.GivenUp != (last && !test.acked) {
						t.Errorf("try %d in the ledger: %+v", i+1, e)
					}
					if !slices.Equal(e.Items, []Item{{CallID: call.CallId, OutID: "A000001"}}) {
						t.Errorf("try %d: items %v", i+1, e.Items)
					}
				}
				st := s.Stats()
				if st.Pushes != int64(len(test.after)) || (st.Acked == 1) != test.acked || (st.GivenUp == 1) == test.acked {
					t.Errorf("got %d pushes, %d acked, %d given up", st.Pushes, st.Acked, st.GivenUp)
				}
			})
		})
	}
}

func TestPushSuccessCheck(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		acked  bool
	}{
		{200, `{"code":0,"msg":"ok"}`, true},
		{200, `{"code":500}`, true}, // its value is not looked at
		{200, `{"code":-1.5}`, true},
		{200, `{"code":"0"}`, false},
		{200, `{"code":null}`, false},
		{200, `{"Code":0}`, false},
		{200, `{}`, false},
		{200, `[{"code":0}]`, false},
		{200, ``, false},
		{200, `<html>`, false},
		{204, `{"code":0}`, false},
		{302, `{"code":0}`, false},
		{400, `{"code":0}`, false},
		{503, `{"code":0}`, false},
	} {
		t.Run(fmt.Sprint(test.status, test.body), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := pushConfig(newReceiver(func(int, *http.Request) (*http.Response, error) { return respond(test.status, test.body) }))
				config.PushRetry = []time.Duration{}
				s := start(t, config)
				place(t, s, orderOf(1))
				waitQuiet(t, s)
				if acked := s.Stats().Acked == 1; acked != test.acked {
					t.Errorf("acknowledged: got %t, want %t", acked, test.acked)
				}
			})
		})
	}
}

func TestPushBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newReceiver(acknowledge)
		config := pushConfig(rc)
		config.PushBatch = 10
		s := start(t, config)
		for i := range 25 {
			place(t, s, orderOf(i))
		}
		waitQuiet(t, s)
		var sizes []int
		for _, body := range rc.bodies {
			sizes = append(sizes, strings.Count(body, `"call_id"`))
		}
		if slices.Sort(sizes); !slices.Equal(sizes, []int{5, 10, 10}) {
			t.Errorf("arrays of %v, want 5, 10, 10", sizes)
		}
		full := firstPush - 100*time.Millisecond
		if slices.Sort(rc.at); !slices.Equal(rc.at, []time.Duration{full, full, firstPush}) {
			t.Errorf("pushed at %v, want the full ones at once (%s), the rest at %s", rc.at, full, firstPush)
		}
	})
}

func TestPushAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newReceiver(acknowledge)
		config := pushConfig(rc)
		config.PushURL = ""
		config.Accounts["second"] = Account{Name: "other", Secret: testSecret, PushURL: "http://127.0.0.1:2/other"}
		s := start(t, config)
		foreign := func(n int) {
			r := request3("SmartCall", orderOf(n))
			sign3Request(r, "second", testSecret)
			send(t, s, r)
		}
		place(t, s, orderOf(1)) // nowhere to go
		foreign(2)
		waitQuiet(t, s)
		if err := s.SetPushURL("http://127.0.0.1:1/late"); err != nil {
			t.Fatal(err)
		}
		place(t, s, orderOf(3))
		foreign(4)
		waitQuiet(t, s)
		slices.Sort(rc.urls)
		if want := []string{"http://127.0.0.1:1/late", "http://127.0.0.1:2/other", "http://127.0.0.1:2/other"}; !slices.Equal(rc.urls, want) {
			t.Errorf("pushed to %v, want %v", rc.urls, want)
		}
		if st := s.Stats(); st.Unaddressed != 1 || st.Acked != 3 {
			t.Errorf("%d without address, %d acknowledged, want 1 and 3", st.Unaddressed, st.Acked)
		}
		if s.SetPushURL("not an address") == nil {
			t.Error("a bad address was taken")
		}
	})
}

func TestLostDoubledAndReorderedReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ledger bytes.Buffer
		rc := newReceiver(acknowledge)
		config := pushConfig(rc)
		config.LoseReceipts, config.Duplicate, config.Reorder = 0.2, 0.3, 0.1
		config.Ledger = &ledger
		s := start(t, config)
		const n = 4000
		for i := range n {
			place(t, s, orderOf(i))
		}
		waitQuiet(t, s)
		times := make(map[string]int)
		for _, r := range rc.reports(t) {
			times[r["out_id"].(string)]++
		}
		lost, twice := 0, 0
		for _, e := range entries(t, &ledger, KindCall) {
			if got := times[e.OutID]; (got == 0) != e.Lost {
				t.Fatalf("%s: pushed %d times, ledger says lost: %t", e.OutID, got, e.Lost)
			}
			switch times[e.OutID] {
			case 0:
				lost++
			case 2:
				twice++
			}
		}
		if lost < n*17/100 || lost > n*23/100 {
			t.Errorf("%d of %d lost, want about 20%%", lost, n)
		}
		if kept := n - lost; twice < kept*27/100 || twice > kept*33/100 {
			t.Errorf("%d of %d pushed twice, want about 30%%", twice, kept)
		}
		late := 0 // reports that came 3 times the delay later than the others, so after them
		for i, at := range rc.at {
			if at >= firstPush+6*time.Second-100*time.Millisecond {
				late += strings.Count(rc.bodies[i], `"call_id"`)
			}
		}
		if late < n*8/100 || late > n*16/100 {
			t.Errorf("%d of %d held back, want about 10%% and their doubles", late, n)
		}
	})
}

func TestReportsAreAsDocumented(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newReceiver(acknowledge)
		config := pushConfig(rc)
		config.Outcomes = nil
		config.ProgressReports, config.RecordReports = true, true
		s := start(t, config)
		began := time.Now()
		for i := range 400 {
			v := orderOf(i)
			v["RecordFlag"], v["EarlyMediaAsr"] = "true", fmt.Sprint(i%2 == 0)
			place(t, s, v)
		}
		waitQuiet(t, s)
		st := s.Stats()
		seen := make(map[string]int)
		clock := began.In(china)
		for _, r := range rc.reports(t) {
			switch {
			case r["record_file"] != nil:
				seen["record"]++
			case r["status_time"] != nil:
				seen[r["status_code"].(string)]++
			default:
				seen["final"]++
				checkFinal(t, r, clock)
				seen[fmt.Sprintf("duration %T", r["duration"])]++
				seen[r["voice_type"].(string)]++
				if r["early_media_code"] != nil {
					seen["early"]++
				}
			}
		}
		for what, want := range map[string]int64{
			"final": 400, "200101": 400, "200102": st.Outcomes["answered"], "200100": 400, "record": st.Outcomes["answered"],
		} {
			if int64(seen[what]) != want {
				t.Errorf("%s: %d reports, want %d", what, seen[what], want)
			}
		}
		for _, what := range []string{"duration string", "duration float64", "asr", "voice", "early", "200201"} {
			if seen[what] == 0 {
				t.Errorf("no report with %s", what)
			}
		}
	})
}

func checkFinal(t *testing.T, r map[string]any, began time.Time) {
	t.Helper()
	if got, want := r["originate_time"], began.Format("2006-01-02 15:04:05"); got != want {
		t.Errorf("originate_time %v, want %s", got, want)
	}
	answered := r["smart_status_code"] == "ANSWERED"
	duration := fmt.Sprint(r["duration"])
	start := ""
	if answered {
		start = began.Add(4 * time.Second).Format("2006-01-02 15:04:05")
	}
	if (duration == "20") != answered || (duration == "0") == answered || r["start_time"] != start {
		t.Errorf("%v: duration %s, start_time %q, want start %q", r["smart_status_code"], duration, r["start_time"], start)
	}
	if (r["status_code"] == "200000" || r["status_code"] == "200001") != answered {
		t.Errorf("%v with status_code %v", r["smart_status_code"], r["status_code"])
	}
	if r["early_media_code"] != nil && answered {
		t.Error("an answered call has an early_media_code")
	}
	var names []string
	for name := range r {
		names = append(names, name)
	}
	for _, name := range []string{"call_id", "out_id", "caller", "callee", "end_time", "status_msg", "hangup_direction", "toll_type"} {
		if !slices.Contains(names, name) {
			t.Errorf("no %s in %v", name, names)
		}
	}
}

// 5,000 reports a second, to a receiver that takes nearly all of the time it has.
func TestPushKeepsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := newReceiver(func(try int, r *http.Request) (*http.Response, error) {
			<-time.After(690 * time.Millisecond)
			return acknowledge(try, r)
		})
		s := start(t, pushConfig(rc))
		const seconds, perTick = 4, 50
		for range seconds * 100 {
			<-time.After(10 * time.Millisecond)
			for range perTick {
				s.busy.begin(1)
				s.pusher.add(batchKey{s.accounts[0], voiceReport}, Item{CallID: "1^2"}, []byte(`{"call_id":"1^2"}`))
			}
		}
		waitQuiet(t, s)
		if took, want := time.Since(rc.began), seconds*time.Second+690*time.Millisecond; took != want {
			t.Errorf("all delivered after %s, want %s: pushes queued up", took, want)
		}
		if got := s.Stats().Acked; got != seconds*5000 {
			t.Errorf("%d acknowledged, want %d", got, seconds*5000)
		}
	})
}
