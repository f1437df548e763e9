package smartcall

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
)

// relay joins two connections until one of them ends.
func relay(a io.ReadWriteCloser, fromA io.Reader, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(a, b)
		_ = a.Close()
	}()
	_, _ = io.Copy(b, fromA)
	_ = b.Close()
	<-done
}

// connectProxy takes CONNECT from whoever has the password.
func connectProxy(_ *platform, c net.Conn, r *bufio.Reader) {
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect || req.Header.Get("Proxy-Authorization") != "Basic bWU6bXkgcGFzc3dvcmQ=" {
		_, _ = io.WriteString(c, "HTTP/1.1 407 no\r\n\r\n")
		return
	}
	upstream, err := net.Dial("tcp", req.Host)
	if err != nil {
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	relay(c, r, upstream)
}

// socksProxy is the part of RFC 1928 and 1929 that a client with a password needs.
func socksProxy(_ *platform, c net.Conn, r *bufio.Reader) {
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(r, b)
		return b
	}
	methods := read(int(read(2)[1]))
	if !bytes.Contains(methods, []byte{2}) {
		_, _ = c.Write([]byte{5, 0xff})
		return
	}
	_, _ = c.Write([]byte{5, 2})
	user := read(int(read(2)[1]))
	password := read(int(read(1)[0]))
	if string(user) != "me" || string(password) != "my password" {
		_, _ = c.Write([]byte{1, 1})
		return
	}
	_, _ = c.Write([]byte{1, 0})
	if ask := read(4); ask[1] != 1 || ask[3] != 1 { // connect, to an IPv4 address
		return
	}
	upstream, err := net.Dial("tcp", fmt.Sprintf("%v:%d", net.IP(read(4)), binary.BigEndian.Uint16(read(2))))
	if err != nil {
		return
	}
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	relay(c, r, upstream)
}

// However a proxy is spoken to, what is said to it is no part of a request, and a proxy
// that refuses gets none.
func TestEveryKindOfProxy(t *testing.T) {
	p, trust := newPlatformFor(t, "https", refuseAll)
	direct := mustClass(t, newClient(t, p.endpoint, trust), "DIRECT", ClassThrottled)
	certificate, _ := testCertificate(t)
	secured, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	for scheme, proxy := range map[string]*platform{
		"http":   newPlatform(t, connectProxy),
		"https":  servePlatform(t, secured, "https", connectProxy),
		"socks5": newPlatform(t, socksProxy),
	} {
		t.Run(scheme, func(t *testing.T) {
			at, err := url.Parse(proxy.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			at.Scheme, at.User = scheme, url.UserPassword("me", "my password")
			client := newClient(t, p.endpoint, trust, func(c *Config) { c.Proxy = at })
			for i := range 3 {
				outID := fmt.Sprintf("%s%d", scheme, i)
				got := mustClass(t, client, outID, ClassThrottled)
				// TLS to the proxy puts a frame around each of the 1 or 2 records of the request.
				if frames := got.Written - direct.Written; frames < -20 || frames > 80 {
					t.Errorf("%d bytes by way of the proxy, %d directly", got.Written, direct.Written)
				}
				if n := p.seen(outID); n != 1 {
					t.Errorf("the request came %d times", n)
				}
			}
			if n := proxy.conns.Load(); n != 1 {
				t.Errorf("%d connections to the proxy for three requests, want 1", n)
			}
			wrong := *at
			wrong.User = url.UserPassword("me", "wrong")
			mustClass(t, newClient(t, p.endpoint, trust, func(c *Config) { c.Proxy = &wrong }), "WRONG", ClassUnsent)
			if n := p.seen("WRONG"); n != 0 {
				t.Error("a request came by way of a proxy that refused")
			}
		})
	}
}
