package dialer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network joins nodes to the platform in memory, and does to their requests what the
// plan of a seed says. It notes when the first byte of each request left, and to
// which requests it did something that leaves their sender in doubt.
type network struct {
	plan    *plan
	trace   *trace
	arrived chan net.Conn // what the platform's listener accepts
	closed  chan struct{}
	late    sync.WaitGroup // requests on their way

	mu       sync.Mutex
	down     bool
	wires    map[*wire]struct{}
	requests map[string]int         // by number called
	left     map[string][]time.Time // first bytes, by OutId
	doubt    map[string]string      // what was done to a request, by OutId
}

func newNetwork(p *plan, tr *trace) *network {
	return &network{
		plan: p, trace: tr, arrived: make(chan net.Conn), closed: make(chan struct{}), wires: make(map[*wire]struct{}),
		requests: make(map[string]int), left: make(map[string][]time.Time), doubt: make(map[string]string),
	}
}

var errNetwork = &net.OpError{Op: "simulated network", Err: syscall.ECONNRESET}

// Accept, Close and Addr make the network the platform's net.Listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.arrived:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.closed:
	default:
		close(n.closed)
	}
	return nil
}

func (n *network) Addr() net.Addr { return loopback{} }

// loopback is where the platform seems to be.
type loopback struct{}

func (loopback) Network() string { return "tcp" }
func (loopback) String() string  { return "127.0.0.1:80" }

// dialer is how a node reaches the platform.
func (n *network) dialer(s *simNode) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		s.wait(ctx.Done())
		if d := n.plan.dialDelay(s.random()); d > 0 {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		n.mu.Lock()
		refused := n.down || s.isCut()
		n.mu.Unlock()
		if refused || ctx.Err() != nil {
			return nil, errNetwork
		}
		near, far := net.Pipe()
		select {
		case n.arrived <- far:
		case <-n.closed:
			return nil, errNetwork
		}
		w := &wire{Conn: near, network: n, node: s, closed: make(chan struct{})}
		n.mu.Lock()
		n.wires[w] = struct{}{}
		n.mu.Unlock()
		return w, nil
	}
}

// cut breaks the connections of one node, or of all if it is nil.
func (n *network) cut(s *simNode, why string) {
	n.mu.Lock()
	var broken []*wire
	for w := range n.wires {
		if s == nil || w.node == s {
			broken = append(broken, w)
		}
	}
	n.mu.Unlock()
	for _, w := range broken {
		w.suspect(why)
		_ = w.Close()
	}
}

func (n *network) setDown(down bool) {
	n.mu.Lock()
	n.down = down
	n.mu.Unlock()
	if down {
		n.cut(nil, "network down")
	}
}

// isDown tells whether the network is down now.
func (n *network) isDown() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

// fateKind is what the network does to one request.
type fateKind string

const (
	cutRequest  fateKind = "request cut after byte k"          // the sender is told
	swallow     fateKind = "request lost after byte k"         // the sender is not told
	slowRequest fateKind = "request delayed"                   // it arrives, even if the sender gives up meanwhile
	cutAnswer   fateKind = "answer cut after byte k"           //
	slowAnswer  fateKind = "answer delayed"                    //
	noAnswer    fateKind = "answer lost, connection left open" //
	drip        fateKind = "answer in drips"                   //
	emptyAnswer fateKind = "answer without a body"             //
)

var fateKinds = []fateKind{cutRequest, swallow, slowRequest, cutAnswer, slowAnswer, noAnswer, drip, emptyAnswer}

type fate struct {
	kind  fateKind // "": none
	part  float64  // k as a share of the whole
	delay time.Duration
}

// wire is a node's end of a connection to the platform.
type wire struct {
	net.Conn
	network *network
	node    *simNode
	once    sync.Once
	closed  chan struct{}

	mu       sync.Mutex
	deadline time.Time // for writing
	outID    string    // of the request under way; "" when it is answered
	fate     fate
	answered int  // bytes of its answer
	slept    bool // its answer was delayed already
	onWay    int  // requests that have left and not arrived
}

func (w *wire) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (w *wire) SetWriteDeadline(t time.Time) error {
	w.node.wait(w.closed) // a node may be stopped between two steps
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = t
	return nil
}

// Close lets arrive what is on its way.
func (w *wire) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.network.mu.Lock()
		delete(w.network.wires, w)
		w.network.mu.Unlock()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.onWay == 0 {
			_ = w.Conn.Close()
		}
	})
	return nil
}

func (w *wire) isClosed() bool {
	select {
	case <-w.closed:
		return true
	default:
		return false
	}
}

