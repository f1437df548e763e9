package main

import (
	"context"
	"encoding/json"
	"fmt"

	"dialer/internal/postgres"
)

type outcomesCommand struct {
	Campaign string `arg:""`
	JSON     bool   `name:"json" help:"For machines."`
}

func (c outcomesCommand) Run(ctx context.Context, a *app) error {
	return a.withCampaign(ctx, c.Campaign, func(db *postgres.DB, stored postgres.Campaign) error {
		outcomes, err := db.Outcomes(ctx, stored.ID)
		if err != nil {
			return err
		}
		p, err := db.Progress(ctx, stored.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(a.stdout).Encode(map[string]any{"progress": p, "outcomes": outcomes})
		}
		t := newTable(a.stdout, "outcome", "calls", "percent")
		for _, o := range outcomes {
			t.row(o.Outcome, o.Calls, fmt.Sprintf("%.1f", o.Percent))
		}
		if err := t.flush(); err != nil {
			return err
		}
		printProgress(a, p)
		return nil
	})
}
