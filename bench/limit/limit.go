// Package limit measures section 1 of the goals: how near to the limit one comes, and
// that nothing goes above it.
package limit

import (
	"context"
	"errors"
	"time"

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
	var share, refused, worst table.Runs
	for range l.Rounds() {
		m, err := pace(ctx, platform.Options{}, sender.Options{Pacer: sender.Ours, Rate: limit, For: lab.Either(l, 3*time.Second, 20*time.Second)})
		if err != nil {
			return t, err
		}
		share, refused, worst = append(share, m.share), append(refused, m.refused), append(worst, m.worst)
	}
	t.Rows = append(t.Rows,
		table.Row{Name: "idle machine: accepted", Unit: "% of the limit", Ours: share, Goal: table.AtLeast(99.8)},
		table.Row{Name: "idle machine: refused", Unit: "requests", Ours: refused, Goal: table.NeverAbove(0)},
		table.Row{Name: "idle machine: worst second", Unit: "requests", Ours: worst, Goal: table.NeverAbove(limit)})
	return t, nil
}

// paced is what one run at the limit came to.
type paced struct {
	share   float64 // accepted, in percent of the limit
	refused float64
	worst   float64 // most arrivals in a sliding second
}

// pace runs one sender against a platform of its own.
func pace(ctx context.Context, server platform.Options, o sender.Options) (m paced, err error) {
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
	seen := report.Between(r.Began.Add(time.Second), r.Began.Add(o.For))
	stats := report.Stats.Accounts[platform.KeyID(0)]
	return paced{share: 100 * seen.PerSecond() / limit, refused: float64(stats.Throttled), worst: float64(stats.WorstSecond)}, nil
}
