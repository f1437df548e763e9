package platform

import (
	"slices"
	"testing"
	"time"

	"dialer/bench/internal/chart"
)

var began = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// seen makes a report with a sample every 100 ms.
func seen(accepted ...int64) Report {
	var r Report
	for i, n := range accepted {
		r.Samples = append(r.Samples, Sample{At: began.Add(time.Duration(i) * 100 * time.Millisecond), Accepted: n})
	}
	return r
}

func TestPerSecond(t *testing.T) {
	if got := seen(0, 100, 200, 250).PerSecond(); got < 833 || got > 834 {
		t.Errorf("250 in 300 ms: got %v per second", got)
	}
	if got := seen(7).PerSecond(); got != 0 {
		t.Errorf("one sample tells no rate, got %v", got)
	}
}

func TestBetweenKeepsBothEnds(t *testing.T) {
	r := seen(0, 1, 2, 3, 4).Between(began.Add(100*time.Millisecond), began.Add(300*time.Millisecond))
	if len(r.Samples) != 3 || r.Samples[0].Accepted != 1 || r.Samples[2].Accepted != 3 {
		t.Errorf("got %v", r.Samples)
	}
}

// Ten calls come every 10 ms, and a sample every 23 ms: sometimes two batches have come
// since the last one and sometimes three. Over four seconds the rate is right to half a
// thousandth all the same.
func TestSteadyRateDoesNotSeeBatches(t *testing.T) {
	for shift := range 10 {
		var r Report
		for at := time.Duration(shift) * time.Millisecond; at < 4*time.Second; at += 23 * time.Millisecond {
			r.Samples = append(r.Samples, Sample{At: began.Add(at), Accepted: int64(at/(10*time.Millisecond)) * 10})
		}
		if got := r.Steady(); got < 999.5 || got > 1000.5 {
			t.Errorf("first sample after %d ms: got %v per second, want 1000", shift, got)
		}
	}
}

func TestLongestGap(t *testing.T) {
	for _, test := range []struct {
		name     string
		accepted []int64
		want     time.Duration
	}{
		{"never still", []int64{0, 1, 2, 3}, 100 * time.Millisecond},
		{"still in between", []int64{0, 5, 5, 5, 9, 10}, 300 * time.Millisecond},
		{"still at the end", []int64{0, 5, 6, 6, 6}, 200 * time.Millisecond},
	} {
		if got := seen(test.accepted...).LongestGap(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestCurve(t *testing.T) {
	got := seen(0, 100, 200, 200, 200).Curve(began, 200*time.Millisecond)
	if want := []chart.Point{{X: 0.2, Y: 1000}, {X: 0.4, Y: 0}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
