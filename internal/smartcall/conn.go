package smartcall

import (
	"context"
	"errors"
	"net"
	"time"

	"dialer/internal/failpoint"
)

var (
	errLate   = errors.New("the time to send by had passed before the first byte")
	errSealed = errors.New("the request was given up before it was written")
)

// conn is the network connection below TLS. It knows which request it carries and
// asks that request before each write, so that the bytes of every request are
// counted at the socket and none is written that may no longer be.
//
// A connection is set up before it carries a request (TLS handshake and a proxy's
// CONNECT included), so none of that is counted. It belongs to one goroutine at a time,
// which writes the request and reads the answer by itself.
type conn struct {
	net.Conn
	flight *flight // nil until the first request
}

// Write writes p as a part of the attached request. A connection keeps its last
// flight when that is over: what TLS may still write for it is refused. (While a
// request is attached such bytes are counted as the request's: an error on the side of
// unknown.)
func (c *conn) Write(p []byte) (int, error) {
	if c.flight == nil {
		return c.Conn.Write(p)
	}
	return c.flight.write(c, p)
}

// flight is one request on its way: what of it was written, and whether more may be.
// It belongs to the goroutine that makes the request.
type flight struct {
	sendBy time.Time       // no byte leaves later than this
	done   <-chan struct{} // closed when the request is given up

	written int64
	sentAt  time.Time
	sealed  bool
}

func newFlight(ctx context.Context, sendBy time.Time) *flight {
	return &flight{sendBy: sendBy, done: ctx.Done()}
}

// attach says that the request is about to be written to a connection.
func (f *flight) attach(c *conn) {
	// The socket itself refuses what comes late in the middle of a request, or when
	// the process was stopped between the check of the clock in write and the system
	// call. The check is needed as well: a write right after a pause may succeed
	// although its deadline has passed, because the timer has not fired yet.
	_ = c.SetWriteDeadline(f.sendBy) // fails on a closed connection only, and so will the write
	c.flight = f
}

func (f *flight) write(c *conn, p []byte) (int, error) {
	switch {
	case f.sealed:
		return 0, errSealed
	case f.written == 0:
		select {
		case <-f.done:
			return 0, errSealed
		default:
		}
		failpoint.Hit(failpoint.BeforeWrite)
		if f.sentAt = time.Now(); late(f.sentAt, f.sendBy) {
			return 0, errLate
		}
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
	f.sealed = true
	if f.written == 0 {
		return 0, time.Time{}
	}
	return f.written, f.sentAt
}
