package dialer_test

import (
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	simSeeds = flag.Int("sim.seeds", 150, "how many seeds TestSimulation goes through")
	simFirst = flag.Uint64("sim.first", 1, "the first of them")
	simSeed  = flag.Uint64("sim.seed", 0, "the one seed to go through, with a trace of what happens")
)

// simWorkers simulations go on at once, each with its own database, so that one waits
// for the server while another computes.
const simWorkers = 3

// A campaign of some dozen contacts, a few kinds of faults, and one minute of time that
// passes in a moment: then every contact has come to its end, and nobody was called who
// should not have been. Each seed is a world of its own. What the seed decides is the
// campaign, each fault and its time; in what order goroutines run that wake at the same
// moment, and the jitter of a contact's next try, it does not decide. So a failure that
// needs one order of many may take some tries to come again.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, newSimDatabase(t), *simSeed, true)
		return
	}
	var next atomic.Uint64
	next.Store(*simFirst)
	last := *simFirst + uint64(*simSeeds)
	for i := range simWorkers {
		t.Run(fmt.Sprintf("worker %d", i+1), func(t *testing.T) {
			t.Parallel()
			d := newSimDatabase(t)
			for seed := next.Add(1) - 1; seed < last && !t.Failed(); seed = next.Add(1) - 1 {
				simulate(t, d, seed, false)
			}
		})
	}
}

// simulate goes through one seed.
func simulate(t *testing.T, d *simDatabase, seed uint64, show bool) {
	t.Helper()
	replay := fmt.Sprintf("go test ./internal/dialer -run 'TestSimulation$' -sim.seed=%d", seed)
	p := newPlan(seed)
	inWorld(t, d, p, replay, func(w *world) {
		w.begin(nil)
		for range p.nodes {
			w.startNode()
		}
		for _, a := range p.acts {
			w.acting.Go(func() { w.do(a) })
		}
		time.Sleep(time.Until(p.start.Add(simFaultsUntil)))
		w.heal()
		w.settle()
	}, func(w *world) {
		if show || w.t.Failed() {
			w.t.Logf("%v%v", p, w.trace)
		}
		if w.t.Failed() {
			w.t.Errorf("replay: %s", replay)
		}
	})
}

// inWorld makes a world at the plan's start, lets happen what happens, compares both
// ledgers, and looks at what came of it.
func inWorld(t *testing.T, d *simDatabase, p *plan, name string, happen, look func(*world)) {
	t.Helper()
	// A bubble in which somebody waits for what is outside it stands still for ever.
	watchdog := time.AfterFunc(2*time.Minute, func() {
		fmt.Fprintf(os.Stderr, "the simulation stands still: %s\n", name)
		panic("the simulation stands still")
	})
	defer watchdog.Stop()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(p.start))
		w := newWorld(t, d, p)
		happen(w)
		w.check()
		w.close()
		w.checkLedgers()
		look(w)
	})
}
