package main

import (
	"context"
	"fmt"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/dialer"
	"dialer/internal/postgres"
)

type runCommand struct {
	Campaign string `arg:"" help:"The campaign to dial."`
	nodeFlags
}

func (c runCommand) Run(ctx context.Context, a *app) error {
	return a.withCampaign(ctx, c.Campaign, func(db *postgres.DB, stored postgres.Campaign) error {
		c.nodeFlags.LogLevel = max(c.nodeFlags.LogLevel, 4) // the progress line is enough
		cfg, err := c.config(ctx, a, db)
		if err != nil {
			return err
		}
		cfg.Account = stored.Spec.Account
		ln, err := listen(ctx, db, c.Listen)
		if err != nil {
			return err
		}
		if cfg.State, err = c.state(a); err != nil {
			return err
		}
		id, started, err := db.Start(ctx, stored.ID, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "run %d of %s%s; Ctrl-C stops dialling, and the next 'dialer run' goes on\n", id, c.Campaign, map[bool]string{true: "", false: " goes on"}[started])
		nodeCtx, stopNode := context.WithCancel(ctx)
		defer stopNode()
		node := make(chan error, 1)
		go func() { node <- runNode(nodeCtx, dialer.New(cfg), ln) }()
		watchErr := watch(ctx, a, db, stored.ID, id, node)
		stopNode()
		if err := <-node; err != nil {
			return err
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		p, err := db.Progress(last, stored.ID)
		if err != nil {
			return err
		}
		printProgress(a, p)
		return watchErr
	})
}

// watch shows the progress of a run until it has ended, the node has failed, or ctx is
// done. A node's error is left in the channel.
func watch(ctx context.Context, a *app, db *postgres.DB, id campaign.ID, run campaign.RunID, node chan error) error {
	line := newStatus(a.stderr)
	defer line.clear()
	began, tick := time.Now(), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	var first int64 = -1
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-node:
			node <- err
			return nil
		case <-tick.C:
		}
		open, reason, err := db.RunState(ctx, run)
		if err != nil {
			if ctx.Err() != nil || postgres.IsTransient(err) {
				continue
			}
			return err
		}
		p, err := db.Progress(ctx, id)
		if err != nil {
			if ctx.Err() != nil || postgres.IsTransient(err) {
				continue
			}
			return err
		}
		if first < 0 {
			first = p.Attempts
		}
		if !open {
			fmt.Fprintf(a.stdout, "run %d ended: %s\n", run, reason)
			return nil
		}
		line.show("%s", progressLine(p, first, time.Since(began)))
	}
}

func progressLine(p campaign.Progress, first int64, took time.Duration) string {
	s := fmt.Sprintf("%s: %d of %d done, %d open, %d pending, %d answered, %.0f calls/s",
		p.Campaign, p.Done, p.Imported, p.Open, p.Pending, p.Answered, float64(p.Attempts-first)/max(took.Seconds(), 0.001))
	if p.State == campaign.Paused {
		s += ", PAUSED: " + p.Reason
	}
	return s
}

func printProgress(a *app, p campaign.Progress) {
	fmt.Fprintf(a.stdout, "%d imported = %d done + %d suppressed + %d cancelled + %d expired + %d unknown + %d open + %d pending\n",
		p.Imported, p.Done, p.Suppressed, p.Cancelled, p.Expired, p.Unknown, p.Open, p.Pending)
	if p.State == campaign.Paused {
		fmt.Fprintf(a.stdout, "%s is paused: %s; 'dialer campaign resume %s' goes on\n", p.Campaign, p.Reason, p.Campaign)
	}
}
