// Package simulator is SmartCall on loopback: a stand-in for the platform's gateway,
// its telephone network and its receipts, written from the platform's pages alone. It
// shares no code with the client it is called by, so that it is a witness and not an
// echo.
//
// It checks signatures, time stamps and nonces, counts every account's sliding second,
// refuses what the pages say is refused, lets phones ring and people talk, pushes
// receipts with the documented time limit and repeats, and goes wrong on purpose in
// every way listed in Faults. Whether a call is placed is decided apart from what is
// answered. What truly happened goes into an append-only ledger (Entry), which a test
// compares with what the dialer believes.
//
// Answers are JSON whatever Format asks for. No sample number is ever dialled: there
// is no telephone line behind it.
package simulator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Simulator is the simulated platform. It is an http.Handler for the path /; all its
// methods may be called concurrently. Make it with New and end it with Close.
type Simulator struct {
	config   Config
	began    time.Time
	keys     map[string]key
	accounts []*account
	outcomes outcomeMix

	faults      atomic.Pointer[faultPlan]
	pushURL     atomic.Pointer[string]
	nonces      *nonces
	exchange    *exchange
	agenda      *agenda
	busy        activity
	pusher      *pusher
	callbacks   crew
	client      *http.Client
	ledger      *ledger
	tally       tally
	lifetime    context.Context // ends with Close; bounds pushes, callbacks and held answers
	end         context.CancelFunc
	agendaEnded sync.WaitGroup
	closing     func() error
}

// key is one AccessKey.
type key struct {
	secret  string
	account *account
}

// account is what the platform keeps per customer.
type account struct {
	name        string
	index       uint16
	callerIDs   map[string]bool // nil = any
	pushURL     string
	callbackURL string
	calls       window // SmartCall
	queries     window // QueryCallDetailByCallId
}

// New starts a simulated platform. The error says which setting is wrong.
func New(config Config) (*Simulator, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Simulator{
		config:    config,
		began:     time.Now(),
		nonces:    newNonces(4 << 20),
		agenda:    newAgenda(),
		callbacks: crew{limit: 256},
	}
	if err := s.openAccounts(); err != nil {
		return nil, err
	}
	if s.outcomes, err = newOutcomeMix(config.Outcomes); err != nil {
		return nil, err
	}
	if err := s.SetFaults(config.Faults); err != nil {
		return nil, err
	}
	if err := s.SetPushURL(config.PushURL); err != nil {
		return nil, err
	}
	transport := config.Transport
	if transport == nil {
		own := &http.Transport{MaxIdleConnsPerHost: pushesInFlight, IdleConnTimeout: 30 * time.Second}
		transport = own
	}
	s.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.exchange = newExchange(config.Keep)
	s.lifetime, s.end = context.WithCancel(context.Background())
	s.pusher = newPusher(s)
	s.ledger = newLedger(config.Ledger)
	s.agendaEnded.Go(func() { s.agenda.run(s.lifetime) })
	s.closing = sync.OnceValue(s.shutDown)
	return s, nil
}

func (s *Simulator) openAccounts() error {
	byName := make(map[string]*account)
	s.keys = make(map[string]key)
	for id, c := range s.config.Accounts {
		a := byName[c.Name]
		if a == nil {
			a = &account{name: c.Name, index: uint16(len(s.accounts)), pushURL: c.PushURL, callbackURL: c.CallbackURL}
			a.calls.limit, a.calls.strict, a.calls.fixed = c.Limit, s.config.Strict, s.config.FixedWindow
			a.queries.limit, a.queries.strict, a.queries.fixed = defaultQueryLimit, s.config.Strict, s.config.FixedWindow
			byName[c.Name] = a
			s.accounts = append(s.accounts, a)
		}
		if a.calls.limit != c.Limit || a.pushURL != c.PushURL || a.callbackURL != c.CallbackURL {
			return fmt.Errorf("simulator: account %s: its keys disagree on limit or addresses", c.Name)
		}
		for _, number := range c.CallerIDs {
			if a.callerIDs == nil {
				a.callerIDs = make(map[string]bool)
			}
			a.callerIDs[number] = true
		}
		s.keys[id] = key{secret: c.Secret, account: a}
	}
	if len(s.accounts) > 1<<16 {
		return errors.New("simulator: more than 65536 accounts")
	}
	return nil
}

// SetFaults replaces the faults for all later requests.
func (s *Simulator) SetFaults(f Faults) error {
	plan, err := newFaultPlan(f)
	if err != nil {
		return err
	}
	s.faults.Store(plan)
	return nil
}

// SetPushURL replaces the address for all later pushes, repeats included, of accounts
// that have none of their own. Empty = from now on nothing is pushed.
func (s *Simulator) SetPushURL(address string) error {
	if err := checkAddress("PushURL", address); err != nil {
		return err
	}
	s.pushURL.Store(&address)
	return nil
}

// WaitQuiet returns when every request is answered or given up by its sender, every
// call has ended, every report is acknowledged or given up, and the ledger has been
// written up to there. Its error is that of ctx, or says that the simulator was closed.
func (s *Simulator) WaitQuiet(ctx context.Context) error {
	if quiet := s.busy.waiter(); quiet != nil {
		select {
		case <-quiet:
		case <-ctx.Done():
			return fmt.Errorf("wait until the simulator is quiet: %w", context.Cause(ctx))
		case <-s.lifetime.Done():
			return errors.New("wait until the simulator is quiet: it was closed")
		}
	}
	s.ledger.sync()
	return nil
}

// Close ends all calls where they are, stops pushing, waits for the simulator's
// goroutines and writes the rest of the ledger. It returns the ledger's first write
// error. Shut down the http.Server in front first, or its last requests go unrecorded.
// A second Close does nothing and returns the same.
func (s *Simulator) Close() error { return s.closing() }

func (s *Simulator) shutDown() error {
	s.end()
	s.agendaEnded.Wait()
	s.pusher.crew.close()
	s.callbacks.close()
	s.client.CloseIdleConnections()
	return s.ledger.close()
}

// scaled is how long d takes on this simulator's clock.
func (s *Simulator) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.config.TimeScale)
}

// entry begins a ledger entry about the given moment.
func (s *Simulator) entry(kind string, at time.Time) *Entry {
	return &Entry{Kind: kind, Wall: at.Round(0).UTC(), MonoUS: at.Sub(s.began).Microseconds()}
}

// record counts an entry and hands it to the ledger; the caller must not touch it again.
func (s *Simulator) record(e *Entry) {
	s.tally.count(e)
	s.ledger.put(e)
}
