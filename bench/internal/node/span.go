package node

import (
	"context"
	"time"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
)

// Span is what a node did in a time, and what it cost.
type Span struct {
	PerSecond     float64 // calls accepted
	Accepted      float64
	Refused       float64 // by the limit of the first account
	CPU, Postgres float64 // microseconds per accepted call, of the node's process and of all of Postgres
	Report        platform.Report
}

// Watch lets a node work for a time. Only one may work then.
func (n *Node) Watch(ctx context.Context, d time.Duration) (Span, error) {
	began := time.Now()
	before, err := n.meter()
	if err != nil {
		return Span{}, err
	}
	if err := lab.Rest(ctx, d); err != nil {
		return Span{}, err
	}
	after, err := n.meter()
	if err != nil {
		return Span{}, err
	}
	s := Span{
		Accepted: float64(after.seen.Stats.Accepted - before.seen.Stats.Accepted),
		Refused:  float64(after.seen.Throttled() - before.seen.Throttled()),
		Report:   after.seen.Between(began, time.Now()),
	}
	s.PerSecond = s.Report.Steady()
	s.CPU = float64((after.node - before.node).Microseconds()) / s.Accepted
	s.Postgres = float64((after.postgres - before.postgres).Microseconds()) / s.Accepted
	return s, nil
}

// meter is where everything that is counted stands.
type meter struct {
	seen           platform.Report
	node, postgres time.Duration
}

func (n *Node) meter() (m meter, err error) {
	if m.seen, err = n.site.Platform.Report(); err != nil {
		return m, err
	}
	if m.node, err = n.CPU(); err != nil {
		return m, err
	}
	m.postgres, err = n.site.Postgres.CPU()
	return m, err
}
