package smartcall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
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
	const tries = 2000
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

// Were it not for the count of bytes on the connection, this request would ring twice.
func TestTransportCannotRepeat(t *testing.T) {
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		if outID, ok := p.read(r); ok {
			_, _ = io.WriteString(c, response(200, acceptedBody(outID)))
			p.read(r)
		}
	})
	client := newClient(t, p.endpoint, func(c *Config) { c.Conns = 1 })
	for i := range 50 {
		mustAccept(t, client, fmt.Sprintf("WARM%d", i))
		outID := fmt.Sprintf("CUT%d", i)
		ctx, abandon := context.WithCancelCause(t.Context())
		f := newFlight(ctx, abandon, time.Now().Add(time.Minute))
		_, err := client.roundTrip(ctx, f, &exchange{}, http.Header{"Idempotency-Key": {"1"}}, "OutId="+outID)
		f.judge("")
		if got := context.Cause(ctx); err == nil || got != errTwice {
			t.Fatalf("got %v and the cause %v, want %v", err, got, errTwice)
		}
		if n := p.seen(outID); n != 1 {
			t.Fatalf("the request came %d times", n)
		}
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
	if !l.armed.Load() || l.owner.flight.Load() == nil {
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
	dial := client.transport.DialContext
	client.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		owner := c.(*conn)
		owner.Conn = &limitedConn{Conn: owner.Conn, owner: owner, armed: armed, left: k}
		return owner, nil
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

func TestCutWithinTheAnswer(t *testing.T) {
	whole := response(200, acceptedBody("OUT1"))
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(acceptedBody("OUT1")), acceptedBody("OUT1"))
	untilClose := "HTTP/1.1 200 OK\r\n\r\n" + acceptedBody("OUT1")
	for name, text := range map[string]string{"length": whole, "chunked": chunked, "until close": untilClose} {
		t.Run(name, func(t *testing.T) {
			var k atomic.Int64
			p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
				p.read(r)
				_, _ = io.WriteString(c, text[:k.Load()])
			})
			client := newClient(t, p.endpoint)
			for ; k.Load() < int64(len(text)); k.Add(1) {
				mustClass(t, client, "OUT1", ClassUnknown)
			}
			mustAccept(t, client, "OUT1")
		})
	}
}

// An answer that comes when nobody waits any more must not be taken for the answer
// to the next request.
func TestLateAnswers(t *testing.T) {
	const timeout = 5 * time.Millisecond
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			outID, ok := p.read(r)
			if !ok {
				return
			}
			<-time.After(timeout - 2*time.Millisecond + time.Duration(i%5)*time.Millisecond)
			if _, err := io.WriteString(c, response(200, acceptedBody(outID))); err != nil {
				return
			}
		}
	})
	client := newClient(t, p.endpoint, func(c *Config) { c.Timeout = timeout; c.Conns = 4 })
	var accepted, unknown atomic.Int64
	var group sync.WaitGroup
	for sender := range 4 {
		group.Go(func() {
			for i := range 150 {
				resp, failure := call(t.Context(), t, client, fmt.Sprintf("S%d-%d", sender, i)) // checks the CallId
				switch {
				case resp != nil:
					accepted.Add(1)
				case failure.Class == ClassUnknown:
					if unknown.Add(1); !errors.Is(failure, context.DeadlineExceeded) {
						t.Errorf("got %v, want the time-out", failure)
					}
				case failure.Class != ClassUnsent:
					t.Errorf("got %v", failure)
				}
			}
		})
	}
	group.Wait()
	if accepted.Load() == 0 || unknown.Load() == 0 {
		t.Errorf("%d accepted, %d unknown: the delays are not about the time-out", accepted.Load(), unknown.Load())
	}
	if twice, _ := p.doubles(); len(twice) > 0 {
		t.Errorf("twice came %v", twice)
	}
}

// An answer that somebody doubled shifts all answers of its connection by one.
func TestDoubledAnswers(t *testing.T) {
	log.SetOutput(io.Discard) // net/http tells the program's log of what it finds on idle connections
	defer log.SetOutput(os.Stderr)
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		outID, ok := p.read(r)
		if !ok {
			return
		}
		first := response(200, acceptedBody(outID))
		_, _ = io.WriteString(c, first)
		if outID, ok = p.read(r); !ok {
			return
		}
		_, _ = io.WriteString(c, first)
		_, _ = io.WriteString(c, response(200, acceptedBody(outID)))
		p.read(r)
	})
	for i := range 100 {
		client := newClient(t, p.endpoint, func(c *Config) { c.Conns = 1 })
		mustAccept(t, client, fmt.Sprintf("A%d", i))
		mustClass(t, client, fmt.Sprintf("B%d", i), ClassUnknown)
		// The answer to B is still on the connection. Whether the next request meets it
		// there or gets a connection of its own is chance; that it does not take the
		// answer is checked by call.
		call(t.Context(), t, client, fmt.Sprintf("C%d", i))
		client.Close()
	}
}

