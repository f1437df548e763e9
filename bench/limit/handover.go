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

// lease is how long an account is held without a sign of life, by default.
const lease = 3 * time.Second

// frozen is how long a holder is frozen: past its lease.
const frozen = 5 * time.Second

// handover measures an account that changes hands: its holder is killed, frozen past
// its lease, or told to stop. The second node is there already.
func (w *whole) handover(ctx context.Context, t *table.Table) error {
	began := time.Now()
	if _, err := w.site.Start("node0"); err != nil {
		return err
	}
	events := []struct {
		name string
		do   func(*node.Node) error
		goal table.Goal
		gaps table.Runs
	}{
		{name: "killed", do: (*node.Node).Kill, goal: table.AtMost((lease + time.Second).Seconds())},
		{name: "frozen 5 s", do: w.freeze(ctx), goal: table.AtMost((lease + time.Second).Seconds())},
		{name: "told to stop", do: (*node.Node).Stop, goal: table.AtMost(1)},
	}
	picture := chart.Chart{
		File: "limit-handover.svg", Title: "An account changes hands", X: "seconds", Y: "calls accepted per second",
		Limit: limit, LimitName: "the limit",
	}
	for round := range w.Rounds() {
		w.Say("the account changes hands, round %d", round+1)
		for i := range events {
			e := &events[i]
			gap, at, err := w.lose(ctx, fmt.Sprintf("node%d-%d", round, i+1), e.do)
			if err != nil {
				return fmt.Errorf("holder %s: %w", e.name, err)
			}
			e.gaps = append(e.gaps, gap.Seconds())
			if round == 0 {
				picture.Marks = append(picture.Marks, chart.Mark{X: at.Sub(began).Seconds(), Name: e.name})
			}
		}
		if round == 0 {
			r, err := w.platform.Report()
			if err != nil {
				return err
			}
			picture.Lines = []chart.Line{{Name: "both nodes together", Points: r.Between(began, time.Now()).Curve(began, 250*time.Millisecond)}}
		}
	}
	r, err := w.platform.Report()
	if err != nil {
		return err
	}
	worst := float64(r.Stats.Accounts[platform.KeyID(0)].WorstSecond)
	for _, e := range events {
		t.Rows = append(t.Rows, table.Row{Name: "holder " + e.name + ": pause", Unit: "s", Ours: e.gaps, Goal: e.goal})
	}
	t.Rows = append(t.Rows,
		table.Row{Name: "account changes hands: worst second over all nodes", Unit: "requests", Ours: table.Runs{worst}, Goal: table.NeverAbove(limit)},
		table.Row{Name: "account changes hands: refused", Unit: "requests", Ours: table.Runs{float64(r.Throttled())}, Goal: table.NeverAbove(0)})
	t.Charts = append(t.Charts, picture)
	return nil
}

// freeze stops the holder for longer than its lease. Meanwhile the other node dials;
// afterwards there are two again.
func (w *whole) freeze(ctx context.Context) func(*node.Node) error {
	return func(n *node.Node) error {
		if err := n.Freeze(); err != nil {
			return err
		}
		if err := lab.Rest(ctx, frozen); err != nil {
			return err
		}
		return n.Thaw()
	}
}

// lose starts a second node, does something to the one that dials, and returns for how
// long nothing was accepted.
func (w *whole) lose(ctx context.Context, name string, do func(*node.Node) error) (gap time.Duration, at time.Time, err error) {
	if err := w.site.Dialling(ctx, 0.9*limit); err != nil {
		return 0, at, err
	}
	holder, err := w.site.Holder()
	if err != nil {
		return 0, at, err
	}
	if w.site.Running() < 2 {
		if _, err := w.site.Start(name); err != nil {
			return 0, at, err
		}
	}
	if err := lab.Rest(ctx, time.Second); err != nil {
		return 0, at, err
	}
	at = time.Now()
	if err := do(holder); err != nil {
		return 0, at, err
	}
	err = w.site.Until(ctx, "another node to hold the account", func(platform.Report) bool { return w.site.HeldSince(at) })
	if err != nil {
		return 0, at, err
	}
	if err := w.site.Dialling(ctx, 0.9*limit); err != nil {
		return 0, at, err
	}
	// Whatever the one that was frozen still has in hand goes out in this second.
	if err := lab.Rest(ctx, 1500*time.Millisecond); err != nil {
		return 0, at, err
	}
	r, err := w.platform.Report()
	return r.Between(at.Add(-200*time.Millisecond), time.Now()).LongestGap(), at, err
}
