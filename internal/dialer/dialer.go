// Package dialer is the engine: whom to call now, and what came of it.
//
// A Dialer is one node. Of all accounts its keeper holds its share, and for each of them
// one dispenser goroutine turns pending contacts into attempts:
//
//	token    the pace allows a few more requests
//	intent   one transaction checks everything that may forbid a call and writes the attempts
//	request  a sender makes the request of each attempt, at most once, until its send_by
//	result   the recorder writes what came of them, in batches
//
// Whether or not it holds an account, a node takes receipts for all of them, fires
// schedules and so on. Nodes share nothing but the database; people act by changing
// its tables, which the next intent sees.
package dialer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

// Config is what a node needs to know. The zero value of a duration or number
// means its default.
type Config struct {
	DB  *postgres.DB
	Log *slog.Logger
	// Name and Version identify the node to people.
	Name, Version string
	// Account restricts the node to one account; "" means all of them.
	Account string
	// Secret resolves a reference in an account's file.
	Secret func(ref string) (string, error)
	// Proxy is the HTTP proxy to the platform, if one is configured; the
	// environment's is ignored.
	Proxy *url.URL
	// Dial opens the connections to the platform; nil means the machine's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// State is a folder on local disk, of this machine alone, for what must be
	// remembered apart from the database: whom this node called (package journal), and
	// receipts that came while the database was away. Nodes of one machine may share it.
	// Without one, such receipts are refused, and the node remembers whom it called only
	// as long as it runs.
	State string

	// TrustStandby says that the operator never promotes a standby that commits have stopped
	// waiting for: decision 10. Then a node may vouch for one after a failover by itself.
	TrustStandby bool

	Senders        int           // most requests at once per account; default: its limit, at most 2000
	RequestTimeout time.Duration // total, per request; default 10 s
	SendWithin     time.Duration // how long after its intent a request may still be sent; default 3 s
	LeaseTTL       time.Duration // default 3 s
	AskAfter       time.Duration // an accepted call without a receipt is asked about; default 25 min, past an ordinary call and the last push
	LostAfter      time.Duration // an attempt without evidence is lost; default 80 min, past the longest call, its ringing and the last push
	MaxSkew        time.Duration // most that this clock and the database's may differ; default 5 s
	Poll           time.Duration // how often the tables are looked at; default 250 ms
	Grace          time.Duration // how late a schedule may still fire; default 10 min
	Drain          time.Duration // how long a node that was told to stop may take; default 25 s
	SpoolMost      int64         // bytes of receipts that may wait on disk; default 1 GiB
}

// Dialer is one node. Make it with New; Run may be called once.
type Dialer struct {
	Config
	node   campaign.NodeID
	memory *memory

	// taking ends when no request is in hand any more: until then pushes are stored.
	taking context.Context
	takers sync.WaitGroup
	// last ends when a node that was told to stop must give up what it still has in hand.
	last context.Context
	// unrecorded counts attempts whose response is in no table.
	unrecorded atomic.Int64

	spool *spool      // nil without a state folder
	away  atomic.Bool // the database did not take pushes when they came last

	mu       sync.Mutex
	accounts map[campaign.AccountID]*account
	stopped  bool // no push is taken any more
}

// account is what a node knows of an account, whether it holds it or not.
type account struct {
	id    campaign.AccountID
	spec  campaign.Account
	inbox *inbox
	lines *lines
	// changed is closed when the account's file has changed.
	changed chan struct{}
}

// New returns a node with defaults filled in.
func New(c Config) *Dialer {
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 10*time.Second)
	c.SendWithin = cmp.Or(c.SendWithin, 3*time.Second)
	c.LeaseTTL = cmp.Or(c.LeaseTTL, 3*time.Second)
	c.AskAfter = cmp.Or(c.AskAfter, 25*time.Minute)
	c.LostAfter = cmp.Or(c.LostAfter, 80*time.Minute)
	c.MaxSkew = cmp.Or(c.MaxSkew, 5*time.Second)
	c.Poll = cmp.Or(c.Poll, 250*time.Millisecond)
	c.Grace = cmp.Or(c.Grace, 10*time.Minute)
	c.Drain = cmp.Or(c.Drain, 25*time.Second)
	c.SpoolMost = cmp.Or(c.SpoolMost, 1<<30)
	return &Dialer{Config: c, accounts: make(map[campaign.AccountID]*account)}
}

