package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dialer/internal/postgres"
)

type dbCommand struct {
	Distribute distributeCommand `cmd:"" help:"Show, or run, what spreads the tables that grow over the servers of Citus: see docs/scale.md."`
}

type distributeCommand struct {
	Apply    bool `help:"Run the statements. It may be run again, and goes on where it stopped."`
	CopyRows bool `help:"Also when there are rows already: each table is copied under a lock, which may take hours."`
	// As many words as the loss that it may lead to.
	AcceptUnguardedWorkers bool `help:"Go on although the rollback guard looks at the coordinator only: whom a worker has forgotten after a failover may be called again."`
}

func (c distributeCommand) Run(ctx context.Context, a *app) error {
	if !c.Apply {
		if c.CopyRows || c.AcceptUnguardedWorkers {
			return usageError{errors.New("db distribute: --copy-rows and --accept-unguarded-workers go with --apply")}
		}
		copied, coordinator := postgres.Undistributed()
		fmt.Fprintln(a.stdout, "-- Spread by account_id, the rows of an account on one server:", strings.Join(postgres.Distributed(), ", "))
		fmt.Fprintln(a.stdout, "-- On every server:", strings.Join(copied, ", "))
		fmt.Fprintln(a.stdout, "-- On the coordinator:", strings.Join(coordinator, ", "))
		for _, statement := range postgres.Distribution() {
			fmt.Fprintln(a.stdout, statement+";")
		}
		return nil
	}
	if !c.AcceptUnguardedWorkers {
		return usageError{errors.New("db distribute: the rollback guard looks at the coordinator only: whom a worker has forgotten after a restore or failover may be called again; " +
			"several databases do not have this (docs/scale.md), or say --accept-unguarded-workers")}
	}
	url, named := a.namedDatabase()
	if !named {
		return errors.New("db distribute: the private Postgres has no Citus: name the coordinator in DATABASE_URL")
	}
	err := postgres.Distribute(ctx, url, c.CopyRows, func(statement string) { fmt.Fprintln(a.stdout, statement+";") })
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "-- The tables are distributed. Add plan_cache_mode=auto to the DATABASE_URL of every node.")
	return nil
}
