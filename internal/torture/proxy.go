package torture

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy on loopback between two parts, on which things go wrong. It
// forwards to a TCP address or a unix socket. Its methods may be called from any
// goroutine.
type Proxy struct {
	address string
	inside  *Namespace // where it listens
	work    sync.WaitGroup
	taps    func() (request, response filter) // nil: bytes pass as they come

	mu              sync.Mutex
	network, target string
	listener        net.Listener // nil while connections are refused
	plan            func(conn int) Plan
	links           map[*link]bool
	stats           ProxyStats
}

// ProxyStats counts what passed through a proxy.
type ProxyStats struct {
	Connections int // accepted
	Open        int
	Cut         int // broken by the proxy
	Failed      int // whose target could not be reached
	Request     int64
	Response    int64 // bytes forwarded to the target, and back
}

// Plan is what happens on one connection. The zero Plan forwards everything.
type Plan struct {
	Request  Way // from the one who connected to the target
	Response Way // and back
	// BlackHole swallows what comes from either side and says nothing.
	BlackHole bool
}

// Way is one direction of a connection.
type Way struct {
	// Cut ends the connection after a number of bytes in this direction; nil: never.
	Cut *Cut
	// Delay and, at random, up to Jitter more are waited before each piece.
	Delay, Jitter time.Duration
	// Drip forwards single bytes, so long apart.
	Drip time.Duration
}

// Cut says after how many bytes a connection ends, and how. After 0 it ends when the
// first byte comes, which is not forwarded.
type Cut struct {
	After int64
	How   How
}

// How is a way to end a connection.
type How int

// Ways to end a connection.
const (
	RST       How = iota // both sides are told that it is broken
	FIN                  // both sides are told that it is over
	HalfClose            // the receiver is told that no more comes; the way back stays open, and the sender learns nothing
)

// filter looks at the bytes of one direction of a connection. It returns what is to be
// forwarded now, and whether the connection ends after that.
type filter interface {
	pass(chunk []byte) (out []byte, cut bool, how How)
}

// NewProxy starts a proxy to a target, such as ("tcp", "127.0.0.1:5432") or ("unix",
// "/run/.s.PGSQL.5432"), that ends with the test.
func NewProxy(t testing.TB, network, target string) *Proxy {
	t.Helper()
	return newProxy(t, nil, loopback(port(t)), network, target, nil)
}

// NewProxyIn is NewProxy for a proxy that listens at an address inside a network, and
// connects to what is outside it.
func NewProxyIn(t testing.TB, inside *Namespace, address, network, target string) *Proxy {
	t.Helper()
	return newProxy(t, inside, address, network, target, nil)
}

func newProxy(t testing.TB, inside *Namespace, address, network, target string, taps func() (request, response filter)) *Proxy {
	t.Helper()
	p := &Proxy{
		address: address, inside: inside, taps: taps, network: network, target: target,
		plan: func(int) Plan { return Plan{} }, links: make(map[*link]bool),
	}
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Partition()
		p.work.Wait()
	})
	return p
}

// Addr is where the proxy listens, also while it refuses connections.
func (p *Proxy) Addr() string { return p.address }

// Stats returns the counts up to now.
func (p *Proxy) Stats() ProxyStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.stats
	st.Open = len(p.links)
	return st
}

// Plan decides what happens on new connections, which are counted from 1. Those that
// are open are left alone.
func (p *Proxy) Plan(plan func(conn int) Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = plan
}

// Now decides what happens on all connections, open ones included. Bytes that have
// passed count for a Cut. A connection that comes out of a black hole is broken: what
// it swallowed is missing.
func (p *Proxy) Now(plan Plan) {
	p.Plan(func(int) Plan { return plan })
	for _, l := range p.open() {
		if l.become(plan) {
			l.cut(RST)
		}
	}
}

// Retarget sends new connections to another target.
func (p *Proxy) Retarget(network, target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network, p.target = network, target
}

// Refuse lets the machine refuse new connections. Those that are open stay.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
}

// CutAll breaks the connections that are open now and returns how many they were.
func (p *Proxy) CutAll() int {
	open := p.open()
	for _, l := range open {
		l.cut(RST)
	}
	return len(open)
}

// Partition refuses new connections and breaks the open ones.
func (p *Proxy) Partition() {
	p.Refuse()
	p.CutAll()
}

// Heal takes connections again after Refuse or Partition.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil
	}
	ln, err := p.inside.listen(p.address)
	if err != nil {
		return fmt.Errorf("proxy to %s: %w", p.target, err)
	}
	p.listener = ln
	p.work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			p.accepted(ln, c.(*net.TCPConn))
		}
	})
	return nil
}