// Run works until ctx is cancelled; then it makes no further intent, waits for the
// requests in hand, takes receipts meanwhile, and writes the results, all within the
// time of Drain. It returns an error for a fault that working on would make worse, and
// if results could not be written. A database that is away for a while is neither.
func (d *Dialer) Run(ctx context.Context) error {
	err := d.patiently(ctx, "register the node", func() (err error) {
		d.node, err = d.DB.NewNode(ctx, d.Name, d.Version, time.Now())
		return err
	})
	if err != nil && ctx.Err() != nil {
		return nil // it was told to stop before it had begun
	}
	if err != nil {
		return err
	}
	d.Log = d.Log.With("node", d.node)
	var slot *state
	if d.State != "" {
		if slot, err = openState(d.State, d.DB.InstanceID()); err != nil {
			return err
		}
		defer slot.Close()
	}
	if d.memory, err = openMemory(slot, d.DB.OutIDKey()); err != nil {
		return err
	}
	defer d.memory.close()
	if slot != nil {
		if d.spool, err = openSpool(slot, d.SpoolMost, d.Log); err != nil {
			return err
		}
		defer d.spool.Close()
	}
	var stopTaking, giveUp context.CancelFunc
	d.taking, stopTaking = context.WithCancel(context.WithoutCancel(ctx))
	defer stopTaking()
	d.last, giveUp = context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(d.Drain, giveUp) })()

	err = d.work(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // told to stop before it had begun
	}
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	stopTaking()
	d.takers.Wait()
	if n := d.unrecorded.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("what came of %d attempts could not be written: they stay unknown until receipts tell, and are not dialled again", n))
	}
	return err
}

// work does everything but taking receipts, until ctx is cancelled and no request is in
// hand any more.
func (d *Dialer) work(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	err := d.patiently(ctx, "read the accounts", func() error { return d.refresh(ctx, g) })
	if err != nil && ctx.Err() == nil {
		return err
	}
	g.Go(func() error {
		every(ctx, refreshEvery, func() {
			if err := d.refresh(ctx, g); err != nil {
				d.Log.Warn("read the accounts", "err", err)
			}
		})
		return nil
	})
	g.Go(func() error { return newKeeper(d).keep(ctx) })
	if d.spool != nil {
		g.Go(func() error { d.replay(ctx); return nil })
	}
	if d.Account == "" {
		g.Go(func() error {
			every(ctx, time.Second, func() {
				fire, cancel := context.WithTimeout(ctx, fireWithin)
				defer cancel()
				if n, err := d.DB.FireSchedules(fire, time.Now(), d.Grace, next); err != nil {
					d.Log.Warn("look at the schedules", "err", err)
				} else if n > 0 {
					d.Log.Info("runs started by their schedule", "runs", n)
				}
			})
			return nil
		})
	}
	return g.Wait()
}

// patiently does something at the beginning that needs the database, and again while the
// database is away.
func (d *Dialer) patiently(ctx context.Context, what string, f func() error) error {
	for {
		err := f()
		if err == nil || !postgres.IsTransient(err) || ctx.Err() != nil {
			return err
		}
		d.Log.Warn(what+": trying again", "err", err)
		sleep(ctx, time.Second)
	}
}

// fireWithin is how long it may take to fire the schedules that are due.
const fireWithin = 30 * time.Second

func next(s campaign.Schedule, after time.Time) (time.Time, error) { return s.Next(after) }

// refreshEvery is how often the accounts' files are looked at. A limit that a person
// changed is in force within a second.
const refreshEvery = 500 * time.Millisecond

// refresh reads the accounts, starts working for those that are new, and tells those
// whose file has changed.
func (d *Dialer) refresh(ctx context.Context, g *errgroup.Group) error {
	read, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	all, err := d.DB.Accounts(read)
	if err != nil {
		return err
	}
	found := false
	for _, stored := range all {
		if d.Account != "" && stored.Spec.Name != d.Account {
			continue
		}
		found = true
		d.mu.Lock()
		a, ok := d.accounts[stored.ID]
		switch {
		case !ok:
			a = &account{id: stored.ID, spec: stored.Spec, inbox: newInbox(), lines: newLines(stored.Spec.CallerIDs), changed: make(chan struct{})}
			d.accounts[stored.ID] = a
			d.takers.Go(func() { d.storePushes(a) })
			g.Go(func() error { d.applyPushes(ctx, a); return nil })
		case !reflect.DeepEqual(a.spec, stored.Spec):
			a.spec = stored.Spec
			a.lines.set(stored.Spec.CallerIDs)
			close(a.changed)
			a.changed = make(chan struct{})
		}
		d.mu.Unlock()
	}
	if d.Account != "" && !found {
		return fmt.Errorf("no account is called %q: %w", d.Account, campaign.ErrNotFound)
	}
	return nil
}

// settings returns the account's file as it is now, and a channel that is closed
// when it changes.
func (d *Dialer) settings(a *account) (campaign.Account, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return a.spec, a.changed
}

// every calls f at once and then at the given interval, until ctx is done.
func every(ctx context.Context, interval time.Duration, f func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}
