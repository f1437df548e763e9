// Package imports measures section 5 of the goals: taking in a contact file as it
// comes, beside psql's \copy of the rows that are left of it.
package imports

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/table"
	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

// Section is section 5 of the goals.
var Section = lab.Section{Number: 5, Name: "import", Title: `Import: a file as it comes, beside \copy of what is left of it`, Run: run}

// bench is a server with an account, whose campaigns get one file after the other.
type bench struct {
	*lab.Lab
	server  *lab.Postgres
	db      *postgres.DB
	account campaign.AccountID
	file    file
	path    string
	next    int // number of the next campaign
}

func run(ctx context.Context, l *lab.Lab) (t table.Table, err error) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		return t, fmt.Errorf("the reference is psql: install postgresql-client: %w", err)
	}
	server, err := l.Postgres(ctx)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if _, err := postgres.Migrate(ctx, server.URL()); err != nil {
		return t, err
	}
	b := &bench{Lab: l, server: server, file: file{rows: lab.Either(l, 50_000, 300_000)}, path: filepath.Join(l.Dir, "contacts.csv")}
	if b.db, err = postgres.Open(ctx, server.URL()); err != nil {
		return t, err
	}
	defer b.db.Close()
	if b.account, err = b.db.ApplyAccount(ctx, &campaign.Account{
		Name: "bench", Endpoint: "http://127.0.0.1:1", Limit: 1000, CallerIDs: []campaign.CallerID{{Number: "057100000000", Lines: 1000}},
	}, time.Now()); err != nil {
		return t, err
	}
	if err := b.file.write(b.path); err != nil {
		return t, err
	}
	indexed, err := b.rounds(ctx, psql)
	if err != nil {
		return t, err
	}
	if err := b.exec(ctx, `ALTER TABLE contact DROP CONSTRAINT contact_account_id_campaign_id_phone_key`); err != nil {
		return t, err
	}
	bare, err := b.rounds(ctx, psql)
	if err != nil {
		return t, err
	}
	memory := 64 + 32*float64(b.file.contacts)/(1<<20)
	const copied = `\copy`
	t.Rows = []table.Row{
		{Name: "with the index of numbers", Unit: "contacts per second", Ours: indexed.ours, Peer: copied, Reference: indexed.copied, Goal: table.RatioAtLeast(1.2)},
		{Name: "without it", Unit: "contacts per second", Ours: bare.ours, Peer: copied, Reference: bare.copied, Goal: table.RatioAtLeast(0.9)},
		{Name: "the importer's CPU", Unit: "s per 1M rows", Ours: indexed.cpu, Peer: "gocsv alone", Reference: indexed.gocsv},
		{Name: "the importer's CPU beyond gocsv", Unit: "s per 1M rows", Ours: indexed.beyond(), Goal: table.AtMost(1)},
		{Name: "the importer's memory", Unit: "MiB", Ours: indexed.memory, Goal: table.AtMost(memory)},
		{Name: "CPU of Postgres, with the index", Unit: "s per 1M contacts", Ours: indexed.server, Peer: copied, Reference: indexed.copiedServer},
	}
	t.Notes = []string{fmt.Sprintf("The file has %d rows, of which %d become contacts: 2 in 100 repeat a number, 1 has none that can be called, 10 are spelt in other ways. The reference gets those contacts alone, ready for the table, and stores them in the same table; neither time counts the other's work.", b.file.rows, b.file.contacts)}
	return t, nil
}

// figures are those of the rounds in one table.
type figures struct {
	ours, copied         table.Runs // contacts per second
	cpu, gocsv           table.Runs // s per 1M rows
	memory               table.Runs // MiB
	server, copiedServer table.Runs // CPU s of Postgres per 1M contacts
}

func (f figures) beyond() table.Runs {
	var runs table.Runs
	for i := range f.cpu {
		runs = append(runs, f.cpu[i]-f.gocsv[i])
	}
	return runs
}

