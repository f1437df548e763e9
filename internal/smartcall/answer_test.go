package smartcall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

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
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		outID, ok := p.read(r)
		answer := response(200, acceptedBody(outID))
		for _, _ = io.WriteString(c, answer); ok; answer = response(200, acceptedBody(outID)) {
			if outID, ok = p.read(r); ok {
				_, _ = io.WriteString(c, answer) // to the request before
			}
		}
	})
	client := newClient(t, p.endpoint, func(c *Config) { c.Conns = 1 })
	for i := range 100 {
		// The connection is given up, so one of the next requests has a new one; that
		// none takes the answer of another is checked by call.
		tries := 0
		for _, e := call(t.Context(), t, client, fmt.Sprintf("A%d", i)); e != nil; _, e = call(t.Context(), t, client, fmt.Sprintf("A%d-%d", i, tries)) {
			if tries++; tries > 3 {
				t.Fatalf("round %d: the shifted connection stays in use: %v", i, e)
			}
		}
		mustClass(t, client, fmt.Sprintf("B%d", i), ClassUnknown)
	}
}

// A doubled answer may also lie on the connection already when the next request comes.
func TestUnaskedAnswers(t *testing.T) {
	log.SetOutput(io.Discard) // net/http tells the program's log of what it finds on idle connections
	defer log.SetOutput(os.Stderr)
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		for {
			outID, ok := p.read(r)
			if !ok {
				return
			}
			answer := response(200, acceptedBody(outID))
			_, _ = io.WriteString(c, answer+answer)
		}
	})
	client := newClient(t, p.endpoint, func(c *Config) { c.Conns = 1 })
	accepted := 0
	for i := range 300 {
		if resp, _ := call(t.Context(), t, client, fmt.Sprintf("A%d", i)); resp != nil { // checks the CallId
			accepted++
		}
	}
	if accepted == 0 {
		t.Error("no request was accepted under its own name")
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
		"header of 20 kB":       "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 20<<10) + strings.TrimPrefix(json(acceptedBody("OUT1")), "HTTP/1.1 200 X"),
		"body of 70 kB":         json(acceptedBody("OUT1") + strings.Repeat(" ", 70<<10)),
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
			for _, ok := p.read(r); ok; _, ok = p.read(r) {
				_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\nLocation: %s/\r\nContent-Length: 0\r\n\r\n", status, elsewhere.endpoint)
			}
		})
		if e := mustClass(t, newClient(t, p.endpoint), "OUT1", ClassUnknown); e.HTTPStatus != status {
			t.Errorf("got %v, want HTTP %d", e, status)
		}
		if n := p.seen("OUT1"); n != 1 {
			t.Errorf("HTTP %d: the request came %d times", status, n)
		}
	}
	if n := elsewhere.conns.Load(); n != 0 {
		t.Errorf("%d connections went to where the redirects point", n)
	}
}

// Answers without a RequestId cannot be told apart, which proves nothing.
func TestAnswersWithoutRequestId(t *testing.T) {
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		for {
			outID, ok := p.read(r)
			if !ok {
				return
			}
			_, _ = io.WriteString(c, response(200, fmt.Sprintf(`{"Code":"OK","CallId":"1^%s"}`, outID)))
		}
	})
	client := newClient(t, p.endpoint)
	for i := range 3 {
		mustAccept(t, client, fmt.Sprintf("A%d", i))
	}
	if n := p.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// A platform that speaks before it is asked is not asked.
func TestSpeaksFirst(t *testing.T) {
	p := newPlatform(t, func(p *platform, c net.Conn, r *bufio.Reader) {
		_, _ = io.WriteString(c, response(200, acceptedBody("A")))
		p.read(r)
	})
	client := newClient(t, p.endpoint)
	dial := client.pool.dial
	client.pool.dial = func(ctx context.Context) (*link, error) {
		l, err := dial(ctx)
		for err == nil && l.alive() { // until it has spoken
			runtime.Gosched()
		}
		return l, err
	}
	mustClass(t, client, "A", ClassUnsent)
}
