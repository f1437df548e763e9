package main

import (
	"context"
	"fmt"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

type suppressCommand struct {
	Add    suppressAdd    `cmd:"" help:"Put a number on the list."`
	List   suppressList   `cmd:"" help:"Show the list."`
	Remove suppressRemove `cmd:"" help:"Take a number off the list."`
}

type suppressAdd struct {
	Number string        `arg:""`
	Reason string        `default:"asked not to be called" help:"Why."`
	For    time.Duration `help:"How long; default: for ever." placeholder:"DURATION"`
}

func (c suppressAdd) Run(ctx context.Context, a *app) error {
	phone, err := campaign.ParsePhone(c.Number)
	if err != nil {
		return usageError{err}
	}
	return a.withDB(ctx, func(db *postgres.DB) error {
		now := time.Now()
		var until time.Time
		if c.For > 0 {
			until = now.Add(c.For)
		}
		if err := db.Suppress(ctx, phone, until, c.Reason, "command line", now); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s is on the list: no call to it is started from now on\n", phone)
		return nil
	})
}

type suppressList struct{}

func (suppressList) Run(ctx context.Context, a *app) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		return printQuery(ctx, a, db, `SELECT phone, coalesce(until::text, 'for ever') AS until, reason, source, added_at::timestamp(0) AS added_at FROM report.suppression ORDER BY added_at DESC`)
	})
}

type suppressRemove struct {
	Number string `arg:""`
}

func (c suppressRemove) Run(ctx context.Context, a *app) error {
	phone, err := campaign.ParsePhone(c.Number)
	if err != nil {
		return usageError{err}
	}
	return a.withDB(ctx, func(db *postgres.DB) error {
		was, err := db.Unsuppress(ctx, phone)
		if err != nil {
			return err
		}
		if !was {
			return fmt.Errorf("%s is not on the list", phone)
		}
		fmt.Fprintf(a.stdout, "%s is off the list\n", phone)
		return nil
	})
}
