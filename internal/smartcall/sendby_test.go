package smartcall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// slowKeys gives the key only when the time has come, so that a request passes its
// send-by between the first look at the clock and the write.
type slowKeys struct {
	Credentials
	until time.Time
}

func (s slowKeys) Get(ctx context.Context) (Key, error) {
	<-time.After(time.Until(s.until) + time.Millisecond)
	return s.Credentials.Get(ctx)
}

func TestSendByHasPassed(t *testing.T) {
	p := newPlatform(t, acceptAll)
	client := newClient(t, p.endpoint)
	for _, sendBy := range []time.Time{{}, time.Now().Add(-time.Nanosecond)} {
		if _, e := callBy(t.Context(), t, client, "OUT1", sendBy); e == nil || e.Class != ClassUnsent || !errors.Is(e, errLate) {
			t.Errorf("send by %v: got %v, want unsent", sendBy, e)
		}
	}
	if n := p.conns.Load(); n != 0 {
		t.Errorf("%d connections were opened in vain", n)
	}
}

func TestSendByPassesBeforeTheWrite(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			const conns = 4
			arrived, release := make(chan bool), make(chan bool)
			p, trust := newPlatformFor(t, scheme, func(p *platform, c net.Conn, r *bufio.Reader) {
				for {
					outID, ok := p.read(r)
					if !ok {
						return
					}
					arrived <- true
					<-release
					_, _ = io.WriteString(c, response(200, acceptedBody(outID)))
				}
			})
			client := newClient(t, p.endpoint, trust, func(c *Config) { c.Conns = conns })
			keys := client.credentials
			for round := range 10 {
				// All connections are open and, once the calls are over, idle.
				var group sync.WaitGroup
				for i := range conns {
					group.Go(func() {
						if _, e := call(t.Context(), t, client, fmt.Sprintf("WARM%d-%d", round, i)); e != nil {
							t.Error(e)
						}
					})
				}
				for range conns {
					<-arrived
				}
				for range conns {
					release <- true
				}
				group.Wait()
				// Every late request costs the connection on which it was stopped, no more.
				if got, want := p.conns.Load(), int64(conns+round); got != want {
					t.Errorf("%d connections after %d late requests, want %d", got, round, want)
				}

				sendBy := time.Now().Add(5 * time.Millisecond)
				client.credentials = slowKeys{keys, sendBy}
				outID := fmt.Sprint("LATE", round)
				_, e := callBy(t.Context(), t, client, outID, sendBy)
				client.credentials = keys
				if e == nil || e.Class != ClassUnsent || !errors.Is(e, errLate) {
					t.Fatalf("got %v, want unsent", e)
				}
				if p.seen(outID) != 0 {
					t.Error("the late request came")
				}
			}
		})
	}
}

// A write that is under way when the time has passed is stopped by the socket.
func TestSendByPassesWithinTheWrite(t *testing.T) {
	near, far := net.Pipe() // a write to a pipe waits for a reader
	defer func() { _ = near.Close(); _ = far.Close() }()
	defer time.AfterFunc(5*time.Second, func() { _ = near.Close() }).Stop() // rather than hang
	ctx, abandon := context.WithCancel(t.Context())
	defer abandon()
	c := &conn{Conn: near}
	f := newFlight(ctx, time.Now().Add(20*time.Millisecond))
	f.attach(c)
	n, err := c.Write([]byte("POST / HTTP/1.1\r\n"))
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d, %v; want nothing written, time-out", n, err)
	}
	if written, sentAt := f.seal(); written != 0 || !sentAt.IsZero() {
		t.Errorf("got %d bytes, sent at %v", written, sentAt)
	}
}

func TestLate(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		sendBy time.Time
		want   bool
	}{
		{"ahead", now.Add(time.Nanosecond), false},
		{"at the time", now, true},
		{"past", now.Add(-time.Nanosecond), true},
		{"no time at all", time.Time{}, true},
		{"ahead by the wall clock, which is all a stored time has", now.Add(time.Second).Round(0), false},
		{"past by the wall clock", now.Add(-time.Second).Round(0), true},
	} {
		if got := late(now, c.sendBy); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// After seal nothing of the request is written, whoever still tries.
func TestSealedFlight(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close(); _ = far.Close() }()
	ctx, abandon := context.WithCancel(t.Context())
	defer abandon()
	c := &conn{Conn: near}
	f := newFlight(ctx, time.Now().Add(time.Second))
	f.attach(c)
	f.seal()
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, errSealed) {
		t.Errorf("got %d, %v", n, err)
	}

	// A request that was cancelled before its first byte has none.
	f = newFlight(ctx, time.Now().Add(time.Second))
	f.attach(c)
	abandon()
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, errSealed) {
		t.Errorf("got %d, %v", n, err)
	}
}
