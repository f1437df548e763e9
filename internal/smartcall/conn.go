package smartcall

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"dialer/internal/failpoint"
)

var (
	errLate   = errors.New("the time to send by had passed before the first byte")
	errTwice  = errors.New("the transport tried to write a request again of which bytes had left")
	errSealed = errors.New("the request was given up before it was written")
)

// conn is the network connection below TLS. It knows which request it carries and
// asks that request before each write, so that the bytes of every request are
// counted at the socket and none is written that may no longer be.
//
// How a request and its connection find each other: the transport calls GotConn in
// the goroutine of RoundTrip, after the connection is set up (TLS handshake and a
// proxy's CONNECT included) and before it hands the request to the connection's
// write loop (net/http, Transport.getConn and persistConn.roundTrip). So the
// handshake is not counted, and no byte of a request is written before its flight
// is attached. HTTP/1.1 carries one request at a time, so the flight attached last
// is the one whose bytes are written.
type conn struct {
	net.Conn
	flight atomic.Pointer[flight] // nil until the first request
}

// Write writes p as a part of the attached request. A connection keeps its last
// flight when that is over: what net/http may still write for it is refused. (That
// holds for the farewell of TLS too, which costs nothing but the courtesy. While a
// request is attached such bytes are counted as the request's: an error on the side
// of unknown.)
func (c *conn) Write(p []byte) (int, error) {
	f := c.flight.Load()
	if f == nil {
		return c.Conn.Write(p)
	}
	return f.write(c, p)
}

// flight is one request on its way: what of it was written, and whether more may be.
// Fields without a lock belong to the goroutine that makes the request.
type flight struct {
	sendBy  time.Time // no byte leaves later than this
	done    <-chan struct{}
	abandon context.CancelCauseFunc // ends the request; done is closed then

	previous *flight // the request this connection carried before; see doubled

	mu      sync.Mutex // held during a write, so that seal waits for it
	conn    *conn      // the one connection on which bytes were written
	written int64
	sentAt  time.Time
	sealed  bool

	judged    chan struct{} // closed when the next two are final
	requestID string        // of the answer; "" when none was understood
	tainted   bool          // the connection gives answers to the wrong requests
}

func newFlight(ctx context.Context, abandon context.CancelCauseFunc, sendBy time.Time) *flight {
	return &flight{sendBy: sendBy, done: ctx.Done(), abandon: abandon, judged: make(chan struct{})}
}

// attach is the transport's GotConn: the request is about to be written to this
// connection. It is called again if the transport changes to another one.
func (f *flight) attach(info httptrace.GotConnInfo) {
	c := unwrap(info.Conn)
	// The socket itself refuses what comes late in the middle of a request, or when
	// the process was stopped between the check of the clock in write and the system
	// call. The check is needed as well: a write right after a pause may succeed
	// although its deadline has passed, because the timer has not fired yet.
	_ = c.SetWriteDeadline(f.sendBy) // fails on a closed connection only, and so will the write
	f.previous = c.flight.Swap(f)
}

// unwrap finds our connection below TLS, and below TLS to an https proxy.
func unwrap(c net.Conn) *conn {
	for {
		switch inner := c.(type) {
		case *conn:
			return inner
		case interface{ NetConn() net.Conn }:
			c = inner.NetConn()
		default:
			panic("smartcall: the transport uses a connection that the client did not dial")
		}
	}
}

func (f *flight) write(c *conn, p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.sealed:
		return 0, errSealed
	case f.written > 0 && f.conn != c:
		// net/http repeats a request that it believes nobody saw. It believes so of
		// a TLS record that was half written, and of every request with an
		// Idempotency-Key. Here is where that ends.
		f.abandon(errTwice)
		return 0, errTwice
	case f.written == 0:
		select {
		case <-f.done:
			return 0, errSealed
		default:
		}
		failpoint.Hit(failpoint.BeforeWrite)
		if f.sentAt = time.Now(); late(f.sentAt, f.sendBy) {
			// Giving up the whole request keeps the transport from trying, and
			// closing, one idle connection after the other.
			f.abandon(errLate)
			return 0, errLate
		}
		f.conn = c
	}
	n, err := c.Conn.Write(p)
	f.written += int64(n)
	failpoint.Hit(failpoint.AfterWrite)
	return n, err
}

// late reports whether now is at or past sendBy on either clock: the monotonic one
// stands still while a machine is suspended, the wall clock can be set back.
func late(now, sendBy time.Time) bool {
	return !now.Before(sendBy) || !now.Round(0).Before(sendBy.Round(0))
}

// seal ends the writing of the request and returns how many bytes of it have left
// and when the first did. After seal no byte of it leaves any more.
func (f *flight) seal() (written int64, sentAt time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sealed = true
	if f.written == 0 {
		return 0, time.Time{}
	}
	return f.written, f.sentAt
}

// doubled reports whether the answer with this request id is the one that the
// connection already gave to the request before. Somebody on the way has doubled it
// then, each answer on this connection comes one too early, and its requests are
// unknown from here on.
func (f *flight) doubled(requestID string) bool {
	if f.previous == nil {
		return false
	}
	<-f.previous.judged // its answer was read before we got the connection, so this is soon
	f.tainted = f.previous.tainted || requestID != "" && f.previous.requestID == requestID
	if f.tainted {
		_ = f.conn.Close()
	}
	return f.tainted
}

// judge tells the next request on the connection which answer this one had.
func (f *flight) judge(requestID string) {
	f.requestID = requestID
	f.previous = nil // or the connection would keep all its requests alive
	close(f.judged)
}
