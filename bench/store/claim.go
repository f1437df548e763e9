package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// claims is the reference: a queue by status, claimed by one UPDATE ... RETURNING and
// finished by one UPDATE per batch. It does less than the ledger: nothing is checked,
// no history is kept, nothing is found by its CallId, and no receipt comes.
type claims struct {
	pool *pgxpool.Pool
}

// Tasks are claimed in the order of a time that no other index knows: by their number
// the planner would walk the primary key over all that is finished.
const claimTable = `
	CREATE TABLE task (
		task_id     bigint      PRIMARY KEY,
		run_at      timestamptz NOT NULL,
		phone       bigint      NOT NULL,
		vars        jsonb       NOT NULL,
		status      smallint    NOT NULL DEFAULT 0,
		attempts    smallint    NOT NULL DEFAULT 0,
		claimed_at  timestamptz,
		claimed_by  text,
		finished_at timestamptz,
		code        text,
		call_id     text,
		request_id  text
	);
	INSERT INTO task (task_id, run_at, phone, vars, status, attempts, claimed_at, claimed_by, finished_at, code, call_id, request_id)
	SELECT n, now(), 13000000000 + n, '{"姓名": "王小明", "门店": "西湖店"}', 2, 1, now(), 'bench', now(), 'OK', (116012854210 + n) || '^' || (102816214210 + n), gen_random_uuid()::text
	  FROM generate_series(1, %[1]d) n;
	INSERT INTO task (task_id, run_at, phone, vars)
	SELECT n, now() + interval '1 us' * n, 13000000000 + n, '{"姓名": "王小明", "门店": "西湖店"}' FROM generate_series(%[1]d + 1, %[1]d + %[2]d) n;
	CREATE INDEX task_pending ON task (run_at) WHERE status = 0;`

const (
	// The number is written into the statement: for a parameter the server would plan
	// as if a tenth of the queue was claimed at once.
	claim = `
		UPDATE task t SET status = 1, attempts = attempts + 1, claimed_at = $1, claimed_by = $2
		  FROM (SELECT task_id FROM task WHERE status = 0 ORDER BY run_at LIMIT %d FOR UPDATE SKIP LOCKED) c
		 WHERE t.task_id = c.task_id
		RETURNING t.task_id, t.phone, t.vars`
	finish = `
		UPDATE task t SET status = 2, finished_at = $2, code = r.code, call_id = r.call_id, request_id = r.request_id
		  FROM unnest($1::bigint[], $3::text[], $4::text[], $5::text[]) r (task_id, code, call_id, request_id)
		 WHERE t.task_id = r.task_id`
)

// newClaims makes a queue with tasks to do behind those that are finished.
func newClaims(ctx context.Context, admin *pgxpool.Pool, name string, finished, tasks int) (*claims, error) {
	if err := create(ctx, admin, name); err != nil {
		return nil, err
	}
	url, err := urlOf(admin, name)
	if err != nil {
		return nil, err
	}
	c := new(claims)
	if c.pool, err = pgxpool.New(ctx, url+"&pool_max_conns=20"); err != nil {
		return nil, err
	}
	for _, statement := range []string{fmt.Sprintf(claimTable, finished, tasks), `VACUUM (ANALYZE, FREEZE)`} {
		if _, err := c.pool.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("load the queue: %w", err)
		}
	}
	return c, nil
}

func (c *claims) close() { c.pool.Close() }

// work lets workers claim and finish tasks, batch by batch, and returns how long each
// claim took.
func (c *claims) work(ctx context.Context, tasks, batch, workers int) (times, error) {
	var left atomic.Int64
	left.Store(int64(tasks))
	took := make([]times, workers)
	errs := make([]error, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			who := fmt.Sprintf("worker-%d", i)
			for errs[i] == nil {
				n := left.Add(-int64(batch)) + int64(batch)
				if n <= 0 {
					return
				}
				began := time.Now()
				var done int
				if done, errs[i] = c.one(ctx, min(int(n), batch), who, &took[i]); errs[i] == nil && done == 0 {
					errs[i] = fmt.Errorf("the queue is empty after %s", time.Since(began))
				}
			}
		})
	}
	all.Wait()
	var sum times
	for i := range workers {
		if errs[i] != nil {
			return nil, fmt.Errorf("batch claim: %w", errs[i])
		}
		sum = append(sum, took[i]...)
	}
	return sum, nil
}

func (c *claims) one(ctx context.Context, batch int, who string, took *times) (int, error) {
	began := time.Now()
	rows, _ := c.pool.Query(ctx, fmt.Sprintf(claim, batch), began, who)
	var ids []int64
	var codes, calls, requests []string
	for rows.Next() {
		var id, phone int64
		var vars []byte
		if err := rows.Scan(&id, &phone, &vars); err != nil {
			return 0, err
		}
		ids, codes = append(ids, id), append(codes, "OK")
		calls, requests = append(calls, callID(id)), append(requests, requestID(id))
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	*took = append(*took, time.Since(began))
	_, err := c.pool.Exec(ctx, finish, ids, time.Now(), codes, calls, requests)
	return len(ids), err
}
