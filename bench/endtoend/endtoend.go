// Package endtoend measures section 4 of the goals: calls per second when no limit
// holds them back, and what a call costs, beside River and a batch claim that use the
// same client.
package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialer/bench/internal/chart"
	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
	"dialer/bench/internal/table"
	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

// Section is section 4 of the goals.
var Section = lab.Section{Number: 4, Name: "endtoend", Title: "End to end: many accounts on one machine, database included", Run: run}

const (
	shown          = "057100000000"
	voiceCode      = "open.wav,$name$"
	sessionTimeout = 60
	dialer         = "dialer"
)

// number is the n-th number: 3^18 and 10^9 have no common factor.
func number(n int) int64 { return 13_000_000_000 + int64(n)*387_420_489%1_000_000_000 }

// bench is a server, on which each contestant has a database.
type bench struct {
	*lab.Lab
	server *lab.Postgres
	warm   time.Duration // before the figures count
	count  time.Duration
	most   int // calls per second that nobody reaches
}

func run(ctx context.Context, l *lab.Lab) (t table.Table, err error) {
	server, err := l.Postgres(ctx)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	b := &bench{Lab: l, server: server, warm: lab.Either(l, time.Second, 2*time.Second), count: lab.Either(l, 3*time.Second, 6*time.Second), most: 20_000}
	calls := int((b.warm + b.count + 2*time.Second).Seconds()) * b.most
	var free, twenty, river, claim figures
	for range l.Rounds() {
		// Few accounts with a limit that nobody reaches, and twenty with the platform's.
		if err := b.dial(ctx, "free", 2, 50_000, calls, &free); err != nil {
			return t, err
		}
		if err := b.dial(ctx, "twenty", 20, 1000, calls, &twenty); err != nil {
			return t, err
		}
		if err := b.peer(ctx, byRiver, calls/2, &river); err != nil {
			return t, err
		}
		if err := b.peer(ctx, byClaim, calls, &claim); err != nil {
			return t, err
		}
	}
	t.Rows = []table.Row{
		{Name: "calls", Unit: "per second", Ours: free.rate, Peer: byRiver, Reference: river.rate, Goal: table.RatioAtLeast(1.5)},
		{Name: "CPU of the program and Postgres", Unit: "us per call", Ours: free.cpu, Peer: byRiver, Reference: river.cpu, Goal: table.RatioAtMost(0.6)},
		{Name: "of which Postgres", Unit: "us per call", Ours: free.postgres, Peer: byRiver, Reference: river.postgres},
		{Name: "calls", Unit: "per second", Ours: free.rate, Peer: byClaim, Reference: claim.rate},
		{Name: "CPU of the program and Postgres", Unit: "us per call", Ours: free.cpu, Peer: byClaim, Reference: claim.cpu},
		{Name: "20 accounts x 1000/s offered: calls", Unit: "per second", Ours: twenty.rate, Peer: "no limit", Reference: atMost(free.rate, 20_000), Goal: table.RatioAtLeast(0.9)},
		{Name: "20 accounts x 1000/s offered: refused", Unit: "calls", Ours: twenty.refused, Goal: table.NeverAbove(0)},
	}
	t.Notes = []string{"Everything shares the cores: the program, Postgres, and the platform, whose CPU is in no figure. River and the batch claim record the CallId and nothing else; no receipts are pushed to anybody."}
	t.Charts = []chart.Chart{{
		File: "endtoend.svg", Title: "Accepted calls, two accounts without a limit", X: "seconds", Y: "calls per second",
		Lines: []chart.Line{{Name: dialer, Points: free.series}, {Name: byClaim, Points: claim.series}, {Name: byRiver, Points: river.series}},
	}}
	return t, nil
}

func atMost(runs table.Runs, most float64) table.Runs {
	capped := make(table.Runs, len(runs))
	for i, r := range runs {
		capped[i] = min(r, most)
	}
	return capped
}

// figures are those of one contestant.
type figures struct {
	rate     table.Runs // accepted per second
	cpu      table.Runs // of the program and Postgres, us per call
	postgres table.Runs // of Postgres alone
	refused  table.Runs
	series   []chart.Point // of the last round
}

