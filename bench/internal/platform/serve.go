// Package platform is the strict simulator in a process of its own, so that its work
// is in nobody's figures. It notes what it saw every few milliseconds.
package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"dialer/internal/simulator"
)

// Program is the first argument that makes this binary the platform.
const Program = "platform"

// Secret is that of every account.
const Secret = "bench"

// KeyID is the AccessKey id of the n-th account, and its name.
func KeyID(n int) string { return "key" + strconv.Itoa(n) }

// Options says what the platform is like. The zero value is one account of 1000 in any
// sliding second, answered at once.
type Options struct {
	Accounts int // 0 = 1
	Limit    int // of each; 0 = 1000
	// RefusedCount makes requests that are refused use up the window, too.
	RefusedCount bool
	// FixedWindow counts seconds that begin with the platform's own clock.
	FixedWindow bool
	// Delay is how long an answer takes.
	Delay simulator.Range
}

// order is what the program is asked on its standard input, a line for each.
type order struct {
	Throttle *float64 // refuse this share of the requests from now on
}

// Report is what the platform has seen.
type Report struct {
	Stats   simulator.Stats
	Conns   int64 // connections opened to it
	Samples []Sample
}

// Sample is what the platform had seen at a moment.
type Sample struct {
	At                            time.Time
	Requests, Accepted, Throttled int64
}

const sampleEvery = 20 * time.Millisecond

// Serve is the program. It says its address, then answers each order with a Report,
// and ends with its standard input.
func Serve(ctx context.Context, args []string) error {
	var o Options
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("options of the platform: %w", err)
	}
	accounts := make(map[string]simulator.Account)
	for n := range max(o.Accounts, 1) {
		accounts[KeyID(n)] = simulator.Account{Secret: Secret, Limit: o.Limit}
	}
	config := simulator.Config{
		Accounts: accounts, Strict: o.RefusedCount, FixedWindow: o.FixedWindow, Faults: simulator.Faults{Delay: o.Delay},
		TimeScale: 10_000, Outcomes: map[string]float64{"answered": 1}, Keep: 1,
	}
	sim, err := simulator.New(config)
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, sim.Close())
	}
	var conns atomic.Int64
	server := &http.Server{
		Handler: sim, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				conns.Add(1)
			}
		},
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(ln) }) // it ends with Close
	ctx, stop := context.WithCancel(ctx)
	var seen journal
	wg.Go(func() { seen.run(ctx, sim) })

	err = answer(ln, config.Faults, sim, &conns, &seen)
	stop()
	err = errors.Join(err, server.Close())
	wg.Wait()
	return errors.Join(err, sim.Close())
}

func answer(ln net.Listener, faults simulator.Faults, sim *simulator.Simulator, conns *atomic.Int64, seen *journal) error {
	if _, err := fmt.Println(ln.Addr()); err != nil {
		return err
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("order to the platform: %w", err)
		}
		if o.Throttle != nil {
			faults.Throttle = *o.Throttle
			if err := sim.SetFaults(faults); err != nil {
				return err
			}
		}
		if err := out.Encode(Report{Stats: sim.Stats(), Conns: conns.Load(), Samples: seen.all(sim)}); err != nil {
			return err
		}
	}
}

// journal keeps the samples.
type journal struct {
	mu      sync.Mutex
	samples []Sample
}

func (j *journal) run(ctx context.Context, sim *simulator.Simulator) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		j.add(sim)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (j *journal) add(sim *simulator.Simulator) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := sim.Stats()
	j.samples = append(j.samples, Sample{At: time.Now(), Requests: s.Requests, Accepted: s.Accepted, Throttled: s.Throttled})
}

// all returns the samples up to now.
func (j *journal) all(sim *simulator.Simulator) []Sample {
	j.add(sim)
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.samples[:len(j.samples):len(j.samples)]
}
