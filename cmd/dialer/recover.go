package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/user"
	"path/filepath"
	"slices"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/journal"
	"dialer/internal/postgres"
)

// recoverCommand is a person's part of the rollback guard: docs/decisions/0007-rollback-guard.md.
type recoverCommand struct {
	State      string   `env:"DIALER_STATE" help:"State folder of the nodes whose journals are read." placeholder:"DIR"`
	Journal    []string `help:"Further journal files, of nodes on other machines." placeholder:"FILE" sep:"none"`
	Reason     string   `help:"Write what the journals know into the database again and let the accounts dial on this server: why it is the right one." placeholder:"TEXT"`
	By         string   `help:"Who says so; default: the user of this machine." placeholder:"NAME"`
	AcceptLoss bool     `help:"Go on although intents are missing that no journal here holds: whom they called may be called again."`
}

// gap is what an account's database and the journals make of each other.
type gap struct {
	postgres.Memory
	known   int64
	at      time.Time
	missing []journal.Entry // those that the journals hold and the database does not, in order
}

// lost is how many batches are missing that no journal here holds.
func (g *gap) lost() int64 { return max(g.known-g.Last.Seq, 0) - int64(len(g.missing)) }

// verdict says in words what the guard makes of the account; "" means that it may be
// dialled.
func (g *gap) verdict() string {
	switch campaign.Judge(g.Last.Seq, g.known, g.Server, g.Vouched, false) {
	case campaign.Replaced:
		return "another server, timeline or database than before"
	case campaign.Forgotten:
		return "the database has forgotten intents"
	case campaign.Unwitnessed:
		return "no journal here knows the account"
	}
	if g.Forgotten > 0 {
		return "the platform reports calls that the database has forgotten"
	}
	return ""
}

func (c recoverCommand) Run(ctx context.Context, a *app) error {
	return a.withDB(ctx, func(db *postgres.DB) error {
		gaps, err := c.look(ctx, a, db)
		if err != nil {
			return err
		}
		if c.Reason == "" {
			return c.show(a, gaps)
		}
		person := c.By
		if person == "" {
			u, err := user.Current()
			if err != nil {
				return usageError{fmt.Errorf("--by: say who you are: %w", err)}
			}
			person = u.Username
		}
		done := 0
		for _, g := range gaps {
			if g.verdict() == "" {
				continue
			}
			if err := c.settle(ctx, a, db, g, person); err != nil {
				return err
			}
			done++
		}
		if done == 0 {
			fmt.Fprintln(a.stdout, "nothing to do: no account waits for this")
		}
		return nil
	})
}

// look compares the database with the journals.
func (c recoverCommand) look(ctx context.Context, a *app, db *postgres.DB) ([]*gap, error) {
	memories, err := db.Memories(ctx)
	if err != nil {
		return nil, err
	}
	files, err := c.files(a, db)
	if err != nil {
		return nil, err
	}
	byAccount := make(map[campaign.AccountID]*gap)
	found := make(map[campaign.AccountID]map[int64]journal.Entry)
	var gaps []*gap
	for _, m := range memories {
		g := &gap{Memory: m, known: campaign.NoMemory}
		gaps = append(gaps, g)
		byAccount[m.Account], found[m.Account] = g, make(map[int64]journal.Entry)
	}
	for _, file := range files {
		for e, err := range journal.Entries(file) {
			if err != nil {
				return nil, err
			}
			g := byAccount[e.Account]
			if g == nil {
				continue // an account that the database has forgotten altogether has no campaign to dial
			}
			if e.Seq > g.known {
				g.known, g.at = e.Seq, e.At
			}
			if e.Seq > g.Last.Seq && e.Sum != "" {
				found[e.Account][e.Seq] = e
			}
		}
	}
	// Once more: a node may have dialled while the journals were read.
	if memories, err = db.Memories(ctx); err != nil {
		return nil, err
	}
	for _, m := range memories {
		if g := byAccount[m.Account]; g != nil {
			g.Memory = m
		}
	}
	for _, g := range gaps {
		maps.DeleteFunc(found[g.Account], func(seq int64, _ journal.Entry) bool { return seq <= g.Last.Seq })
		for _, seq := range slices.Sorted(maps.Keys(found[g.Account])) {
			if seq != g.Last.Seq+1+int64(len(g.missing)) {
				break
			}
			g.missing = append(g.missing, found[g.Account][seq])
		}
	}
	return gaps, nil
}

func (c recoverCommand) files(a *app, db *postgres.DB) ([]string, error) {
	folder, err := nodeFlags{State: c.State}.state(a)
	if err != nil {
		return nil, err
	}
	files, err := journal.Files(filepath.Join(folder, db.InstanceID()))
	return append(files, c.Journal...), err
}

func (c recoverCommand) show(a *app, gaps []*gap) error {
	t := newTable(a.stdout, "account", "database has", "of", "journals know", "of", "missing", "in the journals", "reports", "verdict")
	waits := 0
	for _, g := range gaps {
		words := g.verdict()
		if words == "" {
			words = "may be dialled"
		} else {
			waits++
		}
		t.row(g.Name, g.Last.Seq, moment(g.Last.At), max(g.known, 0), moment(g.at), max(g.known-g.Last.Seq, 0), len(g.missing), g.Forgotten, words)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if waits == 0 {
		return nil
	}
	return fmt.Errorf("%d of these accounts will not be dialled: bring the journals of all nodes that dialled (--state, --journal), "+
		"see to it that no other copy of this database is dialled, and say so with --reason; suppressions, pauses and imports may be missing, too", waits)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format("2006-01-02 15:04:05")
}

func (c recoverCommand) settle(ctx context.Context, a *app, db *postgres.DB, g *gap, person string) error {
	if g.lost() > 0 && !c.AcceptLoss {
		return fmt.Errorf("account %s: %d of %d missing intent batches are in no journal here: bring the journals of the other nodes, or cancel the campaigns that were dialled since %s and add --accept-loss",
			g.Name, g.lost(), g.known-g.Last.Seq, moment(g.Last.At))
	}
	if g.Forgotten > 0 && len(g.missing) == 0 && !c.AcceptLoss {
		return fmt.Errorf("account %s: the platform reports %d calls whose attempts are neither in the database nor in a journal here: bring the journals of the other nodes, or cancel the campaigns that were dialled since %s and add --accept-loss",
			g.Name, g.Forgotten, moment(g.Last.At))
	}
	attempts := 0
	for _, e := range g.missing {
		err := db.Reinsert(ctx, e)
		if errors.Is(err, postgres.ErrOtherContacts) && c.AcceptLoss {
			fmt.Fprintf(a.stderr, "note: %v; left out from here on\n", err)
			break
		}
		if err != nil {
			return err
		}
		attempts += len(e.Attempts)
	}
	if err := db.Recover(ctx, g.Account, g.known, c.Reason, person, time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "account %s: %d attempts written again from the journals as unknown; it may be dialled on this server, says %s: %s\n", g.Name, attempts, person, c.Reason)
	return nil
}
