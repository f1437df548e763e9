package limiter

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// strictServer is a real HTTP server that refuses each request which is one
// too many for the second that it ends, and notes when all of them came.
type strictServer struct {
	*httptest.Server
	mu      sync.Mutex
	limit   int
	came    []time.Time
	refused int
}

func newStrictServer(tb testing.TB, limit int, work time.Duration) *strictServer {
	s := &strictServer{limit: limit}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		now := time.Now()
		s.came = append(s.came, now)
		over := len(s.came) > limit && now.Sub(s.came[len(s.came)-1-limit]) <= time.Second
		if over {
			s.refused++
		}
		s.mu.Unlock()
		if work > 0 {
			<-time.After(work)
		}
		if over {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	tb.Cleanup(s.Close)
	return s
}

// worst is the most requests in any one second.
func (s *strictServer) worst() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	worst, first := 0, 0
	for i, last := range s.came {
		for last.Sub(s.came[first]) > time.Second {
			first++
		}
		worst = max(worst, i-first+1)
	}
	return worst
}

// senders send a request for every token, until there are no more.
func (s *strictServer) senders(tb testing.TB, number int, guard *Guard, tokens <-chan struct{}) (wait func()) {
	transport := &http.Transport{MaxIdleConnsPerHost: number}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	var wg sync.WaitGroup
	for range number {
		wg.Go(func() {
			for range tokens {
				slot, err := guard.Acquire(tb.Context())
				if err != nil {
					return
				}
				sent := time.Now()
				answer, err := client.Post(s.URL, "text/plain", nil)
				if err != nil {
					tb.Errorf("post: %v", err)
					slot.Unanswered(sent.Add(client.Timeout))
					continue
				}
				_, err = io.Copy(io.Discard, answer.Body)
				slot.Answered(sent, time.Now())
				if err != nil {
					tb.Errorf("read the answer: %v", err)
				}
				_ = answer.Body.Close()
			}
		})
	}
	return func() { wg.Wait(); transport.CloseIdleConnections() }
}

// In real time, on a real network stack. This cannot flake on a slow machine:
// with fewer answers than a credit takes, the proof needs no assumption, and
// both sides read the same clock.
func TestNothingIsRefusedOnLoopback(t *testing.T) {
	const limit, requests = 300, 900
	server := newStrictServer(t, limit, 0)
	guard := NewGuard(limit)
	tokens := make(chan struct{})
	wait := server.senders(t, 50, guard, tokens)
	for range requests {
		tokens <- struct{}{} // no pace: the guard is all there is
	}
	close(tokens)
	wait()
	if server.refused > 0 || server.worst() > limit || len(server.came) != requests {
		t.Errorf("%d of %d requests refused, worst second %d, limit %d", server.refused, len(server.came), server.worst(), limit)
	}
}

// BenchmarkLoopback is a minute of dialling against the strict server, when
// run with -benchtime 60000x: it reports how much of the limit was accepted,
// how many were refused, and the fullest second.
func BenchmarkLoopback(b *testing.B) {
	const limit = 1000
	for name, work := range map[string]time.Duration{"near": 0, "25ms": 25 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			server := newStrictServer(b, limit, work)
			guard, pace := NewGuard(limit), NewPace(limit)
			tokens := make(chan struct{})
			wait := server.senders(b, 200, guard, tokens)
			have := 0
			for b.Loop() {
				if have == 0 {
					have, _ = pace.Take(b.Context(), 100)
				}
				tokens <- struct{}{}
				have--
			}
			close(tokens)
			wait()
			lasted := server.came[len(server.came)-1].Sub(server.came[0]).Seconds()
			accepted := float64(len(server.came)-server.refused-1) / lasted
			b.ReportMetric(100*accepted/limit, "%accepted")
			b.ReportMetric(float64(server.refused), "refused")
			b.ReportMetric(float64(server.worst()), "worst/s")
			b.ReportMetric(float64(guard.trip.least.Microseconds()), "least-rtt-us")
		})
	}
}

// BenchmarkGuard is what the guard's own work costs: a slot taken and given
// back with nobody waiting.
func BenchmarkGuard(b *testing.B) {
	for _, limit := range []int{1000, 20_000} {
		b.Run(strconv.Itoa(limit), func(b *testing.B) {
			guard := NewGuard(limit)
			b.ReportAllocs()
			for b.Loop() {
				slot, err := guard.Acquire(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				slot.Unsent()
			}
		})
	}
}

// BenchmarkGuardContended is the processor time for one request when 2,000
// senders want more than the limit, with the waking of the sender.
func BenchmarkGuardContended(b *testing.B) {
	for _, limit := range []int{1000, 20_000} {
		b.Run(strconv.Itoa(limit), func(b *testing.B) {
			guard := NewGuard(limit)
			b.SetParallelism(2000 / runtime.GOMAXPROCS(0))
			before := processorTime(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					slot, err := guard.Acquire(b.Context())
					if err != nil {
						b.Error(err)
						return
					}
					now := time.Now()
					slot.Answered(now, now)
				}
			})
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkPace is the processor time for one token at 1000/s.
func BenchmarkPace(b *testing.B) {
	pace := NewPace(1000)
	before := processorTime(b)
	tokens := 0
	for b.Loop() {
		n, err := pace.Take(b.Context(), 100)
		if err != nil {
			b.Fatal(err)
		}
		tokens += n
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(tokens), "cpu-ns/token")
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
