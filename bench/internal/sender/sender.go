// Package sender is a program that makes calls: one of several clients, paced by one of
// several pacers. Ours and its peers differ in nothing else.
package sender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
)

// Program is the first argument that makes this binary a sender.
const Program = "sender"

// ProfileIn names the environment variable with a folder in which each sender leaves a
// CPU profile: see docs/performance.md.
const ProfileIn = "BENCH_PROFILE"

// Options says what is sent, and how.
type Options struct {
	Endpoint string
	Client   string        // "ours", "bare" or "sdk"; "" = ours
	Pacer    string        // see pacers; "" = as fast as the senders are
	Rate     int           // per second
	Burst    int           // of x/time/rate
	Senders  int           // requests at the same time; 0 = 200
	For      time.Duration // how long calls are begun
}

// Result is what came of it.
type Result struct {
	Accepted, Throttled, Failed int64
	Failure                     string // the first
	Began, Ended                time.Time
	CPU                         time.Duration
	LeastTrip                   time.Duration // from the first byte to the answer
}

// CPUPerCall is in microseconds.
func (r Result) CPUPerCall() float64 {
	return float64(r.CPU.Microseconds()) / float64(r.Accepted)
}

// Run runs a sender in a process of its own until it has finished.
func Run(ctx context.Context, o Options) (Result, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return Result{}, err
	}
	cmd := lab.Self(Program, string(text))
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	p, err := lab.Start(cmd)
	if err != nil {
		return Result{}, err
	}
	select {
	case <-p.Ended():
	case <-ctx.Done():
		_ = p.Process.Kill()
		<-p.Ended()
		return Result{}, ctx.Err()
	}
	var r Result
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		return r, fmt.Errorf("sender %s %s: %w: %s", o.Client, o.Pacer, err, said.String())
	}
	if r.Accepted == 0 {
		return r, fmt.Errorf("sender %s %s: nothing was accepted: %s", o.Client, o.Pacer, r.Failure)
	}
	return r, nil
}

// errThrottled is what a client says of a request that was one too many.
var errThrottled = errors.New("throttled")

// call is one call to be made: numbers differ, so that no phone is busy.
type call struct{ phone, outID string }

// caller makes a call, once. sent and answered are as near to the wire as it knows.
type caller interface {
	call(ctx context.Context, c call) (sent, answered time.Time, err error)
}

// Serve is the program: it makes its calls and writes the Result.
func Serve(ctx context.Context, args []string) error {
	var o Options
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("options of the sender: %w", err)
	}
	if o.Senders == 0 {
		o.Senders = 200
	}
	client, err := newCaller(o)
	if err != nil {
		return err
	}
	stop, err := profile(os.Getenv(ProfileIn))
	if err != nil {
		return err
	}
	r, err := send(ctx, o, client)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// profile begins a CPU profile, if a folder is given, until stop is called.
func profile(folder string) (stop func() error, err error) {
	if folder == "" {
		return func() error { return nil }, nil
	}
	f, err := os.CreateTemp(folder, "sender-*.pprof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

func send(ctx context.Context, o Options, client caller) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, o.For)
	defer cancel()
	p, err := newPacer(ctx, o)
	if err != nil {
		return Result{}, err
	}
	var n, accepted, throttled, failed atomic.Int64
	var failure atomic.Pointer[error]
	trips := make([]time.Duration, o.Senders) // the least of each sender
	before, began := lab.Used(), time.Now()
	var wg sync.WaitGroup
	for s := range o.Senders {
		trips[s] = o.For
		wg.Go(func() {
			for {
				settle, ok := p.next(ctx)
				if !ok {
					return
				}
				i := n.Add(1)
				c := call{phone: fmt.Sprintf("138%08d", i), outID: fmt.Sprintf("B%d", i)}
				// What was begun is ended: the time is up for new calls only.
				sent, answered, err := client.call(context.WithoutCancel(ctx), c)
				settle(sent, answered, err)
				switch {
				case err == nil:
					accepted.Add(1)
					trips[s] = min(trips[s], answered.Sub(sent))
				case errors.Is(err, errThrottled):
					throttled.Add(1)
				default:
					failed.Add(1)
					failure.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	r := Result{Accepted: accepted.Load(), Throttled: throttled.Load(), Failed: failed.Load(), Began: began, Ended: time.Now(), CPU: lab.Used() - before, LeastTrip: slices.Min(trips)}
	if f := failure.Load(); f != nil {
		r.Failure = (*f).Error()
	}
	return r, nil
}

// The account that calls.
var keyID, secret = platform.KeyID(0), platform.Secret
