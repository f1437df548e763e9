// Package node runs the whole dialer as people run it: a database with accounts,
// campaigns and contacts, and nodes that are processes of their own.
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
)

// Options says what there is to dial.
type Options struct {
	Accounts int // 0 = 1
	Limit    int // of each; 0 = 1000
	Contacts int // of each account, all in one campaign
}

// Site is a database with open runs, and what its nodes must know.
type Site struct {
	Postgres *lab.Postgres
	Platform *platform.Platform

	dir     string
	program string
	env     []string
	nodes   []*Node
}

// Open makes a site whose accounts dial p. Close it, too; p is its owner's to close.
func Open(ctx context.Context, l *lab.Lab, p *platform.Platform, o Options) (*Site, error) {
	program, err := l.Dialer()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.Dir, "site-")
	if err != nil {
		return nil, err
	}
	s := &Site{Platform: p, dir: dir, program: program}
	if s.Postgres, err = l.Postgres(ctx); err != nil {
		return nil, err
	}
	s.env = append(os.Environ(), "DATABASE_URL="+s.Postgres.URL(), "DIALER_STATE="+filepath.Join(dir, "state"), "BENCH_SECRET="+platform.Secret)
	for n := range max(o.Accounts, 1) {
		s.env = append(s.env, fmt.Sprintf("BENCH_KEY_%d=%s", n, platform.KeyID(n)))
	}
	if err := s.fill(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close kills the nodes and stops the database.
func (s *Site) Close() error {
	var errs []error
	for _, n := range slices.Clone(s.nodes) {
		errs = append(errs, n.Kill())
	}
	return errors.Join(append(errs, s.Postgres.Close())...)
}

const accountFile = `account: account%[1]d
endpoint: %[2]s
access_key_id: ${BENCH_KEY_%[1]d}
access_key_secret: ${BENCH_SECRET}
limit: %[3]d
caller_ids:
%[4]s`

const campaignFile = `campaign: campaign%[1]d
account: account%[1]d
caller_ids: [%[2]s]
call:
  voice_code: "open.wav,$name$"
  voice_code_param: {name: "{姓名}"}
  record_flag: true
  session_timeout: 120
windows: ["00:00-24:00"]
`

// callerIDs is enough lines for every call of a long measurement: without receipts a
// line is believed to be taken for twelve minutes.
const callerIDs, linesEach = 20, 100_000

// fill does with the program itself what a person would do.
func (s *Site) fill(ctx context.Context, o Options) error {
	if err := s.Dialer(ctx, "migrate"); err != nil {
		return err
	}
	var ids, quoted []string
	for n := range callerIDs {
		number := fmt.Sprintf("%q", fmt.Sprintf("0571%08d", n))
		ids = append(ids, fmt.Sprintf("  - {number: %s, lines: %d}\n", number, linesEach))
		quoted = append(quoted, number)
	}
	contacts, err := s.file("contacts.csv", rows(o.Contacts))
	if err != nil {
		return err
	}
	limit := o.Limit
	if limit == 0 {
		limit = 1000
	}
	for n := range max(o.Accounts, 1) {
		account, err := s.file("account.yaml", fmt.Sprintf(accountFile, n, s.Platform.URL, limit, strings.Join(ids, "")))
		if err != nil {
			return err
		}
		campaign, err := s.file("campaign.yaml", fmt.Sprintf(campaignFile, n, strings.Join(quoted, ", ")))
		if err != nil {
			return err
		}
		name := fmt.Sprintf("campaign%d", n)
		for _, args := range [][]string{
			{"account", "apply", account}, {"campaign", "apply", campaign}, {"import", name, contacts}, {"campaign", "start", name},
		} {
			if err := s.Dialer(ctx, args...); err != nil {
				return err
			}
		}
	}
	return nil
}

func rows(contacts int) string {
	var b strings.Builder
	b.WriteString("手机号,姓名\n")
	for n := range contacts {
		fmt.Fprintf(&b, "%d,李雷\n", 13800000000+n)
	}
	return b.String()
}

func (s *Site) file(name, text string) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// Dialer runs a command of the program to its end.
func (s *Site) Dialer(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Env = s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dialer %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Count runs a query that returns one number.
func (s *Site) Count(ctx context.Context, query string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, s.Postgres.URL())
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return n, conn.QueryRow(ctx, query).Scan(&n)
}

// holder returns the running node that said last that it holds an account.
func (s *Site) holder() *Node {
	var holder *Node
	for _, n := range s.nodes {
		if n.alive() && !n.heldAt().IsZero() && (holder == nil || n.heldAt().After(holder.heldAt())) {
			holder = n
		}
	}
	return holder
}

// HeldSince tells whether a node has come to hold an account since a moment.
func (s *Site) HeldSince(at time.Time) bool {
	n := s.holder()
	return n != nil && n.heldAt().After(at)
}

// Holder is the node that dials; it is an error if there is none. With one account
// there is at most one.
func (s *Site) Holder() (*Node, error) {
	if n := s.holder(); n != nil {
		return n, nil
	}
	return nil, errors.New("no node says that it holds the account")
}

// StopAll tells the nodes to end in order, one after the other.
func (s *Site) StopAll() error {
	var errs []error
	for _, n := range slices.Clone(s.nodes) {
		errs = append(errs, n.Stop())
	}
	return errors.Join(errs...)
}

// Running is how many nodes there are, frozen ones included.
func (s *Site) Running() int { return len(s.nodes) }

func (s *Site) forget(n *Node) {
	s.nodes = slices.DeleteFunc(s.nodes, func(other *Node) bool { return other == n })
}
