package limit

import (
	"context"
	"errors"

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
