package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

type campaignCommand struct {
	Apply  campaignApply  `cmd:"" help:"Create or change a campaign from its file."`
	List   campaignList   `cmd:"" help:"List the campaigns and how far they are."`
	Show   campaignShow   `cmd:"" help:"Show one campaign: its file, its progress, its next runs."`
	Start  campaignStart  `cmd:"" help:"Open a run; a node dials it."`
	Pause  campaignPause  `cmd:"" help:"Hold a campaign: no call is started after this returns."`
	Resume campaignResume `cmd:"" help:"Let a paused campaign dial again."`
	Cancel campaignCancel `cmd:"" help:"End a campaign for good; what is pending is never dialled."`
}

type campaignApply struct {
	File string `arg:"" help:"The campaign's YAML file."`
}

func (c campaignApply) Run(ctx context.Context, a *app) error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return usageError{err}
	}
	spec, err := campaign.ParseCampaign(c.File, data)
	if err != nil {
		return usageError{err}
	}
	return a.withDB(ctx, func(db *postgres.DB) error {
		now := time.Now()
		next, err := nextRun(spec, now)
		if err != nil {
			return err
		}
		stored, changed, err := db.ApplyCampaign(ctx, spec, next, now)
		if err != nil {
			return err
		}
		if !changed {
			fmt.Fprintf(a.stdout, "campaign %s is as in the file already (version %d)\n", spec.Name, stored.Version)
			return nil
		}
		fmt.Fprintf(a.stdout, "campaign %s, version %d\n", spec.Name, stored.Version)
		return printSchedule(a, spec, now)
	})
}

func nextRun(spec *campaign.Campaign, now time.Time) (time.Time, error) {
	if spec.Schedule == nil {
		return time.Time{}, nil
	}
	return spec.Schedule.Next(now)
}

func printSchedule(a *app, spec *campaign.Campaign, now time.Time) error {
	if spec.Schedule == nil {
		return nil
	}
	times, err := spec.Schedule.NextN(now, 5)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "next runs:")
	for _, t := range times {
		fmt.Fprintln(a.stdout, "  "+t.Format("Mon 2006-01-02 15:04 MST"))
	}
	return nil
}

type campaignList struct{}

func (campaignList) Run(ctx context.Context, a *app) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		all, err := db.Campaigns(ctx)
		if err != nil {
			return err
		}
		t := newTable(a.stdout, "campaign", "account", "state", "imported", "pending", "open", "done", "suppressed", "cancelled", "expired", "unknown", "next run")
		for _, c := range all {
			p, err := db.Progress(ctx, c.ID)
			if err != nil {
				return err
			}
			next := ""
			if !c.NextRunAt.IsZero() {
				next = c.NextRunAt.In(time.FixedZone("CST", 8*3600)).Format("2006-01-02 15:04 MST")
			}
			t.row(p.Campaign, p.Account, p.State, p.Imported, p.Pending, p.Open, p.Done, p.Suppressed, p.Cancelled, p.Expired, p.Unknown, next)
		}
		return t.flush()
	})
}

type campaignShow struct {
	Campaign string `arg:""`
}

func (c campaignShow) Run(ctx context.Context, a *app) error {
	return a.withCampaign(ctx, c.Campaign, func(db *postgres.DB, stored postgres.Campaign) error {
		p, err := db.Progress(ctx, stored.ID)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "campaign %s of account %s: %s", p.Campaign, p.Account, p.State)
		if p.Reason != "" {
			fmt.Fprintf(a.stdout, " (%s)", p.Reason)
		}
		fmt.Fprintln(a.stdout)
		t := newTable(a.stdout, "imported", "pending", "open", "done", "suppressed", "cancelled", "expired", "unknown", "attempts", "accepted", "throttled", "refused", "answered")
		t.row(p.Imported, p.Pending, p.Open, p.Done, p.Suppressed, p.Cancelled, p.Expired, p.Unknown, p.Attempts, p.Accepted, p.Throttled, p.Refused, p.Answered)
		if err := t.flush(); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "file, version %d: %s\n", stored.Version, stored.Spec.JSON())
		return printSchedule(a, &stored.Spec, time.Now())
	})
}

// withCampaign opens the database and finds a campaign by name.
func (a *app) withCampaign(ctx context.Context, name string, f func(db *postgres.DB, c postgres.Campaign) error) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		c, err := db.Campaign(ctx, name)
		if err != nil {
			return err
		}
		return f(db, c)
	})
}

type campaignStart struct {
	Campaign string `arg:""`
}

func (c campaignStart) Run(ctx context.Context, a *app) error {
	return a.withCampaign(ctx, c.Campaign, func(db *postgres.DB, stored postgres.Campaign) error {
		id, started, err := db.Start(ctx, stored.ID, time.Now())
		if err != nil {
			return err
		}
		if !started {
			fmt.Fprintf(a.stdout, "run %d of %s is open already\n", id, c.Campaign)
			return nil
		}
		fmt.Fprintf(a.stdout, "run %d of %s is open: a node ('dialer serve') dials it\n", id, c.Campaign)
		return nil
	})
}

type campaignPause struct {
	Campaign string `arg:""`
	Reason   string `default:"paused by a person" help:"Why, for those who look at it later."`
}

func (c campaignPause) Run(ctx context.Context, a *app) error {
	return a.withCampaign(ctx, c.Campaign, func(db *postgres.DB, stored postgres.Campaign) error {
		return db.Pause(ctx, stored.ID, c.Reason, time.Now())
	})
}

type campaignResume struct {
	Campaign string `arg:""`
}

func (c campaignResume) Run(ctx context.Context, a *app) error {
	return a.withCampaign(ctx, c.Campaign, func(db *postgres.DB, stored postgres.Campaign) error {
		return db.Resume(ctx, stored.ID, time.Now())
	})
}

type campaignCancel struct {
	Campaign string `arg:""`
}

func (c campaignCancel) Run(ctx context.Context, a *app) error {
	return a.withCampaign(ctx, c.Campaign, func(db *postgres.DB, stored postgres.Campaign) error {
		return db.Cancel(ctx, stored.ID, time.Now())
	})
}
