package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/dialer"
	"dialer/internal/pgserver"
	"dialer/internal/postgres"
	"dialer/internal/simulator"
	samples "dialer/sample_campaigns"
)

type demoCommand struct {
	JSON bool   `name:"json" help:"Print the result for machines."`
	Seed uint64 `default:"1" help:"Seed of the simulated calls."`
	Keep string `help:"Keep database and simulator's ledger in this new folder, to look at them afterwards." placeholder:"DIR"`
}

// demoTimeScale makes calls of the simulator pass this much faster.
const demoTimeScale = 20

func (c demoCommand) Run(ctx context.Context, a *app) error {
	d := &demo{app: a, say: a.stdout, began: time.Now()}
	if c.JSON {
		d.say = io.Discard
	}
	if err := d.prepare(ctx, c); err != nil {
		d.close()
		return err
	}
	defer d.close()
	if err := d.load(ctx); err != nil {
		return err
	}
	if err := d.dial(ctx); err != nil {
		return err
	}
	result, err := d.judge(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(result)
	} else {
		err = d.show(ctx, result)
	}
	if err == nil && !result.OK {
		err = fmt.Errorf("the demo does not add up: see the checks above")
	}
	return err
}

// demo is everything at once: database, simulator and node in one process.
type demo struct {
	*app
	say       io.Writer
	began     time.Time
	closers   []func()
	db        *postgres.DB
	account   *campaign.Account
	campaigns []postgres.Campaign
	imports   []postgres.Import
	runs      []campaign.RunID
	sim       *simulator.Simulator
	stopSim   func() error
	ledger    string
	secrets   map[string]string
	receipts  net.Listener
	dialled   time.Duration
}

func (d *demo) close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]()
	}
	d.closers = nil
}

func (d *demo) prepare(ctx context.Context, c demoCommand) error {
	dir := c.Keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "dialer-demo-"); err != nil {
			return err
		}
		d.closers = append(d.closers, func() { os.RemoveAll(dir) })
		// As root, the server runs as another user, who must be able to pass through.
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	} else if err := os.Mkdir(dir, 0o711); err != nil {
		return usageError{fmt.Errorf("--keep: %w", err)}
	}
	server, err := pgserver.Start(ctx, pgserver.Options{Dir: dir, BinDir: d.getenv("DIALER_PG_BIN"), AllowDownload: true, Log: d.logger(slog.LevelWarn)})
	if err != nil {
		return err
	}
	d.closers = append(d.closers, func() { server.Close() })
	fmt.Fprintf(d.say, "private Postgres %s: %s\n", server.Version(), server.Source())
	n, err := postgres.Migrate(ctx, server.URL())
	if err != nil {
		return err
	}
	fmt.Fprintf(d.say, "schema: %d migrations applied\n", n)
	if d.db, err = postgres.Open(ctx, server.URL()); err != nil {
		return err
	}
	d.closers = append(d.closers, d.db.Close)
	return d.simulate(c.Seed, filepath.Join(dir, "simulator.jsonl"))
}

// simulate starts the simulated SmartCall and points the sample account at it.
func (d *demo) simulate(seed uint64, ledger string) error {
	data, err := samples.FS.ReadFile("account.yaml")
	if err != nil {
		return err
	}
	if d.account, err = campaign.ParseAccount("account.yaml", data); err != nil {
		return err
	}
	d.secrets = make(map[string]string)
	for _, ref := range []string{d.account.AccessKeyID, d.account.AccessKeySecret, d.account.ReceiptSecret} {
		d.secrets[ref] = rand.Text()
	}
	if d.receipts, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	d.closers = append(d.closers, func() { d.receipts.Close() })
	file, err := os.Create(ledger)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, func() { file.Close() })
	d.ledger = ledger
	key := d.secrets[d.account.AccessKeyID]
	d.sim, err = simulator.New(simulator.Config{
		Accounts:  map[string]simulator.Account{key: {Name: d.account.Name, Secret: d.secrets[d.account.AccessKeySecret], Limit: d.account.Limit}},
		PushURL:   fmt.Sprintf("http://%s/receipts/%s/%s", d.receipts.Addr(), d.account.Name, d.secrets[d.account.ReceiptSecret]),
		TimeScale: demoTimeScale, Duplicate: 0.02, Reorder: 0.02, ProgressReports: true, Seed: seed, Ledger: file,
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.sim.Close()
		return err
	}
	d.account.Endpoint = "http://" + ln.Addr().String()
	stop := serveSimulator(d.sim, ln)
	stopped := false
	d.stopSim = func() error {
		if stopped {
			return nil
		}
		stopped = true
		return stop()
	}
	d.closers = append(d.closers, func() { d.stopSim() })
	fmt.Fprintf(d.say, "simulated SmartCall: %s, strictly %d requests per sliding second, %d times faster than life; it calls nobody\n", d.account.Endpoint, d.account.Limit, demoTimeScale)
	return nil
}

