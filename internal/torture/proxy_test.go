package torture

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo is a server that sends back what it gets, and says what came of each of its
// connections: the bytes it got and how they ended.
type echo struct {
	address string
	heard   chan heard
}

type heard struct {
	text string
	err  error
}

func newEcho(t *testing.T, network, address string) *echo {
	t.Helper()
	ln, err := net.Listen(network, address)
	must(t, err)
	e := &echo{address: ln.Addr().String(), heard: make(chan heard, 16)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				var got bytes.Buffer
				_, err := io.Copy(io.MultiWriter(&got, c), c)
				e.heard <- heard{got.String(), err}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return e
}

func (e *echo) next(t *testing.T) heard {
	t.Helper()
	select {
	case h := <-e.heard:
		return h
	case <-time.After(10 * time.Second):
		t.Fatal("the server's connection does not end")
		return heard{}
	}
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c.(*net.TCPConn)
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	must(t, err)
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func TestProxyForwards(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(network, func(t *testing.T) {
			e := newEcho(t, network, address)
			p := NewProxy(t, network, e.address)
			c := dial(t, p.Addr())
			long := strings.Repeat("0123456789", 20_000)
			var writing sync.WaitGroup
			writing.Go(func() {
				io.WriteString(c, long)
				c.CloseWrite()
			})
			if got, err := io.ReadAll(c); err != nil || string(got) != long {
				t.Errorf("got %d bytes back, %v; want %d", len(got), err, len(long))
			}
			writing.Wait()
			if h := e.next(t); h.text != long || h.err != nil {
				t.Errorf("the server heard %d bytes and %v", len(h.text), h.err)
			}
			Eventually(t, 5*time.Second, "the link is over", func() (bool, string) { return p.Stats().Open == 0, "" })
			if st := p.Stats(); st.Connections != 1 || st.Cut != 0 || st.Request != int64(len(long)) || st.Response != int64(len(long)) {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestProxyCutsTheRequest(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := NewProxy(t, "tcp", e.address)
	for _, test := range []struct {
		how   How
		after int64
		want  string // what the server hears
	}{{RST, 3, "abc"}, {FIN, 3, "abc"}, {FIN, 0, ""}, {FIN, 6, "abcdef"}} {
		p.Plan(func(int) Plan { return Plan{Request: Way{Cut: &Cut{After: test.after, How: test.how}}} })
		c := dial(t, p.Addr())
		say(t, c, "abcdef")
		_, err := io.ReadAll(c)
		h := e.next(t)
		reset := errors.Is(err, syscall.ECONNRESET)
		if test.how == RST && (!reset || !errors.Is(h.err, syscall.ECONNRESET) && !errors.Is(h.err, syscall.EPIPE)) {
			t.Errorf("%+v: the client got %v and the server %v, want resets", test, err, h.err)
		}
		if test.how == FIN && reset {
			t.Errorf("%+v: the client got %v, want an end", test, err)
		}
		if h.text != test.want {
			t.Errorf("%+v: the server heard %q", test, h.text)
		}
	}
	if st := p.Stats(); st.Cut != 4 || st.Request != 12 {
		t.Errorf("stats %+v, want 4 cuts after 12 bytes", st)
	}
}

func TestProxyCutsTheResponse(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := NewProxy(t, "tcp", e.address)
	p.Plan(func(int) Plan { return Plan{Response: Way{Cut: &Cut{After: 4, How: FIN}}} })
	c := dial(t, p.Addr())
	say(t, c, "abcdef")
	if got, err := io.ReadAll(c); string(got) != "abcd" || err != nil {
		t.Errorf("got %q, %v; want the first 4 bytes and an end", got, err)
	}
	if h := e.next(t); h.text != "abcdef" {
		t.Errorf("the server heard %q, want everything", h.text)
	}
}

func TestProxyHalfCloses(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := NewProxy(t, "tcp", e.address)
	p.Plan(func(int) Plan { return Plan{Request: Way{Cut: &Cut{After: 3, How: HalfClose}}} })
	c := dial(t, p.Addr())
	say(t, c, "abcdef")
	say(t, c, "ghi") // the client is not told
	if h := e.next(t); h.text != "abc" || h.err != nil {
		t.Errorf("the server heard %q, %v; want the first 3 bytes and an end", h.text, h.err)
	}
	if got, err := io.ReadAll(c); string(got) != "abc" || err != nil {
		t.Errorf("got %q, %v; want the answer to what was forwarded", got, err)
	}
}

func TestProxyBlackHole(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := NewProxy(t, "tcp", e.address)
	before := dial(t, p.Addr())
	say(t, before, "abc")
	hear(t, before, "abc")

	p.Now(Plan{BlackHole: true})
	after := dial(t, p.Addr())
	for _, c := range []*net.TCPConn{before, after} {
		say(t, c, "lost")
		must(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %d bytes, %v out of a black hole", n, err)
		}
	}

	p.Now(Plan{})
	must(t, before.SetDeadline(time.Now().Add(10*time.Second)))
	if _, err := io.ReadAll(before); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection out of a black hole ended with %v, want a reset", err)
	}
	if h := e.next(t); h.text != "abc" {
		t.Errorf("the server heard %q through a black hole", h.text)
	}
	c := dial(t, p.Addr())
	say(t, c, "x")
	hear(t, c, "x")
}

func TestProxyDelays(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := NewProxy(t, "tcp", e.address)
	took := func(plan Plan, text string) time.Duration {
		p.Plan(func(int) Plan { return plan })
		c := dial(t, p.Addr())
		began := time.Now()
		say(t, c, text)
		hear(t, c, text)
		return time.Since(began)
	}
	if d := took(Plan{Request: Way{Delay: 50 * time.Millisecond}, Response: Way{Delay: 30 * time.Millisecond, Jitter: time.Millisecond}}, "abc"); d < 80*time.Millisecond {
		t.Errorf("both ways took %s, want 80 ms at least", d)
	}
	if d := took(Plan{Response: Way{Drip: 10 * time.Millisecond}}, "abcdef"); d < 60*time.Millisecond {
		t.Errorf("six dripping bytes took %s, want 60 ms at least", d)
	}
	// A change reaches a connection that is open.
	p.Plan(func(int) Plan { return Plan{} })
	c := dial(t, p.Addr())
	say(t, c, "x")
	hear(t, c, "x")
	p.Now(Plan{Request: Way{Delay: 50 * time.Millisecond}})
	began := time.Now()
	say(t, c, "y")
	hear(t, c, "y")
	if d := time.Since(began); d < 50*time.Millisecond {
		t.Errorf("an open connection took %s, want 50 ms at least", d)
	}
}

func TestProxyPartition(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := NewProxy(t, "tcp", e.address)
	c := dial(t, p.Addr())
	say(t, c, "x")
	hear(t, c, "x")

	p.Refuse()
	say(t, c, "y")
	hear(t, c, "y") // what is open stays
	p.Partition()
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the open connection ended with %v, want a reset", err)
	}
	if c, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, %v; want it refused", c, err)
	}

	must(t, p.Heal())
	other := newEcho(t, "tcp", "127.0.0.1:0")
	p.Retarget("tcp", other.address)
	c = dial(t, p.Addr())
	say(t, c, "z")
	hear(t, c, "z")
	c.CloseWrite()
	if h := other.next(t); h.text != "z" {
		t.Errorf("the new target heard %q", h.text)
	}
}

func TestProxyPlansPerConnection(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := NewProxy(t, "tcp", e.address)
	p.Plan(func(conn int) Plan {
		if conn == 2 {
			return Plan{Response: Way{Cut: &Cut{After: 1, How: FIN}}}
		}
		return Plan{}
	})
	for conn := 1; conn <= 3; conn++ {
		c := dial(t, p.Addr())
		say(t, c, "abc")
		must(t, c.CloseWrite())
		want := "abc"
		if conn == 2 {
			want = "a"
		}
		if got, _ := io.ReadAll(c); string(got) != want {
			t.Errorf("connection %d got %q, want %q", conn, got, want)
		}
	}
}
