package smartcall

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// link is an open connection to the platform. It carries one request at a time, and
// belongs to whoever took it out of the pool.
//
// The sender writes its request and reads the answer itself. http.Transport would pass
// both through goroutines of the connection, which is half of what a request costs, and
// it may decide to make a request again; here is nobody who could.
type link struct {
	socket  *conn
	raw     syscall.RawConn // of the socket, to look at it; nil: it exists in memory only
	stream  net.Conn        // the socket, or TLS on it
	limit   io.LimitedReader
	answers *bufio.Reader
	out     []byte // the request as it is written, kept for the next one

	lastID string    // the RequestId of the last answer
	idle   time.Time // since when it lies in the pool
}

func newLink(socket *conn, stream net.Conn) *link {
	l := &link{socket: socket, stream: stream}
	l.limit.R = stream
	l.answers = bufio.NewReader(&l.limit)
	if s, ok := socket.Conn.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			l.raw = raw
		}
	}
	return l
}

// alive tells whether an idle connection may carry a request: it is not over, and
// nothing has come that nobody asked for. In the moment after that it may still end.
func (l *link) alive() bool { return l.raw == nil || silent(l.raw) }

// close ends the connection. What the kernel has not sent yet is dropped with it: a
// request that was given up must not leave this machine minutes later, when a network is
// back, into a second that the limiter has long given to another.
func (l *link) close() {
	if tcp, ok := l.socket.Conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0) // fails on a connection that is over
	}
	_ = l.socket.Close()
}

// interruptible calls f, whose work on a connection ends at once when ctx does, because
// the connection is broken off. It returns false if that happened, even if f was through
// with it.
func interruptible(ctx context.Context, breakOff func(), f func() error) (bool, error) {
	stop := context.AfterFunc(ctx, breakOff)
	err := f()
	return stop(), err
}

// write writes a request: POST without a body, and no header that claims that it may
// come twice.
func (l *link) write(host, query string, header http.Header) error {
	b := buffer{l.out[:0]}
	b.text("POST /?", query, " HTTP/1.1\r\nHost: ", host, "\r\nContent-Length: 0\r\n")
	if err := header.Write(&b); err != nil {
		return err
	}
	b.text("\r\n")
	l.out = b.bytes
	_, err := l.stream.Write(l.out)
	return err
}

// buffer collects text.
type buffer struct{ bytes []byte }

func (b *buffer) Write(p []byte) (int, error) {
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

// WriteString is what http.Header.Write looks for.
func (b *buffer) WriteString(s string) (int, error) {
	b.bytes = append(b.bytes, s...)
	return len(s), nil
}

func (b *buffer) text(parts ...string) {
	for _, p := range parts {
		b.bytes = append(b.bytes, p...)
	}
}

// posted tells http.ReadResponse which answers have a body.
var posted = &http.Request{Method: http.MethodPost}

// maxProvisional is how many answers with a status of 1xx may come before the answer.
const maxProvisional = 5

var errProvisional = errors.New("too many provisional answers")

// read reads the answer to its end, noting the status on the way. Reusable says that
// the connection may carry another request.
func (l *link) read(status *int) (body []byte, reusable bool, err error) {
	for range maxProvisional {
		l.limit.N = maxHeader
		resp, err := http.ReadResponse(l.answers, posted)
		if err != nil {
			return nil, false, err
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		*status = resp.StatusCode
		l.limit.N = 2 * maxBody // the text of the chunks, too
		// The body is not closed: that would read an endless one to its end.
		if body, err = readBody(resp.Body); err != nil {
			return nil, false, err
		}
		return body, !resp.Close && resp.StatusCode >= 200 && l.answers.Buffered() == 0, nil
	}
	return nil, false, errProvisional
}
