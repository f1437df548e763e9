package smartcall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRequestOnTheWire(t *testing.T) {
	type seen struct {
		line, host string
		header     http.Header
		length     int64
		form       url.Values
	}
	got := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- seen{r.Method + " " + r.URL.Path + " " + r.Proto, r.Host, r.Header, r.ContentLength, r.URL.Query()}
		_, _ = io.WriteString(w, acceptedBody("OUT1"))
	}))
	defer server.Close()
	before := time.Now()
	resp := mustAccept(t, newClient(t, server.URL), "OUT1")
	r := <-got
	if r.line != "POST / HTTP/1.1" || "http://"+r.host != server.URL || r.length != 0 {
		t.Errorf("got %s to %s with a body of %d bytes", r.line, r.host, r.length)
	}
	if r.form.Get("CalledNumber") != testNumber || r.form.Get("VoiceCodeParam") != `{"name":"喂 ~*"}` || r.form.Get("SessionTimeout") != "120" {
		t.Errorf("parameters %v", r.form)
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key", "Accept-Encoding", "Cookie"} {
		if _, ok := r.header[name]; ok {
			t.Errorf("the request has the header %s", name)
		}
	}
	if a := r.header.Get("Authorization"); !strings.HasPrefix(a, "ACS3-HMAC-SHA256 Credential=id,SignedHeaders=host;x-acs-action;") {
		t.Errorf("Authorization: %s", a)
	}
	if r.header.Get("X-Acs-Action") != "SmartCall" || r.header.Get("X-Acs-Version") != "2017-05-25" {
		t.Errorf("headers %v", r.header)
	}
	if resp.SentAt.Before(before) || resp.RequestID == "" {
		t.Errorf("response %+v", resp)
	}
}

func TestAnswersByCode(t *testing.T) {
	for _, c := range []struct {
		status  int
		code    string
		message string
		want    Class
	}{
		{200, "isv.BUSINESS_LIMIT_CONTROL", "触发流控", ClassLater}, // business errors come with 200, too
		{400, "isv.BUSINESS_LIMIT_CONTROL", "触发流控", ClassLater},
		{400, "Throttling.User", "Request was denied due to user flow control.", ClassThrottled},
		{503, "ServiceUnavailable", "later", ClassUnknown},
		{400, "isp.UNKNOWN", "", ClassUnknown},
		{403, "SignatureDoesNotMatch", "", ClassAccountFault},
	} {
		p := newPlatform(t, func(p *platform, conn net.Conn, r *bufio.Reader) {
			for {
				if _, ok := p.read(r); !ok {
					return
				}
				_, _ = io.WriteString(conn, response(c.status, fmt.Sprintf(
					`{"RequestId":%q,"HostId":"h","Code":%q,"Message":%q,"Recommend":"https://example.com"}`, requestID(), c.code, c.message)))
			}
		})
		client := newClient(t, p.endpoint)
		for i := range 3 {
			e := mustClass(t, client, fmt.Sprint("OUT", i), c.want)
			if e.Code != c.code || e.HTTPStatus != c.status || e.Message != c.message || e.RequestID == "" || e.Written == 0 {
				t.Errorf("got %+v", *e)
			}
		}
		if n := p.conns.Load(); n != 1 {
			t.Errorf("%d connections for 3 understood refusals, want 1", n)
		}
	}
}

// The keep-alive race: the server takes a request on a reused connection and closes
// it. net/http sends a GET again then, and a POST with an idempotency header.
func TestClosedAfterTheRequest(t *testing.T) {
	const tries = 10_000
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		if outID, ok := p.read(r); ok {
			_, _ = io.WriteString(c, response(200, acceptedBody(outID)))
			p.read(r)
		}
	})
	client := newClient(t, p.endpoint, func(c *Config) { c.Conns = 1 })
	for i := range tries {
		mustAccept(t, client, fmt.Sprintf("WARM%d", i))
		mustClass(t, client, fmt.Sprintf("CUT%d", i), ClassUnknown)
	}
	if twice, all := p.doubles(); len(twice) > 0 || all != 2*tries {
		t.Errorf("%d requests came, want %d; twice came %v", all, 2*tries, twice)
	}
}

// A connection that ended while it was idle costs nothing: not a byte was written on it,
// so the request goes out on a new one, once.
func TestIdleConnectionIsOver(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			over := make(chan struct{})
			p, trust := newPlatformFor(t, scheme, func(p *platform, c net.Conn, r *bufio.Reader) {
				if outID, ok := p.read(r); ok {
					_, _ = io.WriteString(c, response(200, acceptedBody(outID)))
					_ = c.Close()
					over <- struct{}{}
				}
			})
			client := newClient(t, p.endpoint, trust)
			for i := range 200 {
				mustAccept(t, client, fmt.Sprintf("OUT%d", i))
				<-over
			}
			if twice, all := p.doubles(); len(twice) > 0 || all != 200 {
				t.Errorf("%d requests came, want 200; twice came %v", all, twice)
			}
		})
	}
}