// rounds imports and copies in turn, each into a campaign of its own.
func (b *bench) rounds(ctx context.Context, psql string) (f figures, err error) {
	dialer, err := b.Dialer()
	if err != nil {
		return f, err
	}
	clean := filepath.Join(b.Dir, "clean.tsv")
	million := float64(b.file.rows) / 1e6
	stored := float64(b.file.contacts)
	for range b.Rounds() {
		name, _, err := b.campaign(ctx)
		if err != nil {
			return f, err
		}
		ours, err := b.timed(ctx, exec.Command(dialer, "import", name, b.path, "--rejects", filepath.Join(b.Dir, "rejects.csv")))
		if err != nil {
			return f, err
		}
		_, id, err := b.campaign(ctx)
		if err != nil {
			return f, err
		}
		if err := b.file.writeClean(clean, int32(b.account), int32(id)); err != nil {
			return f, err
		}
		copied, err := b.timed(ctx, exec.Command(psql, "-qX", "-v", "ON_ERROR_STOP=1", "-d", b.server.URL(), "-c", `\copy contact (account_id, campaign_id, n, phone, vars, line) from '`+clean+`'`))
		if err != nil {
			return f, err
		}
		gocsv, err := b.timed(ctx, lab.Self(Program, b.path))
		if err != nil {
			return f, err
		}
		b.Say("import: ours %.1fs, \\copy %.1fs, gocsv alone %.1fs", ours.took.Seconds(), copied.took.Seconds(), gocsv.took.Seconds())
		f.ours, f.copied = append(f.ours, stored/ours.took.Seconds()), append(f.copied, stored/copied.took.Seconds())
		f.cpu, f.gocsv = append(f.cpu, ours.cpu.Seconds()/million), append(f.gocsv, gocsv.cpu.Seconds()/million)
		f.memory = append(f.memory, ours.memory)
		f.server, f.copiedServer = append(f.server, ours.server.Seconds()/stored*1e6), append(f.copiedServer, copied.server.Seconds()/stored*1e6)
		if err := b.same(ctx, id); err != nil {
			return f, err
		}
	}
	return f, nil
}

// campaign makes the next campaign.
func (b *bench) campaign(ctx context.Context) (string, campaign.ID, error) {
	b.next++
	name := fmt.Sprintf("campaign-%d", b.next)
	c, _, err := b.db.ApplyCampaign(ctx, &campaign.Campaign{
		Name: name, Account: "bench", CallerIDs: []string{"057100000000"}, Zone: "Asia/Shanghai", MaxAttempts: 1, Lost: campaign.LostHold,
		Call: campaign.Call{VoiceCode: "open.wav,$name$", VoiceCodeParam: map[string]string{"name": "{姓名}您好，想请您评价{门店}的服务"}},
	}, time.Time{}, time.Now())
	return name, c.ID, err
}

// same checks that the last two campaigns, the imported and the copied one, hold the
// same contacts.
func (b *bench) same(ctx context.Context, copied campaign.ID) error {
	var n, alike int
	err := b.db.Pool().QueryRow(ctx, `
		SELECT count(*), count(*) FILTER (WHERE o.phone = c.phone AND o.vars = c.vars)
		  FROM contact c
		  LEFT JOIN contact o ON o.account_id = c.account_id AND o.campaign_id = c.campaign_id - 1 AND o.n = c.n
		 WHERE c.account_id = $1 AND c.campaign_id = $2`, b.account, copied).Scan(&n, &alike)
	if err == nil && (n != b.file.contacts || alike != n) {
		err = fmt.Errorf("of %d contacts that were copied, %d were imported alike: %d were expected", n, alike, b.file.contacts)
	}
	return err
}

// spent is what a program used up.
type spent struct {
	took   time.Duration
	cpu    time.Duration
	memory float64       // most, in MiB
	server time.Duration // CPU of Postgres meanwhile
}

// timed runs a program on the server, after a checkpoint.
func (b *bench) timed(ctx context.Context, cmd *exec.Cmd) (s spent, err error) {
	if err := b.exec(ctx, `CHECKPOINT`); err != nil {
		return s, err
	}
	cmd.Env = append(os.Environ(), "DATABASE_URL="+b.server.URL())
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	before, err := b.server.CPU()
	if err != nil {
		return s, err
	}
	began := time.Now()
	p, err := lab.Start(cmd)
	if err != nil {
		return s, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
			s.memory = max(s.memory, memory(p.Process.Pid))
		case <-p.Ended():
			running = false
		case <-ctx.Done():
			return s, errors.Join(ctx.Err(), p.End(syscall.SIGKILL, time.Minute))
		}
	}
	s.took = time.Since(began)
	if !p.ProcessState.Success() {
		return s, fmt.Errorf("%s: %s: %s", cmd.Path, p.ProcessState, said.Bytes())
	}
	s.cpu = p.ProcessState.UserTime() + p.ProcessState.SystemTime()
	after, err := b.server.CPU()
	s.server = after - before
	return s, err
}

// memory is the most that a process has held so far, in MiB; 0 if it has ended. What
// wait4 says of it begins with the size of its parent.
func memory(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib / 1024
		}
	}
	return 0
}

func (b *bench) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, b.server.URL())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, statement)
	return err
}