// suspect notes that the sender of the request under way cannot know what came of it.
func (w *wire) suspect(why string) {
	w.mu.Lock()
	outID := w.outID
	w.mu.Unlock()
	if outID == "" {
		return
	}
	w.network.mu.Lock()
	defer w.network.mu.Unlock()
	if w.network.doubt[outID] == "" {
		w.network.doubt[outID] = why
	}
}

func (w *wire) Write(p []byte) (int, error) {
	w.node.wait(w.closed)
	w.mu.Lock()
	deadline := w.deadline
	w.mu.Unlock()
	switch {
	case w.isClosed(), w.node.isCut(), w.network.isDown():
		_ = w.Close()
		return 0, errNetwork
	case !deadline.IsZero() && !time.Now().Before(deadline):
		return 0, os.ErrDeadlineExceeded
	}
	outID := parameter(p, "OutId=")
	if outID == "" {
		return w.Conn.Write(p) // a question about a call
	}
	f, k := w.network.request(parameter(p, "CalledNumber="), outID, len(p))
	w.mu.Lock()
	w.outID, w.fate, w.answered, w.slept = outID, f, 0, false
	w.mu.Unlock()
	if f.kind != "" {
		w.suspect(string(f.kind))
	}
	switch f.kind {
	case cutRequest:
		_, _ = w.Conn.Write(p[:k])
		_ = w.Close()
		return k, errNetwork
	case swallow:
		_, _ = w.Conn.Write(p[:k])
		_ = w.Close()
		return len(p), nil
	case slowRequest:
		later := bytes.Clone(p)
		w.mu.Lock()
		w.onWay++
		w.mu.Unlock()
		w.network.late.Go(func() {
			time.Sleep(f.delay)
			_, _ = w.Conn.Write(later)
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.onWay--; w.onWay == 0 && w.isClosed() {
				_ = w.Conn.Close()
			}
		})
		return len(p), nil
	}
	return w.Conn.Write(p)
}

// request notes a request whose first byte leaves, and says what becomes of it, and at
// which of its bytes.
func (n *network) request(phone, outID string, size int) (fate, int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests[phone]++
	f := n.plan.fate(phone, n.requests[phone])
	k := min(int(f.part*float64(size+1)), size)
	if f.kind != cutRequest || k > 0 { // or not a byte leaves, and the sender knows
		n.left[outID] = append(n.left[outID], time.Now())
	}
	n.trace.add("request %s to %s leaves %s", outID, phone, f)
	return f, k
}

func (f fate) String() string {
	if f.kind == "" {
		return ""
	}
	return fmt.Sprintf("(%s, k = %.2f, %v)", f.kind, f.part, f.delay)
}

func (w *wire) Read(p []byte) (int, error) {
	w.mu.Lock()
	f := w.fate
	w.mu.Unlock()
	if f.kind == drip && len(p) > 16 {
		p = p[:16]
	}
	n, err := w.Conn.Read(p)
	if w.node.isHung() {
		w.suspect("the node hung")
		w.node.wait(w.closed)
	}
	if w.isClosed() {
		return 0, net.ErrClosed
	}
	if err != nil {
		w.suspect("connection closed")
		return n, err
	}
	w.mu.Lock()
	f, before, slept := w.fate, w.answered, w.slept
	w.answered += n
	w.slept = true
	w.mu.Unlock()
	switch f.kind {
	case noAnswer:
		<-w.closed
		return 0, net.ErrClosed
	case cutAnswer:
		if k := int(f.part * 400); before+n >= k { // an answer has 300 to 400 bytes
			_ = w.Close()
			return max(k-before, 0), io.ErrUnexpectedEOF
		}
	case emptyAnswer:
		if before == 0 {
			return copy(p, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), nil
		}
	case slowAnswer:
		if !slept && !w.sleep(f.delay) {
			return 0, net.ErrClosed
		}
	case drip:
		if !w.sleep(f.delay / 20) {
			return 0, net.ErrClosed
		}
	}
	return n, nil
}

// sleep waits, unless the connection is closed meanwhile.
func (w *wire) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.closed:
		return false
	}
}

// parameter returns the value of a parameter in a request's first line.
func parameter(request []byte, name string) string {
	line, _, _ := bytes.Cut(request, []byte("\r\n"))
	_, rest, _ := bytes.Cut(line, []byte("&"+name))
	if rest == nil {
		_, rest, _ = bytes.Cut(line, []byte("?"+name))
	}
	if i := bytes.IndexAny(rest, "& "); i >= 0 {
		rest = rest[:i]
	}
	return string(rest)
}

// pcg is a source of random numbers that depends on nothing but its arguments.
func pcg(seed uint64, more ...uint64) *rand.Rand {
	h := seed
	for _, m := range more {
		h = (h ^ m) * 0x9E3779B97F4A7C15
		h ^= h >> 29
	}
	return rand.New(rand.NewPCG(seed, h))
}
