package simulator

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An edge table: when requests arrive, and what becomes of each.
func TestLimitHoldsInEverySlidingSecond(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name   string
		strict bool
		fixed  bool
		at     []time.Duration // since the start
		want   string          // a accepted, t throttled
		worst  int
	}{
		{"up to the limit", false, false, []time.Duration{0, 0, 0}, "aaa", 3},
		{"one above", false, false, []time.Duration{0, 0, 0, 0}, "aaat", 4},
		{"just inside the second", false, false, []time.Duration{0, 0, 0, 1000*ms - 1}, "aaat", 4},
		{"exactly one second later", false, false, []time.Duration{0, 0, 0, 1000 * ms}, "aaaa", 3},
		{"slides with the oldest", false, false, []time.Duration{0, 400 * ms, 800 * ms, 999 * ms, 1000 * ms, 1399 * ms, 1400 * ms}, "aaatata", 5},
		{"edge burst of a fixed window", false, false, []time.Duration{900 * ms, 900 * ms, 900 * ms, 1100 * ms, 1100 * ms, 1100 * ms}, "aaattt", 6},
		{"refused ones leave room", false, false, []time.Duration{0, 0, 0, 500 * ms, 500 * ms, 500 * ms, 1000 * ms, 1000 * ms, 1000 * ms}, "aaatttaaa", 6},
		{"strict: refused ones do not", true, false, []time.Duration{0, 0, 0, 500 * ms, 500 * ms, 500 * ms, 1000 * ms, 1500 * ms, 1500 * ms, 2500 * ms}, "aaattttaaa", 6},
		{"fixed: edge burst", false, true, []time.Duration{900 * ms, 900 * ms, 900 * ms, 900 * ms, 1100 * ms, 1100 * ms, 1100 * ms, 1100 * ms}, "aaataaat", 8},
		{"fixed: a new second at its turn", false, true, []time.Duration{0, 0, 1000*ms - 1, 1000*ms - 1, 1000 * ms, 1000 * ms}, "aaataa", 4},
		{"fixed, strict: nothing more", true, true, []time.Duration{0, 0, 0, 0, 999 * ms, 1000 * ms}, "aaatta", 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := testConfig()
				config.Strict, config.FixedWindow = test.strict, test.fixed
				// Two keys of one account: the limit counts the account.
				config.Accounts = map[string]Account{
					testID:   {Name: "main", Secret: testSecret, Limit: 3},
					"second": {Name: "main", Secret: testSecret, Limit: 3},
				}
				s := start(t, config)
				began := time.Now()
				var got []byte
				for i, at := range test.at {
					<-time.After(at - time.Since(began))
					r := request3("SmartCall", orderOf(i))
					if i%2 == 1 {
						sign3Request(r, "second", testSecret)
					}
					switch a := send(t, s, r); a.Code {
					case "OK":
						got = append(got, 'a')
					case "Throttling.User":
						got = append(got, 't')
						if a.Status != 400 || a.HostId == "" {
							t.Errorf("throttled with status %d, want 400 and a HostId", a.Status)
						}
					default:
						t.Fatalf("unexpected code %q", a.Code)
					}
				}
				if string(got) != test.want {
					t.Errorf("got  %s\nwant %s", got, test.want)
				}
				st := s.Stats().Accounts["main"]
				if st.WorstSecond != test.worst {
					t.Errorf("worst second: got %d, want %d", st.WorstSecond, test.worst)
				}
				if want := int64(strings.Count(test.want, "a")); st.Admitted != want || st.Throttled != int64(len(test.want))-want {
					t.Errorf("figures: %d let in, %d throttled of %s", st.Admitted, st.Throttled, test.want)
				}
			})
		})
	}
}

// Whatever the order of registration, no second holds more than the limit, and the
// worst second is what counting by hand says.
func TestWindowAgainstCounting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 50 {
		w := window{limit: 1 + rng.IntN(5)}
		var all, admitted []time.Duration
		now := time.Duration(0)
		for range 400 {
			now += time.Duration(rng.IntN(300)) * time.Millisecond
			at := max(0, now-time.Duration(rng.IntN(8)/7*rng.IntN(900))*time.Millisecond)
			all = append(all, at)
			if w.admit(at, false) {
				admitted = append(admitted, at)
			} else if fullest(append(admitted[:len(admitted):len(admitted)], at), at) <= w.limit {
				t.Fatalf("round %d: %s was refused without need", round, at)
			}
		}
		worstAdmitted, worst := 0, 0
		for _, at := range admitted {
			worstAdmitted = max(worstAdmitted, fullest(admitted, at))
		}
		for _, at := range all {
			worst = max(worst, fullest(all, at))
		}
		if worstAdmitted > w.limit {
			t.Fatalf("round %d: %d let in within a second, limit %d", round, worstAdmitted, w.limit)
		}
		if got, _, _ := w.stats(); got != worst {
			t.Fatalf("round %d: worst second: got %d, want %d", round, got, worst)
		}
	}
}

// fullest counts by hand the fullest second that contains t.
func fullest(at []time.Duration, t time.Duration) int {
	most := 0
	for _, end := range at {
		if end < t || end-t >= time.Second {
			continue
		}
		n := 0
		for _, x := range at {
			if x <= end && end-x < time.Second {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}
