package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/table"
)

// server is the Postgres that everything is measured on.
type server struct {
	*lab.Postgres
	admin *pgxpool.Pool
}

func start(ctx context.Context, l *lab.Lab) (*server, error) {
	p, err := l.Postgres(ctx)
	if err != nil {
		return nil, err
	}
	admin, err := pgxpool.New(ctx, p.URL())
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &server{p, admin}, nil
}

func (s *server) close() error {
	s.admin.Close()
	return s.Close()
}

// usage is what a server has used up since its start.
type usage struct {
	cpu         time.Duration
	wal         int64
	checkpoints int64
	at          time.Time
}

func (s *server) usage(ctx context.Context) (u usage, err error) {
	err = s.admin.QueryRow(ctx, `
		SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, (SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter)`).Scan(&u.wal, &u.checkpoints)
	if err != nil {
		return u, fmt.Errorf("read how much the server has logged: %w", err)
	}
	u.cpu, err = s.CPU()
	u.at = time.Now()
	return u, err
}

// cost is what one run used up.
type cost struct {
	contacts    int
	took        time.Duration
	cpu         time.Duration // of Postgres, all processes
	wal         int64
	checkpoints int64
	intents     times
	did         did
}

// perMillion is seconds of Postgres's processors for a million contacts.
func (c cost) perMillion() float64 { return c.cpu.Seconds() / float64(c.contacts) * 1e6 }

// walEach is bytes of write-ahead log per contact.
func (c cost) walEach() float64 { return float64(c.wal) / float64(c.contacts) }

// rate is contacts per second.
func (c cost) rate() float64 { return float64(c.contacts) / c.took.Seconds() }

// cores is how many processors Postgres kept busy.
func (c cost) cores() float64 { return c.cpu.Seconds() / c.took.Seconds() }

func (c cost) String() string {
	return fmt.Sprintf("%d contacts in %.1fs: %.0f/s, %.1f CPU s per 1M, %.2f cores, %.0f B WAL each, %d checkpoints, intent p50 %.2f p99 %.2f ms; %d attempts, %d suppressed, %d held, %d late",
		c.contacts, c.took.Seconds(), c.rate(), c.perMillion(), c.cores(), c.walEach(), c.checkpoints,
		c.intents.at(0.5).Seconds()*1000, c.intents.at(0.99).Seconds()*1000, c.did.attempts, c.did.suppressed, c.did.held, c.did.late)
}

// costs are those of the rounds of one thing.
type costs []cost

func (c costs) each(figure func(cost) float64) table.Runs {
	runs := make(table.Runs, len(c))
	for i := range c {
		runs[i] = figure(c[i])
	}
	return runs
}

func (c costs) perMillion() table.Runs { return c.each(cost.perMillion) }
func (c costs) walEach() table.Runs    { return c.each(cost.walEach) }
func (c costs) rate() table.Runs       { return c.each(cost.rate) }
func (c costs) cores() table.Runs      { return c.each(cost.cores) }
func (c costs) percent() table.Runs {
	return c.each(func(one cost) float64 { return 100 * one.cores() })
}

// intent is how long, in milliseconds, a share of the intents took at most.
func (c costs) intent(share float64) table.Runs {
	return c.each(func(one cost) float64 { return one.intents.at(share).Seconds() * 1000 })
}

func (s *server) checkpoint(ctx context.Context) error {
	_, err := s.admin.Exec(ctx, `CHECKPOINT`)
	return err
}

// measure takes what f uses up.
func (s *server) measure(ctx context.Context, contacts int, f func() (did, error)) (cost, error) {
	before, err := s.usage(ctx)
	if err != nil {
		return cost{}, err
	}
	done, err := f()
	if err != nil {
		return cost{}, err
	}
	after, err := s.usage(ctx)
	return cost{
		contacts: contacts, took: after.at.Sub(before.at), cpu: after.cpu - before.cpu, wal: after.wal - before.wal,
		checkpoints: after.checkpoints - before.checkpoints, intents: done.intents, did: done,
	}, err
}

// measureHeld does it while somebody holds a snapshot of the world open, as a report
// or a backup does.
func (s *server) measureHeld(ctx context.Context, w *world, contacts int, f func() (did, error)) (cost, error) {
	tx, err := w.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return cost{}, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `SELECT count(*) FROM batch`); err != nil {
		return cost{}, err
	}
	return s.measure(ctx, contacts, f)
}
