package smartcall

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/proxy"
)

// dial connects to the platform, by way of the proxy if there is one, and speaks TLS to
// it if it is https.
func (c *Client) dial(ctx context.Context) (*link, error) {
	target := address(c.endpoint)
	var socket *conn
	connect := func(ctx context.Context, network, address string) (net.Conn, error) {
		plain, err := c.connect(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// A host file or a resolver may have its own idea of localhost.
		if tcp, ok := plain.RemoteAddr().(*net.TCPAddr); c.endpoint.Scheme == "http" && !(ok && tcp.IP.IsLoopback()) {
			_ = plain.Close()
			return nil, fmt.Errorf("plain http to %v, which is not loopback", plain.RemoteAddr())
		}
		socket = &conn{Conn: plain}
		return socket, nil
	}
	stream, err := c.tunnel(ctx, connect, target)
	if err == nil && c.endpoint.Scheme == "https" {
		stream, err = secure(ctx, stream, c.tls, c.endpoint.Hostname())
	}
	if err != nil {
		if socket != nil {
			_ = socket.Close()
		}
		return nil, err
	}
	return newLink(socket, stream), nil
}

// address is host and port of a URL.
func address(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	port := "443"
	switch u.Scheme {
	case "http":
		port = "80"
	case "socks5":
		port = "1080"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func secure(ctx context.Context, stream net.Conn, given *tls.Config, host string) (net.Conn, error) {
	cfg := given
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	s := tls.Client(stream, cfg)
	return s, s.HandshakeContext(ctx)
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

// tunnel connects to a target, if need be through the proxy.
func (c *Client) tunnel(ctx context.Context, connect dialer, target string) (net.Conn, error) {
	if c.proxy == nil {
		return connect(ctx, "tcp", target)
	}
	if c.proxy.Scheme == "socks5" {
		var auth *proxy.Auth
		if user := c.proxy.User; user != nil {
			password, _ := user.Password()
			auth = &proxy.Auth{User: user.Username(), Password: password}
		}
		socks, err := proxy.SOCKS5("tcp", address(c.proxy), auth, connect)
		if err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		return socks.(proxy.ContextDialer).DialContext(ctx, "tcp", target)
	}
	stream, err := connect(ctx, "tcp", address(c.proxy))
	if err == nil && c.proxy.Scheme == "https" {
		stream, err = secure(ctx, stream, c.tls, c.proxy.Hostname())
	}
	if err != nil {
		return nil, err
	}
	whole, err := interruptible(ctx, func() { _ = stream.Close() }, func() error { return c.askProxy(stream, target) })
	if !whole {
		return nil, context.Cause(ctx)
	}
	return stream, err
}

// askProxy asks the proxy for a tunnel to the target.
func (c *Client) askProxy(stream net.Conn, target string) error {
	header := http.Header{"User-Agent": {"dialer"}}
	if user := c.proxy.User; user != nil {
		password, _ := user.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: header}
	if err := ask.Write(stream); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	answers := bufio.NewReader(io.LimitReader(stream, maxHeader))
	resp, err := http.ReadResponse(answers, ask)
	switch {
	case err != nil:
		return fmt.Errorf("proxy: %w", withoutEcho(err))
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("proxy: it answers with status %d to CONNECT", resp.StatusCode)
	case answers.Buffered() > 0:
		return errors.New("proxy: it says more than it was asked")
	}
	return nil
}
