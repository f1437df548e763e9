package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"dialer/internal/simulator"
)

// drainMost is the default of --drain, and a little for the process around it.
const drainMost = 28 * time.Second

// port returns an address on loopback that a process can take again after another had
// it: one that the kernel gives to nobody by itself.
func port(t *testing.T) (address string) {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.N(10000))))
		if err == nil {
			ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// Two nodes are restarted in turn while they dial, as in a rolling update.
// Nobody notices: no attempt is in doubt, every contact is called, and once.
func TestRollingRestarts(t *testing.T) {
	t.Parallel()
	const contacts, restarts, between = 16000, 20, 150
	env := environment{"DATABASE_URL": startServer(t, folder(t)).URL(), "DIALER_STATE": t.TempDir()}
	env.must(t, "migrate")
	// Requests take a while, so that there are some in hand.
	sim := simulate(t, simulator.Config{Faults: simulator.Faults{Delay: simulator.Range{Min: 50 * time.Millisecond, Max: 300 * time.Millisecond}}})
	sim.prepare(t, env, contacts, "pace: 400") // a restart hardly slows them down, so that the work lasts for all restarts
	db := open(t, env["DATABASE_URL"])
	addresses := [2]string{port(t), port(t)}
	var nodes [2]*node
	begin := func(i int) {
		t.Helper()
		nodes[i] = startProgram(t, env, "", fmt.Sprint("node", i), "--listen", addresses[i])
	}
	begin(0)
	begin(1)
	sim.pushTo(t, addresses[0])
	var longest time.Duration
	for i := range restarts {
		before := sim.Stats().Requests
		if before+between < contacts {
			eventually(t, 30*time.Second, "more requests", func() (bool, string) {
				n := sim.Stats().Requests
				return n >= before+between, fmt.Sprintf("%d, %d before restart %d", n, before, i)
			})
		} else {
			t.Errorf("restart %d comes after the work: %d requests", i, before)
		}
		began := time.Now()
		if code := nodes[i%2].terminate(t, drainMost); code != exitOK {
			t.Errorf("restart %d: exit code %d", i, code)
		}
		longest = max(longest, time.Since(began))
		begin(i % 2)
	}
	everyCallHasItsOutcome(t, db, sim, contacts)
	for _, n := range nodes {
		if code := n.terminate(t, drainMost); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
	if n := doubt(t, db); n != 0 {
		t.Errorf("%d attempts are in doubt, want none", n)
	}
	h := sim.history(t, contacts)
	h.agrees(t, db)
	t.Logf("%d restarts, the longest drain took %s; %d requests", restarts, longest, len(h.requests))
}

// A node that is told to stop while its database is away, or does not answer any more,
// ends within its deadline, and says what it could not write.
func TestStopWithoutDatabase(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"away", "silent"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			const contacts, drain = 3000, 8 * time.Second
			pg := startServer(t, folder(t))
			env := environment{"DATABASE_URL": pg.URL()}
			env.must(t, "migrate")
			sim := simulate(t, simulator.Config{Faults: simulator.Faults{Delay: simulator.Range{Min: 300 * time.Millisecond, Max: 700 * time.Millisecond}}})
			sim.prepare(t, env, contacts)
			w := newWire(t, pg)
			env["DATABASE_URL"] = "postgres://dialer@" + w.address + "/dialer?sslmode=disable"
			n := startProgram(t, env, "", way, "--listen", "127.0.0.1:0", "--drain", drain.String(), "--timeout", "3s")
			sim.pushTo(t, n.address)
			eventually(t, 30*time.Second, "1000 requests", func() (bool, string) {
				n := sim.Stats().Requests
				return n >= 1000, fmt.Sprint(n)
			})
			if way == "away" {
				pg.stop(t)
			} else {
				w.silence()
			}
			began := time.Now()
			// Two seconds to say goodbye to the database, one to those who push.
			if code := n.terminate(t, drain+5*time.Second); code != exitFailure {
				t.Errorf("exit code %d, want %d", code, exitFailure)
			}
			took := time.Since(began)
			var said int
			if _, err := fmt.Sscanf(n.said(), "what came of %d attempts could not be written", &said); err != nil {
				t.Fatalf("it does not say how many attempts stay unknown: %q", n.said())
			}
			if way == "away" {
				pg.start(t)
			}
			// The last batch of intents may have been written or not, and so may the last batch
			// of responses, whose commit nobody heard of.
			if is := doubt(t, open(t, pg.URL())); said < is || said > is+100+500 {
				t.Errorf("it says that %d attempts stay unknown, it is %d", said, is)
			}
			t.Logf("it ended after %s: %s", took, n.said())
		})
	}
}

// A database that falls silent without closing its connections, as behind a broken
// network, is found again by new ones.
func TestPostgresFallsSilent(t *testing.T) {
	t.Parallel()
	const contacts = 2500
	pg := startServer(t, folder(t))
	env := environment{"DATABASE_URL": pg.URL()}
	env.must(t, "migrate")
	sim := simulate(t, simulator.Config{})
	sim.prepare(t, env, contacts)
	w := newWire(t, pg)
	env["DATABASE_URL"] = "postgres://dialer@" + w.address + "/dialer?sslmode=disable"
	n := startNode(t, env, "one")
	sim.pushTo(t, n.address)
	eventually(t, 30*time.Second, "1000 requests", func() (bool, string) {
		n := sim.Stats().Requests
		return n >= 1000, fmt.Sprint(n)
	})
	w.silence()
	last, since := sim.Stats().Requests, time.Now()
	eventually(t, 20*time.Second, "no request for four seconds", func() (bool, string) {
		if n := sim.Stats().Requests; n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 4*time.Second, fmt.Sprint(last)
	})
	w.restore()
	back := time.Now()
	eventually(t, 10*time.Second, "requests again, 5 s after the database is back, twice that on a busy machine", func() (bool, string) {
		n := sim.Stats().Requests
		return n > last, fmt.Sprint(n)
	})
	t.Logf("calling went on %s after the database was back", time.Since(back))
	db := open(t, pg.URL())
	eventually(t, 60*time.Second, "an outcome for every call", func() (bool, string) {
		st := sim.Stats()
		outcomes := count(t, db, `SELECT count(*) FROM outcome`)
		return outcomes == contacts, fmt.Sprintf("%d outcomes, %d calls", outcomes, st.Accepted)
	})
	sim.history(t, contacts).agrees(t, db)
}

// wire leads to a server, and can fall silent without breaking.
type wire struct {
	address string
	mu      sync.Mutex
	silent  chan struct{} // closed while nothing passes
}

func newWire(t *testing.T, pg *server) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: ln.Addr().String(), silent: make(chan struct{})}
	ended := make(chan struct{})
	var copies sync.WaitGroup
	copies.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			back, err := pg.dial()
			if err != nil {
				client.Close()
				continue
			}
			silent := w.now()
			copies.Go(func() { pass(back, client, silent, ended) })
			copies.Go(func() { pass(client, back, silent, ended) })
			copies.Go(func() {
				<-ended
				client.Close()
				back.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		close(ended)
		copies.Wait()
	})
	return w
}

// pass copies until one end is closed, and from the moment of silence on does nothing,
// nor closes anything.
func pass(to io.WriteCloser, from io.Reader, silent, ended chan struct{}) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-silent:
			<-ended
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (w *wire) now() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.silent
}

// silence makes every connection dead, those that are opened from now on, too.
func (w *wire) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.silent)
}

// restore lets new connections pass. Those that have fallen silent stay so.
func (w *wire) restore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = make(chan struct{})
}
