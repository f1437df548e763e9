package dialer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"dialer/internal/dialer"
	"dialer/internal/postgres"
)

// simNode is a process: the real engine, and the strings by which it hangs.
type simNode struct {
	w    *world
	name string

	mu     sync.Mutex
	rand   *rand.Rand
	cutOff bool          // crashed: nothing it does can be seen any more
	noDB   bool          // the database is down for this node only
	gate   chan struct{} // not nil: the node hangs until it is closed
	conns  map[*dbConn]struct{}
	engine *dialer.Dialer // nil until it could open the database

	cancel context.CancelFunc
	done   chan struct{}
}

// startNode starts a process that, like one under a supervisor, is started again if it
// cannot reach the database at its start.
func (w *world) startNode() *simNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	number := len(w.nodes) + 1
	s := &simNode{w: w, name: fmt.Sprintf("node-%d", number), rand: pcg(w.plan.seed, 3, uint64(number)), conns: make(map[*dbConn]struct{}), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	w.nodes = append(w.nodes, s)
	w.trace.add("%s starts", s.name)
	go func() {
		defer close(s.done)
		for ctx.Err() == nil {
			s.live(ctx)
			timer := time.NewTimer(time.Second)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}()
	return s
}

// live is the life of one process.
func (s *simNode) live(ctx context.Context) {
	cfg := s.w.database.config(s.w.t, s)
	cfg.ConnConfig.Tracer = s.w.clock
	db, err := postgres.OpenConfig(ctx, cfg)
	if err != nil {
		s.w.trace.add("%s cannot start: %v", s.name, err)
		return
	}
	defer db.Close()
	engine := dialer.New(dialer.Config{
		DB: db, Log: slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{ReplaceAttr: withoutTime})), Name: s.name, Account: "main",
		Secret: func(ref string) (string, error) {
			return map[string]string{"id": "key", "secret": "secret", "receipts": receiptSecret}[ref], nil
		},
		Dial: s.w.network.dialer(s), Senders: s.w.plan.limit,
		RequestTimeout: simRequestTimeout, SendWithin: simSendWithin, LeaseTTL: simLeaseTTL, AskAfter: simAskAfter, LostAfter: simLostAfter, Poll: time.Second,
	})
	s.mu.Lock()
	s.engine = engine
	s.mu.Unlock()
	err = engine.Run(ctx)
	s.mu.Lock()
	s.engine = nil
	s.mu.Unlock()
	if err != nil {
		s.w.trace.add("%s ends: %v", s.name, err)
	}
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// Write takes the node's log into the trace.
func (s *simNode) Write(p []byte) (int, error) {
	s.w.trace.add("%s: %s", s.name, bytes.TrimSpace(p))
	return len(p), nil
}

// random is a number source for this node; only the director's own decisions may need
// more than one number in a row.
func (s *simNode) random() *rand.Rand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rand.New(rand.NewPCG(s.rand.Uint64(), 0))
}

// crash cuts the node off for ever. What it goes on to do is no longer of this world.
func (s *simNode) crash() {
	s.mu.Lock()
	s.cutOff = true
	conns := make([]*dbConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	s.w.network.cut(s, "the node crashed")
	for _, c := range conns {
		_ = c.Close()
	}
	s.resume()
	s.cancel()
}

func (s *simNode) isCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cutOff
}

// hang stops everything that goes out of the node or comes in.
func (s *simNode) hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate == nil && !s.cutOff {
		s.gate = make(chan struct{})
	}
}

func (s *simNode) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != nil {
		close(s.gate)
		s.gate = nil
	}
}

func (s *simNode) isHung() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate != nil
}

// wait waits while the node hangs, or until done.
func (s *simNode) wait(done <-chan struct{}) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate == nil {
		return
	}
	select {
	case <-gate:
	case <-done:
	}
}

func (s *simNode) setDatabaseDown(down bool) {
	s.mu.Lock()
	s.noDB = down
	s.mu.Unlock()
}

func (s *simNode) databaseDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noDB || s.w.noDatabase.Load()
}

// stop tells the node to end, and waits until it has.
func (s *simNode) stop() {
	s.w.trace.add("%s is told to stop", s.name)
	s.cancel()
	<-s.done
}

// posts carries the platform's pushes to the nodes.
type posts struct {
	w  *world
	mu sync.Mutex
	n  uint64
}

// RoundTrip makes posts the platform's http.RoundTripper.
func (p *posts) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.n++
	r := pcg(p.w.plan.seed, 4, p.n)
	p.mu.Unlock()
	pl, healed := p.w.plan, p.w.plan.over.Load()
	lost, unacked, double, dawdle := r.Float64() < pl.lose, r.Float64() < pl.unacked, r.Float64() < pl.double, r.Float64() < pl.dawdle
	if lost && !healed || p.w.network.isDown() {
		return nil, errNetwork
	}
	if dawdle && !healed {
		time.Sleep(time.Duration(r.IntN(int(3 * time.Second))))
	}
	nodes := p.w.alive()
	if len(nodes) == 0 {
		return nil, errNetwork
	}
	first := r.IntN(len(nodes))
	answer := make(chan *http.Response, 2)
	p.w.deliver(nodes[first], body, req, answer)
	if double {
		p.w.deliver(nodes[(first+1)%len(nodes)], body, req, answer)
	}
	select {
	case resp := <-answer:
		if resp == nil || unacked && !healed {
			return nil, errNetwork
		}
		return resp, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// deliver gives a push to a node. A nil answer is a broken connection.
func (w *world) deliver(s *simNode, body []byte, req *http.Request, answer chan<- *http.Response) {
	w.background.Go(func() {
		s.wait(nil)
		s.mu.Lock()
		engine := s.engine
		s.mu.Unlock()
		if engine == nil || s.isCut() {
			answer <- nil
			return
		}
		// The platform may hang up; a handler goes on with what it has read.
		again, err := http.NewRequest(req.Method, req.URL.String(), bytes.NewReader(body))
		if err != nil {
			answer <- nil
			return
		}
		again.Header = req.Header
		rec := httptest.NewRecorder()
		engine.Receipts().ServeHTTP(rec, again)
		s.wait(nil)
		if s.isCut() {
			answer <- nil
			return
		}
		answer <- rec.Result()
	})
}

// alive returns the nodes that were not crashed or told to stop.
func (w *world) alive() []*simNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	var nodes []*simNode
	for _, s := range w.nodes {
		select {
		case <-s.done:
			continue
		default:
		}
		if !s.isCut() {
			nodes = append(nodes, s)
		}
	}
	return nodes
}