// load applies the sample account and campaigns, and imports their contacts.
func (d *demo) load(ctx context.Context) error {
	if _, err := d.db.ApplyAccount(ctx, d.account, time.Now()); err != nil {
		return err
	}
	for _, name := range samples.Campaigns {
		data, err := samples.FS.ReadFile(name + ".yaml")
		if err != nil {
			return err
		}
		spec, err := campaign.ParseCampaign(name+".yaml", data)
		if err != nil {
			return err
		}
		next, err := nextRun(spec, time.Now())
		if err != nil {
			return err
		}
		stored, _, err := d.db.ApplyCampaign(ctx, spec, next, time.Now())
		if err != nil {
			return err
		}
		contacts, err := samples.FS.ReadFile(name + ".csv")
		if err != nil {
			return err
		}
		rejects := filepath.Join(filepath.Dir(d.ledger), name+".rejects.csv")
		quiet := &app{getenv: d.getenv, stdout: d.say, stderr: io.Discard}
		imp, err := importContacts(ctx, quiet, d.db, stored, bytes.NewReader(contacts), name+".csv", rejects, "", 0)
		if err != nil {
			return err
		}
		d.campaigns = append(d.campaigns, stored)
		d.imports = append(d.imports, imp)
	}
	return nil
}

// dial runs the three campaigns at once on one node, until every contact has ended or
// waits for a retry that the demo will not wait for.
func (d *demo) dial(ctx context.Context) error {
	for _, c := range d.campaigns {
		id, _, err := d.db.Start(ctx, c.ID, time.Now())
		if err != nil {
			return err
		}
		d.runs = append(d.runs, id)
	}
	node := dialer.New(dialer.Config{
		DB: d.db, Log: d.logger(slog.LevelWarn), Name: "demo", Version: version(), Account: d.account.Name,
		Secret: func(ref string) (string, error) { return d.secrets[ref], nil },
	})
	nodeCtx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- runNode(nodeCtx, node, d.receipts) }()
	line := newStatus(d.stderr)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			stop()
			<-done
			return fmt.Errorf("stopped")
		case <-tick.C:
		}
		waiting = false
		var shown []string
		for _, c := range d.campaigns {
			p, err := d.db.Progress(ctx, c.ID)
			if err != nil {
				return err
			}
			_, soonest, err := d.db.Waiting(ctx, c.AccountID, c.ID)
			if err != nil {
				return err
			}
			// Throttled contacts come back within seconds, a busy line after minutes.
			soon := !soonest.IsZero() && time.Until(soonest) < 20*time.Second
			n, _, err := d.db.Waiting(ctx, c.AccountID, c.ID)
			if err != nil {
				return err
			}
			if p.Open > 0 || p.Pending > n || soon {
				waiting = true
			}
			shown = append(shown, fmt.Sprintf("%s %d/%d", p.Campaign, p.Done, p.Imported))
		}
		line.show("dialling: %s, %.0f s", strings.Join(shown, ", "), time.Since(began).Seconds())
	}
	line.clear()
	d.dialled = time.Since(began)
	quiet, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := d.sim.WaitQuiet(quiet); err != nil {
		return err
	}
	stop()
	if err := <-done; err != nil {
		return err
	}
	return d.stopSim()
}