func (p *Proxy) open() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*link, 0, len(p.links))
	for l := range p.links {
		all = append(all, l)
	}
	return all
}

// accepted begins the service of a connection, unless the listener was closed while
// the connection was being accepted.
func (p *Proxy) accepted(ln net.Listener, client *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != ln {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	p.stats.Connections++
	l := &link{proxy: p, client: client, gone: make(chan struct{}), plan: p.plan(p.stats.Connections)}
	p.links[l] = true
	network, target := p.network, p.target
	p.work.Go(func() { l.serve(network, target) })
}

// link is one connection through the proxy.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	gone   chan struct{} // closed when the connection is broken or over

	mu     sync.Mutex
	plan   Plan
	server net.Conn // nil until connected
	over   bool
}

// become changes the plan and tells whether the link was a black hole and is none now.
func (l *link) become(plan Plan) (emerged bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	emerged = l.plan.BlackHole && !plan.BlackHole
	l.plan = plan
	return emerged
}

func (l *link) now() Plan {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plan
}

// serve forwards until the connection is over.
func (l *link) serve(network, target string) {
	defer l.close(FIN)
	if l.now().BlackHole {
		// Nobody is called at the other end, and the one who called may wait.
		swallow(l.client)
		return
	}
	server, err := net.Dial(network, target)
	if err != nil {
		l.proxy.count(func(st *ProxyStats) { st.Failed++ })
		l.close(RST)
		return
	}
	if !l.connected(server) {
		server.Close()
		return
	}
	var request, response filter
	if l.proxy.taps != nil {
		request, response = l.proxy.taps()
	}
	var both sync.WaitGroup
	both.Go(func() {
		l.forward(l.client, server, request, func(p Plan) Way { return p.Request }, func(st *ProxyStats, n int64) { st.Request += n })
	})
	both.Go(func() {
		l.forward(server, l.client, response, func(p Plan) Way { return p.Response }, func(st *ProxyStats, n int64) { st.Response += n })
	})
	both.Wait()
}

func swallow(c net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

func (l *link) connected(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server = server
	return !l.over
}

// forward carries one direction to its end, which it passes on.
func (l *link) forward(from, to net.Conn, f filter, way func(Plan) Way, count func(*ProxyStats, int64)) {
	buf := make([]byte, 32<<10)
	var passed int64
	deaf := false // the receiver was told that no more comes
	for {
		n, err := from.Read(buf)
		chunk, cut, how := buf[:n], false, RST
		if f != nil && n > 0 {
			chunk, cut, how = f.pass(chunk)
		}
		for len(chunk) > 0 && !deaf {
			plan := l.now()
			if plan.BlackHole {
				break
			}
			w := way(plan)
			piece := chunk
			if w.Drip > 0 {
				piece = chunk[:1]
			}
			if !l.wait(w) {
				return
			}
			if w.Cut != nil && passed+int64(len(piece)) >= w.Cut.After {
				piece, cut, how = piece[:max(w.Cut.After-passed, 0)], true, w.Cut.How
				chunk = piece
			}
			if _, err := to.Write(piece); err != nil && len(piece) > 0 {
				l.close(RST) // the other side broke it
				return
			}
			passed += int64(len(piece))
			chunk = chunk[len(piece):]
			l.proxy.count(func(st *ProxyStats) { count(st, int64(len(piece))) })
		}
		switch {
		case cut && how == HalfClose:
			deaf = true
			closeWrite(to)
		case cut:
			l.cut(how)
			return
		case err != nil:
			if !l.now().BlackHole {
				closeWrite(to)
			}
			return
		}
	}
}

// wait waits before a piece, and returns false if the connection ended meanwhile.
func (l *link) wait(w Way) bool {
	d := w.Delay + w.Drip
	if w.Jitter > 0 {
		d += rand.N(w.Jitter)
	}
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.gone:
		return false
	}
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails on a connection that is over already
	}
}

// cut breaks the connection on purpose.
func (l *link) cut(how How) {
	if l.close(how) {
		l.proxy.count(func(st *ProxyStats) { st.Cut++ })
	}
}

// close ends both sides, and returns false if they had ended before. Errors say only
// that a side has ended by itself.
func (l *link) close(how How) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.over = true
	close(l.gone)
	for _, c := range []net.Conn{l.client, l.server} {
		if tcp, ok := c.(*net.TCPConn); ok && how == RST {
			_ = tcp.SetLinger(0)
		}
		if c != nil {
			_ = c.Close()
		}
	}
	l.proxy.mu.Lock()
	delete(l.proxy.links, l)
	l.proxy.mu.Unlock()
	return true
}

func (p *Proxy) count(f func(*ProxyStats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.stats)
}
