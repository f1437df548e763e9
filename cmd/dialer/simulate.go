package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"dialer/internal/simulator"
)

// simulatorKeyID and simulatorSecret name the environment variables in which both
// sides find the simulator's credentials, as the sample account does.
const (
	simulatorKeyID  = "DIALER_SIMULATOR_KEY_ID"
	simulatorSecret = "DIALER_SIMULATOR_KEY_SECRET"
)

type simulateCommand struct {
	Listen    string             `default:"127.0.0.1:18080" help:"Where to answer; loopback only."`
	Limit     int                `default:"1000" help:"Requests per second of the account, strictly per sliding second."`
	PushTo    string             `help:"Where receipts are pushed: http://127.0.0.1:8090/receipts/ACCOUNT/SECRET." placeholder:"URL"`
	Callback  string             `help:"Address of the dialogue callback." placeholder:"URL"`
	TimeScale float64            `default:"1" help:"Let phones ring, people talk and pushes be repeated this many times faster."`
	Outcomes  map[string]float64 `help:"Shares of outcomes, such as answered=60;busy=20;no_answer=20." mapsep:";"`
	Duplicate float64            `help:"Share of receipts pushed twice."`
	Reorder   float64            `help:"Share of receipts that later ones overtake."`
	Lose      float64            `help:"Share of receipts never pushed."`
	Progress  bool               `help:"Push the stages of a call, too."`
	Throttle  float64            `help:"Share of requests answered Throttling.User below the limit, too."`
	Never     float64            `help:"Share of requests whose call is placed and which are never answered."`
	Cut       float64            `help:"Share of requests whose call is placed and whose connection is cut."`
	HTML      float64            `help:"Share of requests answered with a web page; half of them placed."`
	Code503   float64            `name:"503" help:"Share of requests answered HTTP 503; half of them placed."`
	Redirect  float64            `help:"Share of requests answered HTTP 302; half of them placed."`
	Business  map[string]float64 `help:"Shares of requests answered with a code of the platform, such as isv.BUSINESS_LIMIT_CONTROL=0.01." mapsep:";"`
	Delay     time.Duration      `help:"How long an answer takes." default:"0s"`
	Seed      uint64             `default:"1" help:"The same seed and OutIds give the same calls."`
	Ledger    string             `help:"File for the record of what truly happened, as JSON lines." placeholder:"FILE"`
}

func (c simulateCommand) Run(ctx context.Context, a *app) error {
	host, _, err := net.SplitHostPort(c.Listen)
	if ip := net.ParseIP(host); err != nil || (host != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return usageError{fmt.Errorf("--listen %s: the simulator answers on loopback only, such as 127.0.0.1:18080", c.Listen)}
	}
	id, secret := a.getenv(simulatorKeyID), a.getenv(simulatorSecret)
	if id == "" || secret == "" {
		return usageError{fmt.Errorf("set %s and %s to any two words, here and for the dialer: they are the credentials of the simulated account", simulatorKeyID, simulatorSecret)}
	}
	var ledger io.Writer
	if c.Ledger != "" {
		f, err := os.OpenFile(c.Ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return usageError{err}
		}
		defer f.Close()
		ledger = f
	}
	sim, err := simulator.New(simulator.Config{
		Accounts: map[string]simulator.Account{id: {Name: "simulated", Secret: secret, Limit: c.Limit}},
		PushURL:  c.PushTo, CallbackURL: c.Callback, TimeScale: c.TimeScale, Outcomes: c.Outcomes,
		Duplicate: c.Duplicate, Reorder: c.Reorder, LoseReceipts: c.Lose, ProgressReports: c.Progress,
		Faults: simulator.Faults{
			Throttle: c.Throttle, NeverAnswer: c.Never, Cut: c.Cut, HTML: c.HTML, Status503: c.Code503, Redirect302: c.Redirect,
			Business: c.Business, Delay: simulator.Range{Min: c.Delay, Max: c.Delay},
		},
		Seed: c.Seed, Ledger: ledger,
	})
	if err != nil {
		return usageError{err}
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("--listen: %w", err), sim.Close())
	}
	fmt.Fprintf(a.stderr, "simulated SmartCall on http://%s, %d requests/s; it calls nobody\n", ln.Addr(), c.Limit)
	stop := serveSimulator(sim, ln)
	<-ctx.Done()
	err = stop()
	st := sim.Stats()
	fmt.Fprintf(a.stderr, "%d requests: %d calls placed, %d throttled, %d refused, %d dropped; worst second %d; %d phones rung while in a call, %d OutIds called twice\n",
		st.Requests, st.Accepted, st.Throttled, st.Refused, st.Dropped, st.Accounts["simulated"].WorstSecond, st.Overlaps, st.Repeats)
	return err
}

// serveSimulator answers on ln until the function it returns is called, which closes
// the simulator, too.
func serveSimulator(sim *simulator.Simulator, ln net.Listener) func() error {
	srv := &http.Server{Handler: sim, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(ln)
	}()
	return func() error {
		// Requests that are never answered would hold up Shutdown.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			srv.Close()
		}
		<-served
		return sim.Close()
	}
}
