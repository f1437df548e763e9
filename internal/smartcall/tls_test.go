package smartcall

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// testCertificate borrows httptest's certificate, which is for 127.0.0.1 and
// example.com.
func testCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return server.TLS.Certificates[0], pool
}

// newPlatformFor is a platform that speaks http or https, and what a client needs to
// trust it.
func newPlatformFor(t testing.TB, scheme string, talk func(*platform, net.Conn, *bufio.Reader)) (*platform, func(*Config)) {
	t.Helper()
	if scheme == "http" {
		return newPlatform(t, talk), func(*Config) {}
	}
	certificate, pool := testCertificate(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	return servePlatform(t, listener, scheme, talk), func(c *Config) { c.TLS = &tls.Config{RootCAs: pool} }
}

func TestTLSCountsTheRequestAlone(t *testing.T) {
	plain, _ := newPlatformFor(t, "http", refuseAll)
	secure, trust := newPlatformFor(t, "https", refuseAll)
	want := mustClass(t, newClient(t, plain.endpoint), "OUT1", ClassThrottled).Written
	got := mustClass(t, newClient(t, secure.endpoint, trust), "OUT1", ClassThrottled).Written
	// A record adds 22 bytes; the handshake would add more than 200.
	if got <= want || got > want+100 {
		t.Errorf("%d bytes over TLS, %d plain", got, want)
	}
}

func refuseAll(p *platform, c net.Conn, r *bufio.Reader) {
	for {
		if _, ok := p.read(r); !ok {
			return
		}
		_, _ = io.WriteString(c, response(400, fmt.Sprintf(`{"Code":"Throttling.User","RequestId":%q}`, requestID())))
	}
}

func TestHTTP2IsNotUsed(t *testing.T) {
	proto := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto <- r.Proto
		_, _ = io.WriteString(w, acceptedBody("OUT1"))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	client := newClient(t, server.URL, func(c *Config) { c.TLS = &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}} })
	mustAccept(t, client, "OUT1")
	if got := <-proto; got != "HTTP/1.1" {
		t.Errorf("the request came over %s", got)
	}
}

func TestUntrustedServerIsUnsent(t *testing.T) {
	p, trust := newPlatformFor(t, "https", acceptAll)
	for name, change := range map[string]func(*Config){
		"unknown authority": func(c *Config) { c.TLS = &tls.Config{RootCAs: x509.NewCertPool()} },
		"wrong host":        func(c *Config) { trust(c); c.TLS.ServerName = "dyvmsapi.aliyuncs.com" },
		"expired": func(c *Config) {
			trust(c)
			c.TLS.Time = func() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }
		},
	} {
		t.Run(name, func(t *testing.T) { mustClass(t, newClient(t, p.endpoint, change), "OUT1", ClassUnsent) })
	}
	certificate, _ := testCertificate(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	})
	if err != nil {
		t.Fatal(err)
	}
	old := servePlatform(t, listener, "https", acceptAll)
	mustClass(t, newClient(t, old.endpoint, func(c *Config) { trust(c); c.TLS.MinVersion = tls.VersionTLS10 }), "OUT1", ClassUnsent)
	plain := newPlatform(t, acceptAll)
	mustClass(t, newClient(t, strings.Replace(plain.endpoint, "http", "https", 1)), "OUT1", ClassUnsent)
	for _, server := range []*platform{p, old, plain} {
		if _, all := server.doubles(); all != 0 {
			t.Errorf("%d requests came to a server that is not trusted", all)
		}
	}
}

// recordingProxy answers CONNECT by connecting to target, and counts what comes.
func recordingProxy(t testing.TB, target string) (proxy *url.URL, connects *atomic.Int64) {
	t.Helper()
	connects = new(atomic.Int64)
	p := newPlatform(t, func(_ *platform, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil || req.Method != http.MethodConnect {
			return
		}
		connects.Add(1)
		if target == "" {
			_, _ = io.WriteString(c, "HTTP/1.1 407 no\r\n\r\n")
			return
		}
		upstream, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(c, upstream)
			_ = c.Close()
		}()
		_, _ = io.Copy(upstream, r)
		_ = upstream.Close()
		<-done
	})
	proxy, err := url.Parse(p.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return proxy, connects
}

func TestConfiguredProxy(t *testing.T) {
	p, trust := newPlatformFor(t, "https", refuseAll)
	direct := mustClass(t, newClient(t, p.endpoint, trust), "OUT1", ClassThrottled)
	proxy, connects := recordingProxy(t, strings.TrimPrefix(p.endpoint, "https://"))
	proxied := mustClass(t, newClient(t, p.endpoint, trust, func(c *Config) { c.Proxy = proxy }), "OUT2", ClassThrottled)
	if connects.Load() != 1 {
		t.Errorf("%d requests at the proxy, want 1", connects.Load())
	}
	if proxied.Written != direct.Written {
		t.Errorf("%d bytes by way of the proxy, %d directly: CONNECT is not part of the request", proxied.Written, direct.Written)
	}

	refusing, connects := recordingProxy(t, "")
	mustClass(t, newClient(t, p.endpoint, trust, func(c *Config) { c.Proxy = refusing }), "OUT3", ClassUnsent)
	if connects.Load() != 1 {
		t.Errorf("%d requests at the refusing proxy, want 1", connects.Load())
	}
}

func TestEnvironmentProxyIsIgnored(t *testing.T) {
	proxy, connects := recordingProxy(t, "")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.String())
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	// Loopback is never sent to a proxy of the environment, so the test needs a name;
	// the dial is where the traffic stays on loopback.
	client := newClient(t, "https://smartcall.test")
	dialled := make(chan string, 1)
	client.connect = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled <- address
		return nil, errors.New("not dialled")
	}
	mustClass(t, client, "OUT1", ClassUnsent)
	if got := <-dialled; got != "smartcall.test:443" || connects.Load() != 0 {
		t.Errorf("dialled %s, %d requests at the proxy", got, connects.Load())
	}
	// The same environment does send a client that listens to it to a proxy: to the
	// first one that this process ever set, which is what net/http remembers.
	req, err := http.NewRequest(http.MethodPost, "https://smartcall.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := http.ProxyFromEnvironment(req); err != nil || got == nil {
		t.Errorf("the environment is not set up: %v, %v", got, err)
	}
}