// dial lets the dialer call, with all it does in production but for receipts.
func (b *bench) dial(ctx context.Context, name string, accounts, limit, calls int, f *figures) error {
	program, err := b.Dialer()
	if err != nil {
		return err
	}
	p, err := platform.Start(platform.Options{Accounts: accounts, Limit: limit})
	if err != nil {
		return err
	}
	defer p.Close()
	address, err := b.database(ctx, name, func(pool *pgxpool.Pool) error {
		return b.prepare(ctx, pool, p.URL, accounts, limit, calls)
	})
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--state", filepath.Join(b.Dir, "state-"+name), "--log-level", "warn")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+address)
	for n := range accounts {
		cmd.Env = append(cmd.Env, keyName(n)+"="+platform.KeyID(n))
	}
	cmd.Env = append(cmd.Env, "DIALER_BENCH_SECRET="+platform.Secret)
	return b.measure(ctx, name+" "+dialer, cmd, p, f)
}

func keyName(n int) string { return fmt.Sprintf("DIALER_BENCH_KEY_%d", n) }

// prepare makes accounts that have a running campaign each.
func (b *bench) prepare(ctx context.Context, pool *pgxpool.Pool, endpoint string, accounts, limit, calls int) error {
	address := pool.Config().ConnString()
	if _, err := postgres.Migrate(ctx, address); err != nil {
		return err
	}
	db, err := postgres.Open(ctx, address)
	if err != nil {
		return err
	}
	defer db.Close()
	now := time.Now()
	for a := range accounts {
		each := calls / accounts
		if limit == 1000 {
			each = min(each, limit*calls/b.most)
		}
		spec := &campaign.Account{
			Name: fmt.Sprintf("account-%d", a), Endpoint: endpoint, Limit: limit,
			AccessKeyID: "${" + keyName(a) + "}", AccessKeySecret: "${DIALER_BENCH_SECRET}",
		}
		c := &campaign.Campaign{
			Name: fmt.Sprintf("campaign-%d", a), Account: spec.Name, Zone: "Asia/Shanghai", Windows: campaign.Windows{{From: 0, To: 1440}},
			Call:        campaign.Call{VoiceCode: voiceCode, VoiceCodeParam: map[string]string{"name": "{姓名}您好"}, SessionTimeout: new(sessionTimeout)},
			MaxAttempts: 1, Caps: campaign.Caps{PerMinute: 1, PerDay: 2, Per30Days: 6}, Lost: campaign.LostHold,
		}
		for i := range 10 { // numbers enough that no line is waited for: no receipt says that a call is over
			id := campaign.CallerID{Number: fmt.Sprintf("05710000%04d", i), Lines: 100_000}
			spec.CallerIDs, c.CallerIDs = append(spec.CallerIDs, id), append(c.CallerIDs, id.Number)
		}
		account, err := db.ApplyAccount(ctx, spec, now)
		if err != nil {
			return err
		}
		stored, _, err := db.ApplyCampaign(ctx, c, time.Time{}, now)
		if err != nil {
			return err
		}
		if _, err := pool.Exec(ctx, `
			INSERT INTO contact (account_id, campaign_id, n, phone, vars, line)
			SELECT $1, $2, n, 13000000000 + (($3::bigint + n) * 387420489) % 1000000000, '{"姓名": "王小明"}', n + 1 FROM generate_series(1, $4::int) n`,
			account, stored.ID, int64(a)*10_000_000, each); err != nil {
			return err
		}
		if _, err := pool.Exec(ctx, `
			INSERT INTO import (account_id, campaign_id, file, sha256, rows, contacts, duplicates, rejects, first_n, last_n, imported_at)
			VALUES ($1, $2, 'bench', sha256('bench'), $3, $3, 0, 0, 1, $3, $4)`, account, stored.ID, each, now); err != nil {
			return err
		}
		if _, _, err := db.Start(ctx, stored.ID, now); err != nil {
			return err
		}
	}
	return nil
}

