package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"dialer/internal/dialer"
	"dialer/internal/pgserver"
	"dialer/internal/postgres"
)

// nodeFlags are the settings of a process that dials.
type nodeFlags struct {
	Listen       string        `env:"DIALER_LISTEN" default:"127.0.0.1:8090" help:"Where receipts are taken: http://ADDRESS/receipts/ACCOUNT/SECRET."`
	Proxy        string        `env:"DIALER_PROXY" help:"HTTP proxy to the platform; the environment's own proxy settings are ignored." placeholder:"URL"`
	Node         string        `env:"DIALER_NODE" help:"Name of this node; default: the host's." placeholder:"NAME"`
	State        string        `env:"DIALER_STATE" help:"Folder on local disk for receipts that wait for the database; default: 'state' beside a private Postgres's data." placeholder:"DIR"`
	Senders      int           `help:"Most requests at once per account; default: its limit." placeholder:"N"`
	Timeout      time.Duration `default:"10s" help:"Total time for one request to the platform."`
	LostAfter    time.Duration `default:"80m" help:"When an attempt without any evidence is lost."`
	Lease        time.Duration `default:"3s" help:"How long an account is held without a sign of life; another node takes it over then."`
	Drain        time.Duration `default:"25s" help:"When told to stop: most time for requests in hand to end and be recorded."`
	TrustStandby bool          `help:"No standby is ever promoted that commits had stopped waiting for: after a failover to one that they waited for, dial on without a person."`
	LogLevel     slog.Level    `default:"info" help:"debug, info, warn or error."`
}

// config turns the flags into a node's configuration. It refuses a database that could
// forget a committed intent in a crash.
func (f nodeFlags) config(ctx context.Context, a *app, db *postgres.DB) (dialer.Config, error) {
	if err := db.Durable(ctx); err != nil {
		return dialer.Config{}, err
	}
	var proxy *url.URL
	if f.Proxy != "" {
		var err error
		if proxy, err = url.Parse(f.Proxy); err != nil || proxy.Host == "" {
			return dialer.Config{}, usageError{errors.New("--proxy: not the URL of a proxy, such as http://proxy.example:3128")}
		}
	}
	if f.Lease < 300*time.Millisecond || f.Lease > time.Minute {
		return dialer.Config{}, usageError{fmt.Errorf("--lease %s: give it from 300ms to 1m", f.Lease)}
	}
	// A request begins within 3 s of its intent; then there must be time to write.
	if least := f.Timeout + 5*time.Second; f.Drain < least {
		return dialer.Config{}, usageError{fmt.Errorf("--drain %s: requests in hand may take %s: give it %s or more", f.Drain, f.Timeout, least)}
	}
	name := f.Node
	if name == "" {
		name, _ = os.Hostname()
	}
	return dialer.Config{
		DB: db, Log: a.logger(f.LogLevel), Name: name, Version: version(), Secret: a.secret,
		Proxy: proxy, Senders: f.Senders, RequestTimeout: f.Timeout, LostAfter: f.LostAfter,
		LeaseTTL: f.Lease, Drain: f.Drain, TrustStandby: f.TrustStandby,
	}, nil
}

// state returns the folder for what the node remembers on disk.
func (f nodeFlags) state(a *app) (string, error) {
	if f.State != "" {
		return f.State, nil
	}
	parent, err := pgserver.Folder(a.getenv("DIALER_DATA"))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, "state"), nil
}

type serveCommand struct {
	nodeFlags
}

func (c serveCommand) Run(ctx context.Context, a *app) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		cfg, err := c.config(ctx, a, db)
		if err != nil {
			return err
		}
		ln, err := listen(ctx, db, c.Listen)
		if err != nil {
			return err
		}
		if cfg.State, err = c.state(a); err != nil {
			return err
		}
		d := dialer.New(cfg)
		cfg.Log.Info("node started", "version", cfg.Version, "receipts", "http://"+ln.Addr().String()+"/receipts/")
		err = runNode(ctx, d, ln)
		if err == nil {
			cfg.Log.Info("node stopped: every request in hand is answered or given up, and recorded")
		}
		return err
	})
}

// listen binds the address of the receipts. Other than loopback is refused while an
// account has no secret in its path.
func listen(ctx context.Context, db *postgres.DB, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usageError{fmt.Errorf("--listen %s: it is an address and a port, such as 127.0.0.1:8090", address)}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		all, err := db.Accounts(ctx)
		if err != nil {
			return nil, err
		}
		for _, acc := range all {
			if acc.Spec.ReceiptSecret == "" {
				return nil, usageError{fmt.Errorf("--listen %s can be reached by others, and account %s has no receipt_secret: anybody could send receipts; give it one in its file", address, acc.Spec.Name)}
			}
		}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w; if another node runs here, choose another port", err)
	}
	return ln, nil
}

// runNode dials and takes receipts until ctx is cancelled, then ends both in order:
// receipts are taken for as long as requests are in hand. A push takes less than a
// second, so the server needs no longer.
func runNode(ctx context.Context, d *dialer.Dialer, ln net.Listener) error {
	srv := &http.Server{
		Handler:           d.Receipts(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("take receipts: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		err := d.Run(ctx)
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			srv.Close() // a connection on which nothing is asked; what is not answered comes again
		}
		return err
	})
	return g.Wait()
}
