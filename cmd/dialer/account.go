package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

type accountCommand struct {
	Apply  accountApply  `cmd:"" help:"Create or change an account from its file."`
	List   accountList   `cmd:"" help:"List the accounts."`
	Resume accountResume `cmd:"" help:"Let a paused account dial again."`
}

type accountApply struct {
	File string `arg:"" help:"The account's YAML file."`
}

func (c accountApply) Run(ctx context.Context, a *app) error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return usageError{err}
	}
	spec, err := campaign.ParseAccount(c.File, data)
	if err != nil {
		return usageError{err}
	}
	return a.withDB(ctx, func(db *postgres.DB) error {
		if _, err := db.ApplyAccount(ctx, spec, time.Now()); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "account %s: %d requests/s at %s, %s\n", spec.Name, spec.Limit, spec.Endpoint, map[bool]string{true: "LIVE: real people are called", false: "not live"}[spec.Live])
		// Not an error now: the nodes may have what this shell has not.
		for _, ref := range []string{spec.AccessKeyID, spec.AccessKeySecret, spec.ReceiptSecret} {
			if _, err := a.secret(ref); err != nil && ref != "" {
				fmt.Fprintln(a.stderr, "note:", err)
			}
		}
		if spec.ReceiptSecret != "" {
			fmt.Fprintf(a.stdout, "receipts: let the platform push to https://YOUR-HOST/receipts/%s/ followed by the receipt secret\n", spec.Name)
		}
		return nil
	})
}

func (a *app) secret(ref string) (string, error) { return campaign.ResolveSecret(ref, a.getenv) }

type accountList struct{}

func (accountList) Run(ctx context.Context, a *app) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		all, err := db.Accounts(ctx)
		if err != nil {
			return err
		}
		t := newTable(a.stdout, "account", "live", "limit", "caller IDs", "endpoint", "state")
		for _, acc := range all {
			var ids []string
			for _, id := range acc.Spec.CallerIDs {
				ids = append(ids, id.Number)
			}
			state := "active"
			if !acc.Active {
				state = "paused: " + acc.Reason
			}
			t.row(acc.Spec.Name, acc.Spec.Live, acc.Spec.Limit, strings.Join(ids, " "), acc.Spec.Endpoint, state)
		}
		return t.flush()
	})
}

type accountResume struct {
	Account string `arg:""`
}

func (c accountResume) Run(ctx context.Context, a *app) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		return db.ResumeAccount(ctx, c.Account, time.Now())
	})
}
