// Package store measures section 3 of the goals: what an intent with every check,
// its response and its receipt cost the database, beside the batch claim that people
// use in their place.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

// Scale is how much a ledger holds before it is measured.
type Scale struct {
	Accounts   int // that share what follows evenly
	Contacts   int // to be dialled
	History    int // attempts of the last 30 days, each with response and outcome; at least as many as contacts
	Suppressed int
}

// world is a migrated database with a history.
type world struct {
	db   *postgres.DB
	pool *pgxpool.Pool // another, with the server's own settings
	sets []*set
}

// set is an account with one campaign to dial.
type set struct {
	account  campaign.AccountID
	campaign campaign.ID
	contacts int
	lease    campaign.Lease

	seq      int64 // of the last batch
	lastRead int32 // contacts up to this number are read
	answers  int64
}

// answered counts the answers of the platform, from which their numbers follow.
func (s *set) answered() int64 {
	s.answers++
	return int64(s.account)<<32 | s.answers
}

const callerID = "057100000000"

// newWorld makes a world and fills it.
func newWorld(ctx context.Context, admin *pgxpool.Pool, name string, scale Scale) (*world, error) {
	if err := create(ctx, admin, name); err != nil {
		return nil, err
	}
	url, err := urlOf(admin, name)
	if err != nil {
		return nil, err
	}
	if _, err := postgres.Migrate(ctx, url); err != nil {
		return nil, err
	}
	empty, err := open(ctx, admin, name)
	if err != nil {
		return nil, err
	}
	err = empty.load(ctx, scale)
	empty.close()
	if err != nil {
		return nil, err
	}
	return open(ctx, admin, name)
}

func (w *world) load(ctx context.Context, scale Scale) error {
	rebuild, err := w.withoutIndexes(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	for a := range scale.Accounts {
		if err := w.fill(ctx, a, scale, now); err != nil {
			return fmt.Errorf("load account %d: %w", a, err)
		}
	}
	if err := rebuild(ctx); err != nil {
		return fmt.Errorf("build the indexes: %w", err)
	}
	for _, statement := range []string{suppressions(scale), `VACUUM (ANALYZE, FREEZE)`} {
		if _, err := w.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("load: %w", err)
		}
	}
	return nil
}

// open connects to a world and takes its accounts.
func open(ctx context.Context, admin *pgxpool.Pool, name string) (*world, error) {
	url, err := urlOf(admin, name)
	if err != nil {
		return nil, err
	}
	w := new(world)
	if w.db, err = postgres.Open(ctx, url); err != nil {
		return nil, err
	}
	if w.pool, err = pgxpool.New(ctx, url); err != nil {
		return nil, err
	}
	if err := w.db.Durable(ctx); err != nil {
		return nil, err
	}
	all, err := w.db.Campaigns(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.State != campaign.Running {
			continue
		}
		s := &set{account: c.AccountID, campaign: c.ID}
		if err := w.pool.QueryRow(ctx, `SELECT max(n) FROM contact WHERE account_id = $1 AND campaign_id = $2`, s.account, s.campaign).Scan(&s.contacts); err != nil {
			return nil, err
		}
		if err := w.hold(ctx, s); err != nil {
			return nil, err
		}
		w.sets = append(w.sets, s)
	}
	return w, nil
}

func (w *world) hold(ctx context.Context, s *set) error {
	node, err := w.db.NewNode(ctx, "bench", "bench", time.Now())
	if err != nil {
		return err
	}
	leases, err := w.db.Acquire(ctx, []campaign.AccountID{s.account}, node, time.Hour)
	if err == nil && len(leases) == 0 {
		err = errors.New("the account is held by somebody else")
	}
	if err != nil {
		return err
	}
	s.lease = leases[0]
	return nil
}

func (w *world) close() {
	w.db.Close()
	w.pool.Close()
}

