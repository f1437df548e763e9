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
		if err := w.site.Dialling(ctx, 0.9*limit); err != nil {
			return err
		}
		m, err := n.Watch(ctx, lab.Either(w.Lab, 3*time.Second, 8*time.Second))
		if err != nil {
			return err
		}
		if err := n.Stop(); err != nil {
			return err
		}
		share, refused = append(share, 100*m.PerSecond/limit), append(refused, m.Refused*1000/m.Accepted)
		cost, database = append(cost, m.CPU), append(database, m.Postgres)
		if round == 0 {
			addCurve(t, chart.Line{Name: "the whole dialer", Points: m.Report.Curve(m.Report.Samples[0].At, 250*time.Millisecond)})
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
		if c.File != idlePicture {
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
