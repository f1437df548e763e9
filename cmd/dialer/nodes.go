package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"dialer/internal/postgres"
)

type nodesCommand struct {
	All  bool `help:"Also nodes that were not seen for more than ten minutes."`
	JSON bool `name:"json" help:"For machines."`
}

// nodesShownFor is how long a node that has ended is listed.
const nodesShownFor = 10 * time.Minute

func (c nodesCommand) Run(ctx context.Context, a *app) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		var since time.Time
		if !c.All {
			since = time.Now().Add(-nodesShownFor)
		}
		nodes, err := db.NodeStatus(ctx, since)
		if err != nil {
			return err
		}
		accounts, err := db.AccountStatus(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(a.stdout).Encode(struct {
				Nodes    []postgres.NodeStatus    `json:"nodes"`
				Accounts []postgres.AccountStatus `json:"accounts"`
			}{nodes, accounts})
		}
		return printNodes(a.stdout, nodes, accounts)
	})
}

func printNodes(w io.Writer, nodes []postgres.NodeStatus, accounts []postgres.AccountStatus) error {
	t := newTable(w, "node", "id", "version", "state", "accounts", "requests/s", "started", "seen")
	for _, n := range nodes {
		t.row(n.Name, n.Node, n.Version, n.State, n.Accounts, fmt.Sprintf("%.1f", n.PerSecond), clock(&n.StartedAt), clock(&n.SeenAt))
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "account", "held by", "id", "term", "until", "note")
	for _, acc := range accounts {
		holder, id := acc.Name, fmt.Sprint(acc.Node)
		if acc.Node == 0 {
			holder, id = "nobody", "-"
		}
		t.row(acc.Account, holder, id, acc.Term, clock(acc.Until), acc.Why)
	}
	return t.flush()
}
