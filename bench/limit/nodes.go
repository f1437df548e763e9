package limit

import (
	"context"
	"errors"
	"time"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/node"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/table"
)

// whole is the whole program at work: one account, its platform, nodes that come and go.
type whole struct {
	*lab.Lab
	platform *platform.Platform
	site     *node.Site
}

// nodes measures the dialer as it is run, Postgres included.
func nodes(ctx context.Context, l *lab.Lab, t *table.Table) (err error) {
	p, err := platform.Start(platform.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	l.Say("build the dialer, import contacts")
	s, err := node.Open(ctx, l, p, node.Options{Limit: limit, Contacts: lab.Either(l, 100_000, 300_000)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	w := &whole{l, p, s}
	for _, measure := range []func(context.Context, *table.Table) error{w.steady, w.handover, w.storm} {
		if err := measure(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// throttled is how many requests the limit has refused so far.
func throttled(r platform.Report) int64 { return r.Stats.Accounts[platform.KeyID(0)].Throttled }

// patience bounds every wait for something to happen.
const patience = 30 * time.Second

// until waits until the platform's report is as it should be.
func (w *whole) until(ctx context.Context, what string, ok func(platform.Report) bool) error {
	for deadline := time.Now().Add(patience); ; {
		r, err := w.platform.Report()
		if err != nil {
			return err
		}
		if ok(r) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("waited in vain for " + what)
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// dialling waits until calls have been accepted at full pace for half a second.
func (w *whole) dialling(ctx context.Context) error {
	return w.until(ctx, "calls at full pace", func(r platform.Report) bool {
		now := time.Now()
		return r.Between(now.Add(-500*time.Millisecond), now).PerSecond() > 0.9*limit
	})
}

// rest lets time pass, which is what measuring is.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
