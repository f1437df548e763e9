package platform

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"dialer/bench/internal/chart"
	"dialer/bench/internal/lab"
)

// Platform is a running platform.
type Platform struct {
	URL string

	process *lab.Process
	mu      sync.Mutex // an order and its answer belong together
	in      io.WriteCloser
	out     *json.Decoder
}

// Start starts a platform. Close it, too.
func Start(o Options) (*Platform, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := lab.Self(Program, string(text))
	cmd.Stderr = os.Stderr
	p := &Platform{}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.process, err = lab.Start(cmd); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	address, err := lines.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the platform did not start: %w", err)
	}
	p.URL = "http://" + strings.TrimSpace(address)
	p.out = json.NewDecoder(lines)
	return p, nil
}

// Report returns what the platform has seen so far.
func (p *Platform) Report() (Report, error) { return p.order(order{}) }

// Throttle lets the platform refuse a share of the requests from now on.
func (p *Platform) Throttle(share float64) error {
	_, err := p.order(order{Throttle: &share})
	return err
}

func (p *Platform) order(o order) (Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var r Report
	err := json.NewEncoder(p.in).Encode(o)
	if err == nil {
		err = p.out.Decode(&r)
	}
	if err == nil {
		return r, nil
	}
	select {
	case <-p.process.Ended():
		return r, fmt.Errorf("the platform is not there any more (%s): %w", p.process.ProcessState, err)
	case <-time.After(time.Second):
		return r, fmt.Errorf("ask the platform: %w", err)
	}
}

// Close ends the platform.
func (p *Platform) Close() error {
	_ = p.in.Close() // closed already if the process has ended
	select {
	case <-p.process.Ended():
	case <-time.After(10 * time.Second):
		_ = p.process.Process.Kill()
		<-p.process.Ended()
	}
	return nil
}

// Between keeps the samples from a moment to another.
func (r Report) Between(from, to time.Time) Report {
	var kept []Sample
	for _, s := range r.Samples {
		if !s.At.Before(from) && !s.At.After(to) {
			kept = append(kept, s)
		}
	}
	r.Samples = kept
	return r
}

// PerSecond is how many requests were accepted per second, from the first sample to
// the last; 0 if there are not two.
func (r Report) PerSecond() float64 {
	if len(r.Samples) < 2 {
		return 0
	}
	first, last := r.Samples[0], r.Samples[len(r.Samples)-1]
	return float64(last.Accepted-first.Accepted) / last.At.Sub(first.At).Seconds()
}

// Steady is PerSecond of a time in which the rate does not change. Calls come in
// batches, so each end is the mean of some samples: where one falls between two
// batches does not matter then.
func (r Report) Steady() float64 {
	const blur = 10
	if len(r.Samples) < 4*blur {
		return r.PerSecond()
	}
	first, last := mean(r.Samples[:blur]), mean(r.Samples[len(r.Samples)-blur:])
	return float64(last.Accepted-first.Accepted) / last.At.Sub(first.At).Seconds()
}

// mean is the middle of some samples that are near to each other.
func mean(samples []Sample) Sample {
	var since time.Duration
	var accepted int64
	for _, s := range samples {
		since += s.At.Sub(samples[0].At)
		accepted += s.Accepted
	}
	n := len(samples)
	return Sample{At: samples[0].At.Add(since / time.Duration(n)), Accepted: accepted / int64(n)}
}

// Throttled is how many requests the limit of the first account has refused so far.
func (r Report) Throttled() int64 { return r.Stats.Accounts[KeyID(0)].Throttled }

// Curve is what was accepted per second over time, in seconds since began, each point
// the mean of a step.
func (r Report) Curve(began time.Time, step time.Duration) []chart.Point {
	var points []chart.Point
	for i, first := 1, 0; i < len(r.Samples); i++ {
		if r.Samples[i].At.Sub(r.Samples[first].At) < step {
			continue
		}
		part := Report{Samples: r.Samples[first : i+1]}
		points = append(points, chart.Point{X: r.Samples[i].At.Sub(began).Seconds(), Y: part.PerSecond()})
		first = i
	}
	return points
}

// LongestGap is the longest time in which nothing was accepted.
func (r Report) LongestGap() time.Duration {
	var longest time.Duration
	for i, last := 1, 0; i < len(r.Samples); i++ {
		longest = max(longest, r.Samples[i].At.Sub(r.Samples[last].At))
		if r.Samples[i].Accepted > r.Samples[i-1].Accepted {
			last = i
		}
	}
	return longest
}
