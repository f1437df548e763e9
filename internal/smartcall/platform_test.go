package smartcall

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	testNumber = "13800000000"
	testSecret = "canary-secret"
)

// platform is a raw TCP server in the platform's place, which can do what no HTTP
// library would. It counts connections and, per OutId, whole requests.
type platform struct {
	endpoint string
	conns    atomic.Int64

	mu       sync.Mutex
	requests map[string]int
	open     map[net.Conn]bool
	closed   bool
}

// newPlatform serves every connection with talk, in a goroutine of its own.
func newPlatform(t testing.TB, talk func(p *platform, c net.Conn, r *bufio.Reader)) *platform {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return servePlatform(t, listener, "http", talk)
}

func servePlatform(t testing.TB, listener net.Listener, scheme string, talk func(p *platform, c net.Conn, r *bufio.Reader)) *platform {
	p := &platform{
		endpoint: scheme + "://" + listener.Addr().String(),
		requests: map[string]int{},
		open:     map[net.Conn]bool{},
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			p.conns.Add(1)
			if !p.add(c) {
				return
			}
			group.Go(func() {
				defer p.remove(c)
				talk(p, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.closed = true
		for c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		group.Wait()
	})
	return p
}

func (p *platform) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.open[c] = true
	return true
}

func (p *platform) remove(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// read reads one whole request and returns its OutId; false when none comes.
func (p *platform) read(r *bufio.Reader) (outID string, ok bool) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return "", false
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return "", false
	}
	outID = req.URL.Query().Get("OutId")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[outID]++
	return outID, true
}

// seen returns how often a request with the OutId came whole.
func (p *platform) seen(outID string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[outID]
}

// doubles returns the OutIds that came more than once, and how many came at all.
func (p *platform) doubles() (twice []string, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for outID, n := range p.requests {
		all += n
		if n > 1 {
			twice = append(twice, outID)
		}
	}
	return twice, all
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// acceptedBody accepts; its CallId holds the OutId, so that a test sees an answer
// that went to the wrong request.
func acceptedBody(outID string) string {
	return fmt.Sprintf(`{"Message":"OK","RequestId":"%s","CallId":"1^%s","Code":"OK"}`, requestID(), outID)
}

// response is a whole HTTP response with a JSON body.
func response(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// acceptAll answers every request on the connection.
func acceptAll(p *platform, c net.Conn, r *bufio.Reader) {
	for {
		outID, ok := p.read(r)
		if !ok {
			return
		}
		if _, err := io.WriteString(c, response(200, acceptedBody(outID))); err != nil {
			return
		}
	}
}

// newClient makes a client that is closed with the test.
func newClient(t testing.TB, endpoint string, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		Endpoint: endpoint, Credentials: StaticCredentials("id", testSecret, ""),
		Timeout: 5 * time.Second, Conns: 8,
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newRequest(outID string) *Request {
	return &Request{
		CalledShowNumber: "057100000000", CalledNumber: testNumber, OutID: outID,
		VoiceCode: "open.wav,$name$", VoiceCodeParam: `{"name":"喂 ~*"}`, RecordFlag: new(true), SessionTimeout: new(120),
	}
}

// call makes a call that has a minute to be sent, and checks what holds for every
// answer: one of response and error, accepted under its own name, an error without
// number or secret, a class that fits the bytes written.
func call(ctx context.Context, t testing.TB, c *Client, outID string) (*Response, *Error) {
	t.Helper()
	return callBy(ctx, t, c, outID, time.Now().Add(time.Minute))
}

func callBy(ctx context.Context, t testing.TB, c *Client, outID string, sendBy time.Time) (*Response, *Error) {
	t.Helper()
	resp, err := c.SmartCall(ctx, newRequest(outID), sendBy)
	if err == nil {
		if want := "1^" + outID; resp.CallID != want {
			t.Errorf("call %s got the CallId %q of another", outID, resp.CallID)
		}
		if resp.SentAt.IsZero() || resp.AnsweredAt.Before(resp.SentAt) || resp.SentAt.After(sendBy) {
			t.Errorf("call %s: sent %v, answered %v, send by %v", outID, resp.SentAt, resp.AnsweredAt, sendBy)
		}
		return resp, nil
	}
	failure, ok := errors.AsType[*Error](err)
	if !ok || resp != nil {
		t.Fatalf("call %s: got %v and %T %v, want an *Error alone", outID, resp, err, err)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, secret := range []string{testNumber, testSecret, "CalledNumber", "http://", "https://"} {
			if strings.Contains(fmt.Sprintf("%v %+v", e, e), secret) {
				t.Errorf("the error %v holds %q", e, secret)
			}
		}
	}
	if failure.SentAt.IsZero() != (failure.Written == 0) {
		t.Errorf("%d bytes written, sent at %v", failure.Written, failure.SentAt)
	}
	if failure.Class == ClassUnsent && failure.Written > 0 || failure.Class == ClassUnknown && failure.Written == 0 {
		t.Errorf("class %s with %d bytes written", failure.Class, failure.Written)
	}
	return nil, failure
}

// mustClass makes a call that must end in the given class.
func mustClass(t testing.TB, c *Client, outID string, want Class) *Error {
	t.Helper()
	resp, failure := call(t.Context(), t, c, outID)
	if failure == nil {
		t.Fatalf("call %s: got %+v, want %s", outID, resp, want)
	}
	if failure.Class != want {
		t.Fatalf("call %s: got %v, want %s", outID, failure, want)
	}
	return failure
}

// mustAccept makes a call that must be accepted.
func mustAccept(t testing.TB, c *Client, outID string) *Response {
	t.Helper()
	resp, failure := call(t.Context(), t, c, outID)
	if failure != nil {
		t.Fatalf("call %s: %v", outID, failure)
	}
	return resp
}