// peer lets one of the others call.
func (b *bench) peer(ctx context.Context, kind string, calls int, f *figures) error {
	const accounts = 2
	p, err := platform.Start(platform.Options{Accounts: accounts, Limit: 50_000})
	if err != nil {
		return err
	}
	defer p.Close()
	address, err := b.database(ctx, "peer", func(pool *pgxpool.Pool) error {
		if kind == byRiver {
			return newRiver(ctx, pool, calls)
		}
		return newClaim(ctx, pool, calls)
	})
	if err != nil {
		return err
	}
	options, err := json.Marshal(peer{Kind: kind, Database: address, Endpoint: p.URL, Accounts: accounts, Senders: 64})
	if err != nil {
		return err
	}
	return b.measure(ctx, kind, lab.Self(Program, string(options)), p, f)
}

// database makes an empty database, lets it be filled, and returns its address.
func (b *bench) database(ctx context.Context, name string, fill func(*pgxpool.Pool) error) (string, error) {
	conn, err := pgx.Connect(ctx, b.server.URL())
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	quoted := pgx.Identifier{name}.Sanitize()
	for _, statement := range []string{`DROP DATABASE IF EXISTS ` + quoted + ` WITH (FORCE)`, `CREATE DATABASE ` + quoted} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return "", err
		}
	}
	address, err := url.Parse(b.server.URL())
	if err != nil {
		return "", err
	}
	address.Path = "/" + name
	pool, err := pgxpool.New(ctx, address.String())
	if err != nil {
		return "", err
	}
	defer pool.Close()
	if err := fill(pool); err != nil {
		return "", fmt.Errorf("prepare %s: %w", name, err)
	}
	_, err = pool.Exec(ctx, `VACUUM (ANALYZE)`)
	if err == nil {
		_, err = pool.Exec(ctx, `CHECKPOINT`)
	}
	return address.String(), err
}

// moment is what was used up until then.
type moment struct {
	at       time.Time
	program  time.Duration
	postgres time.Duration
}

func (b *bench) moment(p *lab.Process) (moment, error) {
	program, err1 := p.CPU()
	postgres, err2 := b.server.CPU()
	return moment{time.Now(), program, postgres}, errors.Join(err1, err2)
}

// measure runs a program and takes its figures once it has been calling for a while.
func (b *bench) measure(ctx context.Context, name string, cmd *exec.Cmd, p *platform.Platform, f *figures) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	process, err := lab.Start(cmd)
	if err != nil {
		return err
	}
	began, err := b.calling(ctx, process, p)
	if err == nil {
		err = wait(ctx, process, b.warm)
	}
	var from, to moment
	if err == nil {
		from, err = b.moment(process)
	}
	if err == nil {
		err = wait(ctx, process, b.count)
	}
	if err == nil {
		to, err = b.moment(process)
	}
	report, reportErr := p.Report()
	if err := errors.Join(err, reportErr, process.End(syscall.SIGTERM, time.Minute)); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, said.Bytes())
	}
	counted := report.Between(from.at, to.at)
	rate := counted.PerSecond()
	calls := rate * to.at.Sub(from.at).Seconds()
	each := func(d time.Duration) float64 { return d.Seconds() * 1e6 / calls }
	f.rate = append(f.rate, rate)
	f.cpu = append(f.cpu, each(to.program-from.program+to.postgres-from.postgres))
	f.postgres = append(f.postgres, each(to.postgres-from.postgres))
	f.refused = append(f.refused, float64(report.Stats.Throttled))
	f.series = report.Between(began, to.at).Curve(began, 250*time.Millisecond)
	b.Say("end to end: %s: %.0f calls/s, %.0f us of CPU per call, %.0f of them Postgres, %d refused", name, rate,
		f.cpu[len(f.cpu)-1], f.postgres[len(f.postgres)-1], report.Stats.Throttled)
	return nil
}

// calling waits for the first call.
func (b *bench) calling(ctx context.Context, process *lab.Process, p *platform.Platform) (time.Time, error) {
	deadline := time.Now().Add(time.Minute)
	for {
		r, err := p.Report()
		if err != nil || r.Stats.Accepted > 0 {
			return time.Now(), err
		}
		if time.Now().After(deadline) {
			return time.Now(), errors.New("it has not called within a minute")
		}
		if err := wait(ctx, process, 50*time.Millisecond); err != nil {
			return time.Now(), err
		}
	}
}

// wait waits, unless the process ends.
func wait(ctx context.Context, process *lab.Process, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-process.Ended():
		return fmt.Errorf("it ended too early: %s", process.ProcessState)
	case <-ctx.Done():
		return ctx.Err()
	}
}
