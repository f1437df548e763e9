package limit

import (
	"context"
	"time"

	"dialer/bench/internal/chart"
	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/sender"
	"dialer/bench/internal/table"
)

// steady measures the whole program at the limit, and what it costs beside a bare
// client that does nothing but send as often.
func (w *whole) steady(ctx context.Context, t *table.Table) error {
	var share, refused, cost, bare, database table.Runs
	for round := range w.Rounds() {
		w.Say("the whole dialer at the limit, round %d", round+1)
		n, err := w.site.Start("steady")
		if err != nil {
			return err
		}
		if err := w.dialling(ctx); err != nil {
			return err
		}
		m, err := w.watch(ctx, n, lab.Either(w.Lab, 3*time.Second, 8*time.Second))
		if err != nil {
			return err
		}
		if err := n.Stop(); err != nil {
			return err
		}
		share, refused = append(share, 100*m.perSecond/limit), append(refused, m.refused*1000/m.calls)
		cost, database = append(cost, m.cpu/m.calls), append(database, m.postgres/m.calls)
		if round == 0 {
			addCurve(t, chart.Line{Name: "the whole dialer", Points: m.curve})
		}
		b, err := bareCost(ctx, lab.Either(w.Lab, 2*time.Second, 5*time.Second))
		if err != nil {
			return err
		}
		bare = append(bare, b)
	}
	t.Rows = append(t.Rows,
		table.Row{Name: "whole dialer, idle machine: accepted", Unit: "% of the limit", Ours: share, Goal: table.AtLeast(99.8)},
		table.Row{Name: "whole dialer, idle machine: refused", Unit: "requests per 1000", Ours: refused, Goal: table.NeverAbove(0)},
		table.Row{Name: "cost at 1000/s: the dialer's process", Unit: "us of CPU per call", Ours: cost, Peer: "bare client, x/time/rate", Reference: bare, Goal: table.RatioAtMost(1.3)},
		table.Row{Name: "cost at 1000/s: Postgres", Unit: "us of CPU per call", Ours: database})
	return nil
}

// span is what a node did in a time.
type span struct {
	perSecond, calls, refused float64
	cpu, postgres             float64 // us
	curve                     []chart.Point
}

// cpu can say how much processor time it has used.
type cpu interface{ CPU() (time.Duration, error) }

// watch lets a node work for a time.
func (w *whole) watch(ctx context.Context, n cpu, d time.Duration) (m span, err error) {
	var reports [2]platform.Report
	var used, database [2]time.Duration
	began := time.Now()
	for i := range 2 {
		if reports[i], err = w.platform.Report(); err != nil {
			return m, err
		}
		if used[i], err = n.CPU(); err != nil {
			return m, err
		}
		if database[i], err = w.site.Postgres.CPU(); err != nil {
			return m, err
		}
		if i == 0 {
			if err := rest(ctx, d); err != nil {
				return m, err
			}
		}
	}
	seen := reports[1].Between(began, time.Now())
	return span{
		perSecond: seen.PerSecond(),
		calls:     float64(reports[1].Stats.Accepted - reports[0].Stats.Accepted),
		refused:   float64(throttled(reports[1]) - throttled(reports[0])),
		cpu:       float64((used[1] - used[0]).Microseconds()),
		postgres:  float64((database[1] - database[0]).Microseconds()),
		curve:     seen.Curve(began, 250*time.Millisecond),
	}, nil
}

// bareCost is the CPU per call of a bare client at the same rate.
func bareCost(ctx context.Context, d time.Duration) (float64, error) {
	p, err := platform.Start(platform.Options{Limit: 2 * limit})
	if err != nil {
		return 0, err
	}
	r, err := sender.Run(ctx, sender.Options{Endpoint: p.URL, Client: "bare", Pacer: sender.XRate, Rate: limit, Burst: 1, For: d})
	if err != nil {
		return 0, err
	}
	return r.CPUPerCall(), p.Close()
}

// addCurve adds a line to the picture of the idle machine, as far as the others go.
func addCurve(t *table.Table, line chart.Line) {
	for i := range t.Charts {
		c := &t.Charts[i]
		if c.File != "limit-idle.svg" {
			continue
		}
		var most float64
		for _, p := range c.Lines[0].Points {
			most = max(most, p.X)
		}
		for n := len(line.Points) - 1; n >= 0 && line.Points[n].X > most; n-- {
			line.Points = line.Points[:n]
		}
		c.Lines = append(c.Lines, line)
	}
}