func TestEndlessAnswers(t *testing.T) {
	drip := func(start, piece string, pause time.Duration) func(*platform, net.Conn, *bufio.Reader) {
		return func(p *platform, c net.Conn, r *bufio.Reader) {
			p.read(r)
			_, _ = io.WriteString(c, start)
			ticker := time.NewTicker(pause)
			defer ticker.Stop()
			for range ticker.C {
				if _, err := io.WriteString(c, piece); err != nil {
					return
				}
			}
		}
	}
	header := "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
	for name, talk := range map[string]func(*platform, net.Conn, *bufio.Reader){
		"no answer":                  drip("", "", time.Second),
		"dripping header":            drip("HTTP/1.1 200 OK\r\n", "x", 5*time.Millisecond),
		"dripping body":              drip(header, " ", 5*time.Millisecond),
		"endless header":             drip("HTTP/1.1 200 OK\r\n", strings.Repeat("A: b\r\n", 1000), time.Microsecond),
		"endless line":               drip("HTTP/1.1 200 OK\r\nA: ", strings.Repeat("b", 10000), time.Microsecond),
		"endless body":               drip(header, strings.Repeat(" ", 10000), time.Microsecond),
		"endless body until close":   drip("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat(" ", 10000), time.Microsecond),
		"endless provisional answer": drip("", "HTTP/1.1 100 Continue\r\n\r\n", time.Microsecond),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const timeout = 200 * time.Millisecond
			client := newClient(t, newPlatform(t, talk).endpoint, func(c *Config) { c.Timeout = timeout })
			began := time.Now()
			mustClass(t, client, "OUT1", ClassUnknown)
			if took := time.Since(began); took > timeout+2*time.Second {
				t.Errorf("took %v with a time-out of %v", took, timeout)
			}
		})
	}
}

func TestMalformedAnswers(t *testing.T) {
	json := func(body string) string { return response(200, body) }
	ok := `"Code":"OK","RequestId":"` + requestID() + `"`
	echo := "CalledNumber=" + testNumber
	for name, text := range map[string]string{
		"html":                  json("<html>it works</html>"),
		"html with code":        json(`<html>{"Code":"OK"}</html>`),
		"empty":                 json(""),
		"null":                  json("null"),
		"array":                 json(`[{` + ok + `,"CallId":"1^OUT1"}]`),
		"no code":               json(`{"CallId":"1^OUT1"}`),
		"code in small letters": json(`{"code":"OK","CallId":"1^OUT1"}`),
		"code twice":            json(`{` + ok + `,"CallId":"1^OUT1","Code":"OK"}`),
		"code is a number":      json(`{"Code":200,"CallId":"1^OUT1"}`),
		"code is null":          json(`{"Code":null,"CallId":"1^OUT1"}`),
		"code is huge":          json(`{"Code":"` + strings.Repeat("x", 10000) + `"}`),
		"trailing garbage":      json(`{` + ok + `,"CallId":"1^OUT1"} x`),
		"two values":            json(`{` + ok + `,"CallId":"1^OUT1"}{}`),
		"not UTF-8":             json("{" + ok + ",\"CallId\":\"1^OUT1\",\"Message\":\"\xb4\xed\"}"),
		"no call id":            json(`{` + ok + `}`),
		"empty call id":         json(`{` + ok + `,"CallId":""}`),
		"call id is a number":   json(`{` + ok + `,"CallId":12}`),
		"call id of 10 kB":      json(`{` + ok + `,"CallId":"` + strings.Repeat("1", 10000) + `"}`),
		"call id of 65 bytes":   json(`{` + ok + `,"CallId":"` + strings.Repeat("1", 65) + `"}`),
		"call id with newline":  json(`{` + ok + `,"CallId":"1^\n2"}`),
		"call id with NUL":      json(`{` + ok + `,"CallId":"1^\u0000"}`),
		"OK with 500":           response(500, `{`+ok+`,"CallId":"1^OUT1"}`),
		"OK with 202":           response(202, `{`+ok+`,"CallId":"1^OUT1"}`),
		"502 html":              response(502, "<html>bad gateway</html>"),
		"429 html":              response(429, "<html>slow down</html>"),
		"204":                   "HTTP/1.1 204 No Content\r\n\r\n",
		"gzip":                  "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
		"not http":              echo + "\r\n\r\n",
		"echo in header":        "HTTP/1.1 200 OK\r\n" + echo + "\r\n\r\n",
		"echo in code":          json(`{"Code":"` + echo + `"}`),
		"echo as code":          json(`{"Code":"` + testNumber + `"}`),
		"echo as request id":    json(`{"Code":"isp.UNKNOWN","RequestId":"` + testNumber + `"}`),
		"echo as status":        "HTTP/1.1 " + echo + "\r\n\r\n",
		"echo as length":        "HTTP/1.1 200 OK\r\nContent-Length: " + testNumber + "x\r\n\r\n",
		"echo as encoding":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + echo + "\r\n\r\n",
		"bad chunk":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + echo + "\r\n",
		"two lengths":           "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"switching protocols":   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + json(`{}`),
		"http/2 preface":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
				p.read(r)
				_, _ = io.WriteString(c, text)
			})
			mustClass(t, newClient(t, p.endpoint), "OUT1", ClassUnknown)
			if n := p.seen("OUT1"); n != 1 {
				t.Errorf("the request came %d times", n)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := newPlatform(t, acceptAll)
	for _, status := range []int{301, 302, 303, 307, 308} {
		p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
			p.read(r)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\nLocation: %s/\r\nContent-Length: 0\r\n\r\n", status, elsewhere.endpoint)
		})
		if e := mustClass(t, newClient(t, p.endpoint), "OUT1", ClassUnknown); e.HTTPStatus != status {
			t.Errorf("got %v, want HTTP %d", e, status)
		}
	}
	if n := elsewhere.conns.Load(); n != 0 {
		t.Errorf("%d connections went to where the redirects point", n)
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