// fill makes an account, the campaigns of its history, and one to dial. The k-th
// number of account a is phone(k + a million times ten): scattered, as people's are.
// The contacts to dial lie scattered over the history by time.
func (w *world) fill(ctx context.Context, a int, scale Scale, now time.Time) error {
	history, contacts := scale.History/scale.Accounts, scale.Contacts/scale.Accounts
	account := fmt.Sprintf("account-%d", a)
	id, err := w.db.ApplyAccount(ctx, &campaign.Account{
		Name: account, Endpoint: "http://127.0.0.1:1", Limit: 1000, CallerIDs: []campaign.CallerID{{Number: callerID, Lines: 100_000}},
	}, now)
	if err != nil {
		return err
	}
	ids := make([]campaign.ID, 3)
	for i, name := range []string{"history", "often", "dialled"} {
		c, _, err := w.db.ApplyCampaign(ctx, &campaign.Campaign{
			Name: fmt.Sprintf("%s-%d", name, a), Account: account, CallerIDs: []string{callerID}, Call: campaign.Call{VoiceCode: "open.wav"},
			Zone: "Asia/Shanghai", MaxAttempts: 1, Caps: caps, Lost: campaign.LostHold,
		}, time.Time{}, now)
		if err != nil {
			return err
		}
		ids[i] = c.ID
	}
	if _, _, err := w.db.Start(ctx, ids[2], now); err != nil {
		return err
	}
	args := pgx.StrictNamedArgs{
		"account": int32(id), "history": int32(ids[0]), "often": int32(ids[1]), "dialled": int32(ids[2]),
		"first": int64(a) * 10_000_000, "now": now, "attempts": int64(history), "contacts": int64(contacts), "caller": callerID,
	}
	for _, statement := range loads {
		if _, err := w.pool.Exec(ctx, statement, used(statement, args)); err != nil {
			return err
		}
	}
	return nil
}

// caps are what the platform allows by default.
var caps = campaign.Caps{PerMinute: 1, PerDay: 2, Per30Days: 6}

// phone is the k-th number: 3^18 and 10^9 have no common factor.
const phone = `(13000000000 + ((@first::bigint + %s) * 387420489) %% 1000000000)`

// loads fill the ledger with a history of 30 days. One number in 200 has been called
// six times, which is the cap; one attempt in 1000 has no end yet. Contact n has the
// number of the attempt at about n*7919 modulo the contacts, so that the order of
// dialling is neither that of the numbers nor that of the last calls.
var loads = []string{
	`INSERT INTO attempt (account_id, attempt_id, phone, intent_at, send_by, campaign_id, n, node_id, try, chance, caller_id)
	 SELECT @account::int, (@history::bigint << 41) | (k << 10) | 1, ` + fmt.Sprintf(phone, "k") + `, t, t + interval '3 seconds', @history, k, 1, 1, 1, @caller::text
	   FROM generate_series(1, @attempts::bigint) k, LATERAL (SELECT @now::timestamptz - interval '30 days' * (1 - k / (@attempts + 1.0)) AS t) t`,
	`INSERT INTO attempt (account_id, attempt_id, phone, intent_at, send_by, campaign_id, n, node_id, try, chance, caller_id)
	 SELECT @account::int, (@often::bigint << 41) | (k << 10) | i, ` + fmt.Sprintf(phone, "k") + `, t, t + interval '3 seconds', @often, k, 1, i, i, @caller::text
	   FROM generate_series(200, @attempts::bigint, 200) k, generate_series(1, 5) i, LATERAL (SELECT @now::timestamptz - interval '5 days' * i AS t) t`,
	`INSERT INTO response (account_id, attempt_id, class, counts, sent_at, answered_at, code, call_id, request_id)
	 SELECT account_id, attempt_id, 'accepted', true, intent_at + interval '2 ms', intent_at + interval '22 ms', 'OK',
	        (116012854210 + n) || '^' || (102816214210 + attempt_id % 1000000), gen_random_uuid()::text
	   FROM attempt WHERE account_id = @account`,
	`INSERT INTO outcome (account_id, attempt_id, outcome, call_id, status_code, status_msg, smart_status_code, early_media_code, hangup, talk_s, rang_at, answered_at, ended_at, source, recorded_at)
	 SELECT account_id, attempt_id, 'answered', (116012854210 + n) || '^' || (102816214210 + attempt_id % 1000000), '200000', '执行完成', '200100', '', '用户', 30,
	        intent_at, intent_at + interval '9 seconds', intent_at + interval '39 seconds', 'push', intent_at + interval '45 seconds'
	   FROM attempt WHERE account_id = @account AND (campaign_id <> @history OR n % 1000 <> 500)`,
	`INSERT INTO contact (account_id, campaign_id, n, phone, vars, line)
	 SELECT @account::int, @dialled::int, n, ` + fmt.Sprintf(phone, "k") + `, '{"姓名": "王小明", "门店": "西湖店"}', n + 1
	   FROM generate_series(1, @contacts::bigint) n, LATERAL (SELECT n * 7919 % @contacts::bigint AS x, @attempts::bigint / @contacts::bigint AS each) x,
	        LATERAL (SELECT 1 + x * each + x / each % each AS k) k`,
	`INSERT INTO import (account_id, campaign_id, file, sha256, rows, contacts, duplicates, rejects, first_n, last_n, imported_at)
	 VALUES (@account, @dialled, 'bench', sha256('bench'), @contacts::bigint, @contacts::bigint, 0, 0, 1, @contacts::bigint, @now)`,
}