// limitedConn lets a request out up to byte left, then fails. The handshake before
// the first request is not counted.
type limitedConn struct {
	net.Conn
	owner *conn
	armed *atomic.Bool
	left  int
}

func (l *limitedConn) Write(p []byte) (int, error) {
	if !l.armed.Load() || l.owner.flight == nil {
		return l.Conn.Write(p)
	}
	n := min(l.left, len(p))
	l.left -= n
	if n > 0 {
		if _, err := l.Conn.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	if n < len(p) {
		return n, &net.OpError{Op: "write", Net: "tcp", Err: errors.New("cut by the test")}
	}
	return n, nil
}

// cutWrites makes every connection of the client fail after k bytes once armed.
func cutWrites(client *Client, k int) (armed *atomic.Bool) {
	armed = new(atomic.Bool)
	dial := client.pool.dial
	client.pool.dial = func(ctx context.Context) (*link, error) {
		l, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		l.socket.Conn = &limitedConn{Conn: l.socket.Conn, owner: l.socket, armed: armed, left: k}
		return l, nil
	}
	return armed
}

func TestCutWithinTheRequest(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			p, trust := newPlatformFor(t, scheme, acceptAll)
			for k := 0; k < 700; k += 16 { // the request has more than 800 bytes
				for _, reused := range []bool{false, true} {
					client := newClient(t, p.endpoint, trust)
					armed := cutWrites(client, k)
					if reused {
						mustAccept(t, client, fmt.Sprintf("WARM%d", k))
					}
					armed.Store(true)
					outID := fmt.Sprintf("CUT%d-%v", k, reused)
					want := ClassUnknown
					if k == 0 {
						want = ClassUnsent
					}
					if e := mustClass(t, client, outID, want); e.Written != int64(k) {
						t.Errorf("cut at %d: %d bytes written", k, e.Written)
					}
					if n := p.seen(outID); n != 0 {
						t.Errorf("cut at %d: the request came whole %d times", k, n)
					}
					client.Close()
				}
			}
		})
	}
}

// The other side closes after k bytes: what it had is unknown to us.
func TestClosedWithinTheRequest(t *testing.T) {
	for k := 0; k < 700; k += 16 {
		p := newPlatform(t, func(_ *platform, c net.Conn, r *bufio.Reader) { _, _ = io.CopyN(io.Discard, r, int64(k)) })
		_, failure := call(t.Context(), t, newClient(t, p.endpoint), "OUT1")
		if failure == nil || k > 0 && failure.Class != ClassUnknown {
			t.Errorf("closed after %d bytes: got %v, want unknown", k, failure)
		}
	}
}

func TestRefusedConnectionIsUnsent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	mustClass(t, newClient(t, "http://"+listener.Addr().String()), "OUT1", ClassUnsent)
}

func TestCancelledRequest(t *testing.T) {
	arrived := make(chan struct{})
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		if _, ok := p.read(r); ok {
			arrived <- struct{}{}
			p.read(r)
		}
	})
	client := newClient(t, p.endpoint)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, e := call(ctx, t, client, "OUT1"); e == nil || e.Class != ClassUnsent || !errors.Is(e, context.Canceled) {
		t.Errorf("cancelled before: got %v, want unsent", e)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if _, e := call(ctx, t, client, "OUT2"); e == nil || e.Class != ClassUnknown || !errors.Is(e, context.Canceled) {
		t.Errorf("cancelled while the answer is awaited: got %v, want unknown", e)
	}
}

func TestOneConnectionPerSender(t *testing.T) {
	p := newPlatform(t, acceptAll)
	client := newClient(t, p.endpoint, func(c *Config) { c.Conns = 8 })
	var group sync.WaitGroup
	for sender := range 12 { // more than connections: some wait, all are served
		group.Go(func() {
			for i := range 200 {
				if _, e := call(t.Context(), t, client, fmt.Sprintf("S%d-%d", sender, i)); e != nil {
					t.Error(e)
				}
			}
		})
	}
	group.Wait()
	if n := p.conns.Load(); n > 8 {
		t.Errorf("%d connections for 2400 calls by 12 senders, want at most 8", n)
	}
	if twice, all := p.doubles(); len(twice) > 0 || all != 2400 {
		t.Errorf("%d requests came, twice came %v", all, twice)
	}
}
