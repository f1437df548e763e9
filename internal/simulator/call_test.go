package simulator

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// fixed times: every phone rings 4 s, every answered call lasts 20 s.
func fixedTimes(config Config) Config {
	config.Ring = Range{4 * time.Second, 4 * time.Second}
	config.Talk = Range{20 * time.Second, 20 * time.Second}
	config.ReceiptDelay = Range{2 * time.Second, 2 * time.Second}
	return config
}

func TestCallRunsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ledger bytes.Buffer
		config := fixedTimes(testConfig())
		config.Outcomes = map[string]float64{"answered": 1}
		config.TimeScale = 2
		config.Ledger = &ledger
		s := start(t, config)
		began := time.Now()
		v := orderOf(1)
		v["SessionTimeout"] = "10" // caps the talk
		got := place(t, s, v)

		<-time.After(6 * time.Second) // 2 s ring, 5 s talk at this scale
		if open := s.Stats().Open; open != 1 {
			t.Errorf("after 6 s: %d calls open, want 1", open)
		}
		waitQuiet(t, s)
		if took := time.Since(began); took != 8100*time.Millisecond {
			t.Errorf("quiet after %s, want 8.1 s: 7 s of call, 1 s until its report, 0.1 s for others to join it", took)
		}
		calls := entries(t, &ledger, KindCall)
		if len(calls) != 1 {
			t.Fatalf("%d calls in the ledger, want 1", len(calls))
		}
		c := calls[0]
		if c.CallID != got.CallId || c.OutID != "A000001" || c.Callee != phoneNumber(1) || c.Caller != testShown || c.Account != "main" {
			t.Errorf("wrong call: %+v", c)
		}
		if c.Outcome != "answered" || c.DurationS != 10 || c.SmartStatusCode != "ANSWERED" {
			t.Errorf("got outcome %s, %d s, %s, want answered, 10 s, ANSWERED", c.Outcome, c.DurationS, c.SmartStatusCode)
		}
		for name, at := range map[string]struct {
			got  time.Time
			want time.Duration
		}{"accepted": {c.AcceptedAt, 0}, "rang": {c.RangAt, 250 * time.Millisecond}, "answered": {c.AnsweredAt, 2 * time.Second}, "ended": {c.EndedAt, 7 * time.Second}} {
			if since := at.got.Sub(began); since != at.want {
				t.Errorf("%s after %s, want %s", name, since, at.want)
			}
		}
		if st := s.Stats(); st.Open != 0 || st.Ended != 1 || st.Outcomes["answered"] != 1 || st.Unaddressed != 1 {
			t.Errorf("wrong figures: %+v", st)
		}
	})
}

func TestSomebodyRungTwiceIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ledger bytes.Buffer
		config := fixedTimes(testConfig())
		config.Outcomes = map[string]float64{"no_answer": 1}
		config.Ledger = &ledger
		s := start(t, config)
		again := func(outID, callee string) {
			v := orderOf(1)
			v["OutId"], v["CalledNumber"] = outID, callee
			place(t, s, v)
		}
		again("A1", "13800000001")
		<-time.After(3 * time.Second)
		again("A2", "+8613800000001") // still ringing, other clothes
		again("A3", "13800000002")
		<-time.After(5 * time.Second)
		again("A4", "13800000001") // over
		again("A1", "13800000003") // OutId again, long after
		waitQuiet(t, s)

		var got []string
		for _, e := range entries(t, &ledger, KindRequest) {
			mark := e.OutID
			if e.Overlap {
				mark += " overlap"
			}
			if e.Repeat {
				mark += " repeat"
			}
			got = append(got, mark)
		}
		want := []string{"A1", "A2 overlap", "A3", "A4", "A1 repeat"}
		if len(got) != len(want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("request %d: got %q, want %q", i, got[i], want[i])
			}
		}
		if st := s.Stats(); st.Overlaps != 1 || st.Repeats != 1 || st.MostOpen[testShown] != 3 {
			t.Errorf("got %d overlaps, %d repeats, %d open at most, want 1, 1, 3", st.Overlaps, st.Repeats, st.MostOpen[testShown])
		}
	})
}

// Verdict, outcome and times depend on seed and OutId, not on what else happens.
func TestSameSeedSameFateInAnyOrder(t *testing.T) {
	type fate struct {
		verdict, fault, code, outcome, status string
		seconds                               int
		ring                                  time.Duration
		lost                                  bool
	}
	run := func(seed uint64, shuffle uint64) map[string]fate {
		fates := make(map[string]fate)
		synctest.Test(t, func(t *testing.T) {
			var ledger bytes.Buffer
			config := testConfig()
			config.Seed, config.Ledger, config.LoseReceipts = seed, &ledger, 0.2
			config.Faults = Faults{Throttle: 0.1, OKWithoutCallID: 0.1, SystemError: 0.1, Cut: 0, Business: map[string]float64{"isv.BUSINESS_LIMIT_CONTROL": 0.1}}
			s := start(t, config)
			for _, n := range rand.New(rand.NewPCG(shuffle, 0)).Perm(300) {
				send(t, s, request3("SmartCall", orderOf(n)))
			}
			waitQuiet(t, s)
			for _, e := range entries(t, &ledger, KindRequest, KindCall) {
				f := fates[e.OutID]
				if e.Kind == KindRequest {
					f.verdict, f.fault, f.code = e.Verdict, e.Fault, e.Code
				} else {
					f.outcome, f.status, f.seconds, f.lost = e.Outcome, e.StatusCode, e.DurationS, e.Lost
					f.ring = e.EndedAt.Sub(e.AcceptedAt)
				}
				fates[e.OutID] = f
			}
		})
		return fates
	}
	first, other, reseeded := run(7, 1), run(7, 2), run(8, 1)
	changed := 0
	for outID, f := range first {
		if other[outID] != f {
			t.Errorf("%s: got %+v in one order, %+v in another", outID, f, other[outID])
		}
		if reseeded[outID] != f {
			changed++
		}
	}
	if len(first) != 300 || changed < 250 {
		t.Errorf("%d requests, %d of them changed by another seed, want 300 and nearly all", len(first), changed)
	}
}

func TestOutcomeShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig()
		config.Outcomes = map[string]float64{"answered": 3, "blocked_time": 1, "powered_off": 4}
		s := start(t, config)
		const n = 4000
		for i := range n {
			place(t, s, orderOf(i))
		}
		waitQuiet(t, s)
		got := s.Stats().Outcomes
		for word, share := range map[string]float64{"answered": 3.0 / 8, "blocked": 1.0 / 8, "powered_off": 4.0 / 8} {
			if part := float64(got[word]) / n; part < share-0.03 || part > share+0.03 {
				t.Errorf("%s: share %.3f, want about %.3f", word, part, share)
			}
		}
		if len(got) != 3 {
			t.Errorf("got outcomes %v, want three", got)
		}
	})
}

func TestWaitQuietEndsWithClose(t *testing.T) {
	s, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	place(t, s, orderOf(1)) // rings for seconds
	waited := make(chan error)
	go func() { waited <- s.WaitQuiet(t.Context()) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err == nil {
		t.Error("WaitQuiet returned without an error although a call was under way")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
