package limit

import (
	"context"
	"fmt"
	"time"

	"dialer/bench/internal/chart"
	"dialer/bench/internal/lab"
	"dialer/bench/internal/node"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/table"
)

// storm measures what a node does while the platform refuses everything, and how soon
// it is back. A minute of it is enough to say so once.
func (w *whole) storm(ctx context.Context, t *table.Table) error {
	lasts := lab.Either(w.Lab, 6*time.Second, time.Minute)
	w.Say("the platform refuses everything for %s", lasts)
	if w.site.Running() == 0 {
		if _, err := w.site.Start("storm"); err != nil {
			return err
		}
	}
	if err := w.site.Dialling(ctx, 0.9*limit); err != nil {
		return err
	}
	began := time.Now()
	if err := w.platform.Throttle(1); err != nil {
		return err
	}
	before, err := w.platform.Report()
	if err != nil {
		return err
	}
	if err := lab.Rest(ctx, lasts); err != nil {
		return err
	}
	after, err := w.platform.Report()
	if err != nil {
		return err
	}
	ended := time.Now()
	if err := w.platform.Throttle(0); err != nil {
		return err
	}
	if err := lab.Rest(ctx, 12*time.Second); err != nil {
		return err
	}
	end, err := w.platform.Report()
	if err != nil {
		return err
	}
	lost, err := w.lost(ctx, began)
	if err != nil {
		return err
	}
	sent := float64(after.Stats.Requests-before.Stats.Requests) / (limit * lasts.Seconds()) * 100
	t.Rows = append(t.Rows,
		table.Row{Name: fmt.Sprintf("storm of %s: sent during it", lasts), Unit: "% of the limit", Ours: table.Runs{sent}, Goal: table.AtMost(5)},
		table.Row{Name: "storm: 90 % of the limit again", Unit: "s after it", Ours: table.Runs{recovery(end, ended).Seconds()}, Goal: table.AtMost(10)},
		table.Row{Name: "storm: attempts lost or in doubt", Unit: "attempts", Ours: table.Runs{float64(lost)}, Goal: table.NeverAbove(0)})
	shown := began.Add(-2 * time.Second)
	t.Charts = append(t.Charts, chart.Chart{
		File: "limit-storm.svg", Title: "The platform refuses everything, and then nothing", X: "seconds", Y: "calls accepted per second",
		Limit: limit, LimitName: "the limit",
		Lines: []chart.Line{{Name: "the whole dialer", Points: end.Between(shown, time.Now()).Curve(shown, 500*time.Millisecond)}},
		Marks: []chart.Mark{{X: began.Sub(shown).Seconds(), Name: "storm"}, {X: ended.Sub(shown).Seconds(), Name: "over"}},
	})
	return nil
}

// recovery is how long after a moment the first second ended in which nine tenths of
// the limit were accepted.
func recovery(r platform.Report, since time.Time) time.Duration {
	samples := r.Between(since, time.Now()).Samples
	first := 0
	for _, s := range samples {
		for s.At.Sub(samples[first].At) > time.Second {
			first++
		}
		if s.Accepted-samples[first].Accepted >= limit*9/10 {
			return s.At.Sub(since)
		}
	}
	return node.Patience // longer than was looked at
}

// lost stops the nodes in order and counts the attempts since a moment of which nobody
// knows what became.
func (w *whole) lost(ctx context.Context, since time.Time) (int64, error) {
	if err := w.site.StopAll(); err != nil {
		return 0, err
	}
	return w.site.Count(ctx, fmt.Sprintf(`
		SELECT count(*)
		  FROM attempt a
		  LEFT JOIN response r ON r.account_id = a.account_id AND r.attempt_id = a.attempt_id
		 WHERE a.intent_at > '%s' AND (r.class IS NULL OR r.class = 'unknown')`, since.UTC().Format(time.RFC3339Nano)))
}
