package simulator

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// BenchmarkSmartCall is one accepted call: verify, throttle, place, answer, ledger, and
// its end and report. The requests are signed beforehand; the network is not in it.
func BenchmarkSmartCall(b *testing.B) {
	for name, sign := range map[string]func(int) *http.Request{
		"V1": func(n int) *http.Request { return request1("POST", "SmartCall", orderOf(n), false) },
		"V3": func(n int) *http.Request { return request3("SmartCall", orderOf(n)) },
	} {
		b.Run(name, func(b *testing.B) {
			config := testConfig()
			config.TimeScale, config.Ledger = 1e6, io.Discard
			s := start(b, config)
			requests := make([]*http.Request, 4096)
			for i := range requests {
				requests[i] = sign(i)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n%len(requests) == 0 {
					s.nonces = newNonces(4 << 20) // the same requests once more
				}
				rec := httptest.NewRecorder()
				s.ServeHTTP(rec, requests[n%len(requests)])
				if rec.Code != 200 {
					b.Fatalf("status %d", rec.Code)
				}
				n++
			}
		})
	}
}

// BenchmarkWindow is what counting a request costs at 20,000 of them a second.
func BenchmarkWindow(b *testing.B) {
	w := window{limit: 20_000}
	at := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		at += 50 * time.Microsecond
		w.admit(at, false)
	}
}
