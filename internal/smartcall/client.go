// Package smartcall is a client of Alibaba Cloud's SmartCall API (product Dyvmsapi,
// version 2017-05-25), in the platform's own words and against its help pages.
//
// One rule shapes it: say whether a phone may have rung. SmartCall has no
// idempotency token, no query by OutId and no hang-up, so a request that is made
// twice rings twice. Every request therefore ends in one Class: accepted, a definite
// no, or unknown. It is a definite no if not one byte of it left this machine, which
// is counted at the socket and not guessed from an error's text, or if the platform
// answered with a code that leaves no doubt. Everything else is unknown: an answer
// cut short, malformed, late, redirected, doubled, or in words we do not know.
// Nothing in this package makes a request a second time. It writes requests and reads
// answers itself (link.go), and net/http only parses them: its Transport repeats requests.
package smartcall

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	defaultTimeout = 10 * time.Second
	defaultConns   = 64
	// idleTimeout should be shorter than the gateway's own, which is not documented:
	// who closes an idle connection last may have a request on it.
	idleTimeout = 15 * time.Second
)

// Config says how to reach the platform. Endpoint and Credentials are required.
type Config struct {
	// Endpoint is the URL of the service, "https://dyvmsapi.aliyuncs.com" for the real
	// one. Plain http is accepted for loopback only.
	Endpoint    string
	Credentials Credentials
	// Timeout bounds a request in all: key, connection, writing, answer to its last
	// byte. 0 means 10 s.
	Timeout time.Duration
	// Conns is the most connections open at the same time, one per sender. With more
	// senders the rest wait, and with fewer none is opened in vain. 0 means 64.
	Conns int
	// Proxy is the proxy to use; nil means none. HTTP_PROXY and its kin are ignored.
	// A proxy must not repeat requests: switch its retries off.
	Proxy *url.URL
	// TLS adds to the client's TLS settings, own certificate authorities for instance.
	// Nil means the system's authorities.
	TLS *tls.Config
	// Dial opens the connections; nil means a net.Dialer. It is for networks that
	// exist in memory only, and held to the same rules as any other.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client makes requests. Many goroutines may use one Client at once.
type Client struct {
	endpoint    *url.URL
	credentials Credentials
	timeout     time.Duration
	timedOut    error // why a request that took too long was given up
	connect     dialer
	proxy       *url.URL
	tls         *tls.Config
	pool        *pool
}

// New returns a Client, or an error that names the setting to mend. It opens no
// connection. Close the Client when it is no longer needed.
func New(cfg Config) (*Client, error) {
	endpoint, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Credentials == nil:
		return nil, errors.New("credentials: none given")
	case cfg.Timeout < 0:
		return nil, fmt.Errorf("timeout: %v is negative", cfg.Timeout)
	case cfg.Conns < 0:
		return nil, fmt.Errorf("connections: %d is negative", cfg.Conns)
	case cfg.TLS != nil && cfg.TLS.InsecureSkipVerify:
		return nil, errors.New("TLS: InsecureSkipVerify is set: name the authority in RootCAs instead")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Conns == 0 {
		cfg.Conns = defaultConns
	}
	c := &Client{
		endpoint: endpoint, credentials: cfg.Credentials, timeout: cfg.Timeout, connect: cfg.Dial, proxy: cfg.Proxy, tls: clientTLS(cfg.TLS),
		timedOut: fmt.Errorf("no answer within %v: %w", cfg.Timeout, context.DeadlineExceeded),
	}
	if c.connect == nil {
		c.connect = new(net.Dialer).DialContext
	}
	c.pool = newPool(cfg.Conns, c.dial)
	if cfg.Proxy != nil {
		if err := checkProxy(cfg.Proxy, endpoint); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Close closes the idle connections. Requests under way are not disturbed.
func (c *Client) Close() { c.pool.close() }

func parseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Opaque != "" {
		return nil, errors.New("endpoint: want scheme and host alone, like https://dyvmsapi.aliyuncs.com")
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !isLoopback(u.Hostname()) {
			return nil, fmt.Errorf("endpoint: plain http to %s would show numbers and texts to everybody on the way: use https", u.Hostname())
		}
	default:
		return nil, fmt.Errorf("endpoint: scheme %q: want https", u.Scheme)
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: "/"}, nil
}

func checkProxy(proxy, endpoint *url.URL) error {
	switch proxy.Scheme {
	case "http", "https", "socks5":
	default:
		return fmt.Errorf("proxy: scheme %q: want http, https or socks5", proxy.Scheme)
	}
	if endpoint.Scheme == "http" && !isLoopback(proxy.Hostname()) {
		return fmt.Errorf("proxy: %s would see the requests of a plain http endpoint: use https", proxy.Hostname())
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func clientTLS(given *tls.Config) *tls.Config {
	cfg := given.Clone() // nil of nil
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"} // HTTP/2 would mix requests in one stream of bytes
	return cfg
}

// Response is an accepted SmartCall. Accepted means that the platform will call, not
// that anybody answers: that comes with the receipts.
type Response struct {
	CallID     string // names the call; printable, at most 64 bytes
	RequestID  string
	SentAt     time.Time // just before the first byte left
	AnsweredAt time.Time // just after the last byte came
}

// SmartCall asks the platform for one call: one request, made at most once, and not
// begun at or after sendBy. A sendBy of zero has passed.
//
// The error is always an *Error. Its Class tells whether a call may have been made.
func (c *Client) SmartCall(ctx context.Context, req *Request, sendBy time.Time) (*Response, error) {
	const action = "SmartCall"
	if err := req.complete(); err != nil {
		return nil, &Error{action: action, Class: ClassBug, Err: err}
	}
	query, err := req.query()
	if err != nil {
		return nil, &Error{action: action, Class: ClassRefused, Err: err}
	}
	got, failure := c.do(ctx, action, query, sendBy)
	if failure != nil {
		return nil, failure
	}
	if got.callID == "" {
		// A call without a name can neither be asked for nor matched but by OutId, and
		// whether it is made at all is not documented.
		return nil, got.fail(action, ClassUnknown, errors.New("accepted without a CallId"))
	}
	return &Response{CallID: got.callID, RequestID: got.requestID, SentAt: got.sentAt, AnsweredAt: got.answeredAt}, nil
}

// exchange is a request with the answer it got.
type exchange struct {
	answer
	status             int
	reusable           bool // the connection may carry another request
	written            int64
	sentAt, answeredAt time.Time
}

func (x *exchange) fail(action string, class Class, err error) *Error {
	return &Error{
		action: action, Class: class, Code: x.code, Message: x.message, RequestID: x.requestID,
		HTTPStatus: x.status, Written: x.written, SentAt: x.sentAt, Err: err,
	}
}

// do makes one request. An exchange without an Error has the code OK.
func (c *Client) do(ctx context.Context, action, query string, sendBy time.Time) (*exchange, *Error) {
	if late(time.Now(), sendBy) {
		return nil, &Error{action: action, Class: ClassUnsent, Err: errLate}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, c.timedOut)
	defer cancel()
	key, err := c.credentials.Get(ctx)
	if err != nil {
		class := ClassAccountFault
		if ctx.Err() != nil {
			class = ClassUnsent
		}
		return nil, &Error{action: action, Class: class, Err: fmt.Errorf("get the key to sign with: %w", err)}
	}
	header := newSignable(c.endpoint.Host, action, query, key.Token.reveal()).header(key)

	f := newFlight(ctx, sendBy)
	var x exchange
	if err := c.pool.enter(ctx); err != nil {
		return nil, x.fail(action, ClassUnsent, err)
	}
	defer c.pool.leave()
	body, l, err := c.roundTrip(ctx, f, &x, header, query)
	if l != nil {
		defer func() { c.pool.put(l, x.reusable) }()
	}
	x.answeredAt = time.Now()
	x.written, x.sentAt = f.seal()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // rather than what it did to the connection
	} else if err != nil && x.written > 0 {
		err = withoutEcho(err)
	}
	switch {
	case x.written == 0:
		return nil, x.fail(action, ClassUnsent, err)
	case err != nil:
		return nil, x.fail(action, ClassUnknown, err)
	}
	a, err := decodeAnswer(body)
	if err != nil {
		x.reusable = false
		return nil, x.fail(action, ClassUnknown, fmt.Errorf("the answer is not understood: %w", err))
	}
	x.answer = *a
	if x.requestID != "" && x.requestID == l.lastID {
		// Somebody on the way has doubled the answer to the request before, so each answer on
		// this connection comes one too early.
		x.reusable = false
		return nil, x.fail(action, ClassUnknown, errDoubled)
	}
	l.lastID = x.requestID
	if class := Classify(x.status, x.code); class != ClassAccepted {
		return nil, x.fail(action, class, nil)
	}
	return &x, nil
}

var errDoubled = errors.New("the answer is a copy of another request's answer")

// roundTrip writes the request and reads the answer to its end, noting the status
// on the way, and whether the connection, which it returns, may be used again.
//
// A connection that was idle may be over without our knowing. Another one is tried as long
// as not a single byte of the request has left.
func (c *Client) roundTrip(ctx context.Context, f *flight, x *exchange, header http.Header, query string) ([]byte, *link, error) {
	for {
		l, reused, err := c.pool.take(ctx)
		if err != nil {
			return nil, nil, err
		}
		f.attach(l.socket)
		var body []byte
		whole, err := interruptible(ctx, l.close, func() (err error) {
			if err = l.write(c.endpoint.Host, query, header); err == nil {
				body, x.reusable, err = l.read(&x.status)
			}
			return err
		})
		x.reusable = x.reusable && whole
		if err == nil {
			return body, l, nil
		}
		l.close()
		if reused && f.written == 0 && ctx.Err() == nil && !errors.Is(err, errLate) {
			continue
		}
		return nil, nil, err
	}
}

var errMalformed = errors.New("the answer is not well-formed HTTP")

// withoutEcho replaces an error that may quote what the other side sent. net/http
// quotes malformed lines, and whoever answers may send our own URL back.
func withoutEcho(err error) error {
	var socket *net.OpError
	switch {
	case errors.As(err, &socket), errors.Is(err, errLongBody):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the connection was closed before the answer was whole: %w", io.ErrUnexpectedEOF)
	}
	return errMalformed
}
