// Package limit measures section 1 of the goals: how near to the limit one comes, and
// that nothing goes above it.
package limit

import (
	"context"
	"errors"
	"time"

	"dialer/bench/internal/chart"
	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/sender"
	"dialer/bench/internal/table"
)

// Section is the limit.
var Section = lab.Section{Number: 1, Name: "limit", Title: "The limit: 1000 requests in any second, strictly counted", Run: run}

const limit = 1000

func run(ctx context.Context, l *lab.Lab) (table.Table, error) {
	var t table.Table
	for _, step := range []func(context.Context, *lab.Lab, *table.Table) error{pacers, nodes} {
		if err := step(ctx, l, &t); err != nil {
			return t, err
		}
	}
	return t, nil
}

// paced is what one run at the limit came to.
type paced struct {
	share   float64 // accepted, in percent of the limit
	refused float64
	worst   float64       // most arrivals in a sliding second
	trip    time.Duration // the least round trip, on which the guard's credit rests
	curve   []chart.Point
}

// pace runs one sender against a platform of its own. What is accepted is counted from
// settled on: the first moment is not the steady state.
func pace(ctx context.Context, server platform.Options, o sender.Options, settled time.Duration) (m paced, err error) {
	p, err := platform.Start(server)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	o.Endpoint = p.URL
	r, err := sender.Run(ctx, o)
	if err != nil {
		return m, err
	}
	report, err := p.Report()
	if err != nil {
		return m, err
	}
	end := r.Began.Add(o.For)
	return paced{
		share:   100 * report.Between(r.Began.Add(settled), end).Steady() / limit,
		refused: float64(report.Throttled()),
		worst:   float64(report.Stats.Accounts[platform.KeyID(0)].WorstSecond),
		trip:    r.LeastTrip,
		curve:   report.Between(r.Began, end).Curve(r.Began, 250*time.Millisecond),
	}, nil
}
