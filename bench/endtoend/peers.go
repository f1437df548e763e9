package endtoend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"dialer/bench/internal/platform"
	"dialer/internal/smartcall"
)

// Program is the first argument that makes this binary a peer: another way to call a
// list of people, with the dialer's own client.
const Program = "peer"

const (
	byRiver = "River"
	byClaim = "batch claim"
)

// peer says what a peer works on.
type peer struct {
	Kind     string
	Database string
	Endpoint string
	Accounts int
	Senders  int
}

// Serve is the program: it works until it is told to stop.
func Serve(ctx context.Context, args []string) error {
	var p peer
	if len(args) != 1 {
		return errors.New("give the peer's options")
	}
	if err := json.Unmarshal([]byte(args[0]), &p); err != nil {
		return fmt.Errorf("options of the peer: %w", err)
	}
	config, err := pgxpool.ParseConfig(p.Database)
	if err != nil {
		return err
	}
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	callers, err := p.callers()
	if err != nil {
		return err
	}
	if p.Kind == byRiver {
		return work(ctx, pool, callers)
	}
	return claim(ctx, pool, callers, p.Senders)
}

// callers are the dialer's own clients, one for each account.
type callers []*smartcall.Client

func (p peer) callers() (callers, error) {
	all := make(callers, p.Accounts)
	for n := range all {
		var err error
		all[n], err = smartcall.New(smartcall.Config{
			Endpoint: p.Endpoint, Credentials: smartcall.StaticCredentials(platform.KeyID(n), platform.Secret, ""),
			Timeout: 10 * time.Second, Conns: p.Senders,
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// call makes the n-th call.
func (c callers) call(ctx context.Context, n int64, phone string) (callID string, err error) {
	resp, err := c[n%int64(len(c))].SmartCall(ctx, &smartcall.Request{
		CalledShowNumber: shown, CalledNumber: phone, VoiceCode: voiceCode, VoiceCodeParam: `{"name":"王小明您好"}`,
		OutID: strconv.FormatInt(n, 10), SessionTimeout: new(sessionTimeout),
	}, time.Now().Add(3*time.Second))
	if err != nil {
		return "", err
	}
	return resp.CallID, nil
}

// job is River's.
type job struct {
	N     int64  `json:"n"`
	Phone string `json:"phone"`
}

func (job) Kind() string { return "call" }

type worker struct {
	river.WorkerDefaults[job]
	callers callers
}

func (w *worker) Work(ctx context.Context, j *river.Job[job]) error {
	callID, err := w.callers.call(ctx, j.Args.N, j.Args.Phone)
	if err != nil {
		return err
	}
	return river.RecordOutput(ctx, callID)
}

// work lets River make the calls, with the settings of its own benchmark (river bench).
func work(ctx context.Context, pool *pgxpool.Pool, callers callers) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{callers: callers})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2000}}, Workers: workers, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	<-client.Stopped()
	return nil
}

// newRiver makes River's tables and its jobs.
func newRiver(ctx context.Context, pool *pgxpool.Pool, calls int) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	const atOnce = 10_000
	for first := 0; first < calls; first += atOnce {
		jobs := make([]river.InsertManyParams, min(atOnce, calls-first))
		for i := range jobs {
			n := first + i
			jobs[i].Args = job{N: int64(n), Phone: strconv.FormatInt(number(n), 10)}
		}
		if _, err := client.InsertManyFast(ctx, jobs); err != nil {
			return err
		}
	}
	return nil
}

const (
	claimTable = `
		CREATE TABLE task (
			task_id     bigint      PRIMARY KEY,
			run_at      timestamptz NOT NULL,
			phone       text        NOT NULL,
			status      smallint    NOT NULL DEFAULT 0,
			claimed_at  timestamptz,
			finished_at timestamptz,
			code        text,
			call_id     text
		)`
	claimIndex = `CREATE INDEX task_pending ON task (run_at) WHERE status = 0`
	claimBatch = `
		UPDATE task t SET status = 1, claimed_at = now()
		  FROM (SELECT task_id FROM task WHERE status = 0 ORDER BY run_at LIMIT 500 FOR UPDATE SKIP LOCKED) c
		 WHERE t.task_id = c.task_id
		RETURNING t.task_id, t.phone`
	claimDone = `
		UPDATE task t SET status = 2, finished_at = now(), code = r.code, call_id = r.call_id
		  FROM unnest($1::bigint[], $2::text[], $3::text[]) r (task_id, code, call_id)
		 WHERE t.task_id = r.task_id`
)

func newClaim(ctx context.Context, pool *pgxpool.Pool, calls int) error {
	if _, err := pool.Exec(ctx, claimTable); err != nil {
		return err
	}
	now := time.Now()
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"task"}, []string{"task_id", "run_at", "phone"}, pgx.CopyFromSlice(calls, func(n int) ([]any, error) {
		return []any{int64(n), now.Add(time.Duration(n) * time.Microsecond), strconv.FormatInt(number(n), 10)}, nil
	}))
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, claimIndex)
	return err
}

type task struct {
	n      int64
	phone  string
	code   string
	callID string
}

// claim claims batches of 500, a batch ahead of its senders, and writes results in
// batches.
func claim(ctx context.Context, pool *pgxpool.Pool, callers callers, senders int) error {
	tasks, results := make(chan task, 500), make(chan task, 500)
	var sending, writing sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for t := range tasks {
				var err error
				t.code = "OK"
				if t.callID, err = callers.call(ctx, t.n, t.phone); err != nil {
					t.code = "error"
				}
				results <- t
			}
		})
	}
	var writeErr error
	writing.Go(func() { writeErr = finish(ctx, pool, results) })
	var claimErr error
	for ctx.Err() == nil && claimErr == nil {
		var rows pgx.Rows
		if rows, claimErr = pool.Query(ctx, claimBatch); claimErr != nil {
			break
		}
		var t task
		var batch []task
		_, claimErr = pgx.ForEachRow(rows, []any{&t.n, &t.phone}, func() error { batch = append(batch, t); return nil })
		for _, t := range batch {
			tasks <- t
		}
		if len(batch) == 0 {
			break
		}
	}
	close(tasks)
	sending.Wait()
	close(results)
	writing.Wait()
	if ctx.Err() != nil {
		return nil // told to stop
	}
	return errors.Join(claimErr, writeErr)
}

// finish writes results, up to 500 at once, none later than 50 ms.
func finish(ctx context.Context, pool *pgxpool.Pool, results <-chan task) (err error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var ids []int64
	var codes, calls []string
	write := func() {
		if len(ids) > 0 && err == nil {
			_, err = pool.Exec(ctx, claimDone, ids, codes, calls)
		}
		ids, codes, calls = ids[:0], codes[:0], calls[:0]
	}
	for {
		select {
		case t, ok := <-results:
			if !ok {
				write()
				return err
			}
			ids, codes, calls = append(ids, t.n), append(codes, t.code), append(calls, t.callID)
			if len(ids) == 500 {
				write()
			}
		case <-tick.C:
			write()
		}
	}
}