// suppressions makes one contact in 100 suppressed and another one formerly so; the
// others on the list are of no campaign.
func suppressions(scale Scale) string {
	history := scale.History / scale.Accounts
	return fmt.Sprintf(`
		INSERT INTO suppression (phone, until, reason, source, added_at)
		SELECT DISTINCT ON (phone) phone, until, 'asked', 'bench', now()
		  FROM (SELECT %s AS phone, CASE k %% 100 WHEN 2 THEN now() - interval '1 day' END AS until
		          FROM generate_series(1, %d::bigint) k WHERE k %% 100 IN (1, 2)
		        UNION ALL
		        SELECT %s, NULL FROM generate_series(1, %d::bigint) k) s
		 ORDER BY phone`,
		fmt.Sprintf(`(13000000000 + (k * 387420489) %% 1000000000)`), history,
		fmt.Sprintf(`(15000000000 + (k * 387420489) %% 1000000000)`), scale.Suppressed)
}

// withoutIndexes drops the indexes of the big tables and returns what makes them again:
// ten million rows would take half an hour otherwise.
func (w *world) withoutIndexes(ctx context.Context) (rebuild func(context.Context) error, err error) {
	rows, _ := w.pool.Query(ctx, `
		SELECT c.relname, i.relname, coalesce(con.conname, ''), coalesce(pg_get_constraintdef(con.oid), ''), pg_get_indexdef(i.oid)
		  FROM pg_index x
		  JOIN pg_class i ON i.oid = x.indexrelid
		  JOIN pg_class c ON c.oid = x.indrelid
		  LEFT JOIN pg_constraint con ON con.conindid = i.oid
		 WHERE c.relname IN ('attempt', 'response', 'outcome', 'contact') AND c.relnamespace = 'public'::regnamespace
		 ORDER BY i.oid`)
	type index struct{ table, name, constraint, condef, def string }
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x index, err error) {
		return x, row.Scan(&x.table, &x.name, &x.constraint, &x.condef, &x.def)
	})
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		statement := `DROP INDEX ` + x.name
		if x.constraint != "" {
			statement = `ALTER TABLE ` + x.table + ` DROP CONSTRAINT ` + x.constraint
		}
		if _, err := w.pool.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error {
		for _, x := range all {
			statement := x.def
			if x.constraint != "" {
				statement = `ALTER TABLE ` + x.table + ` ADD CONSTRAINT ` + x.constraint + ` ` + x.condef
			}
			if _, err := w.pool.Exec(ctx, `SET maintenance_work_mem = '256MB'; `+statement); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
