package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
)

// partitioned makes a database that is distributed, by hash partitions in the place of
// Citus.
func partitioned(t *testing.T) string {
	t.Helper()
	url := postgrestest.URL(t)
	postgrestest.StandInForCitus(t, url)
	if err := postgres.Distribute(t.Context(), url, false, func(string) {}); err != nil {
		t.Fatal(err)
	}
	return url
}

// watcher notes every statement that the package sends, and how the server has executed
// it and those inside triggers and functions, by the exported method of DB.
type watcher struct {
	t      *testing.T
	mu     sync.Mutex
	sent   map[string][]string // SQL by method
	plans  map[string][]plan
	copied map[string][]string // columns by table
}

// plan is what auto_explain says of a statement.
type plan struct {
	Query string `json:"Query Text"`
	Plan  planNode
}

type planNode struct {
	Type    string  `json:"Node Type"`
	Schema  string  `json:"Schema"`
	Table   string  `json:"Relation Name"`
	Loops   float64 `json:"Actual Loops"`
	Removed int     `json:"Subplans Removed"`
	Plans   []planNode
}

// openWatched opens a database whose server explains everything to w.
func openWatched(t *testing.T, url string, w *watcher) *postgres.DB {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "auto"
	cfg.ConnConfig.Tracer = w
	cfg.ConnConfig.OnNotice = w.notice
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `
			LOAD 'auto_explain';
			SET auto_explain.log_min_duration = 0;
			SET auto_explain.log_analyze = on;
			SET auto_explain.log_timing = off;
			SET auto_explain.log_format = json;
			SET auto_explain.log_verbose = on;
			SET auto_explain.log_nested_statements = on;
			SET auto_explain.log_level = notice`)
		return err
	}
	db, err := postgres.OpenConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// method names the exported method of DB that was called, or "" for none.
func method() string {
	var name string
	var pcs [100]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for {
		frame, more := frames.Next()
		if _, after, ok := strings.Cut(frame.Function, "postgres.(*DB)."); ok {
			after, _, _ = strings.Cut(after, ".") // a function literal in it
			if after[0] >= 'A' && after[0] <= 'Z' {
				name = after
			}
		}
		if !more {
			return name
		}
	}
}

func (w *watcher) note(sql string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[method()] = append(w.sent[method()], sql)
}

func (w *watcher) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	sql := q.SQL
	if len(q.Args) > 0 {
		if named, ok := q.Args[0].(pgx.QueryRewriter); ok {
			var err error
			if sql, _, err = named.RewriteQuery(ctx, conn, sql, q.Args[1:]); err != nil {
				w.t.Error(err)
			}
		}
	}
	w.note(sql)
	return ctx
}

func (w *watcher) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (w *watcher) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	for _, q := range b.Batch.QueuedQueries {
		w.note(q.SQL)
	}
	return ctx
}

func (w *watcher) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (w *watcher) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (w *watcher) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, c pgx.TraceCopyFromStartData) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.copied[c.TableName.Sanitize()] = c.ColumnNames
	return ctx
}

func (w *watcher) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

func (w *watcher) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	_, text, ok := strings.Cut(n.Message, "plan:\n")
	if !ok {
		return
	}
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		w.t.Errorf("auto_explain: %v in %s", err, text)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plans[method()] = append(w.plans[method()], p)
}

// writes returns the name of a table that grows and that the plan writes to, or "".
func (n planNode) writes() string {
	if n.Type == "ModifyTable" && slices.Contains(postgres.Distributed(), n.Table) {
		return n.Table
	}
	for _, child := range n.Plans {
		if table := child.writes(); table != "" {
			return table
		}
	}
	return ""
}

// touched returns the partitions of each table that a plan looks into: those left when
// it was begun, when the statement's parameters were known, and those that it went on to
// read.
func (n planNode) touched(left, read map[string]map[string]bool) {
	if n.Schema == "shard" && !strings.HasPrefix(n.Type, "ModifyTable") {
		table := n.Table[:strings.LastIndex(n.Table, "_")]
		for of, is := range map[*map[string]map[string]bool]bool{&left: true, &read: n.Loops > 0} {
			if !is {
				continue
			}
			if (*of)[table] == nil {
				(*of)[table] = make(map[string]bool)
			}
			(*of)[table][n.Table] = true
		}
	}
	for _, child := range n.Plans {
		child.touched(left, read)
	}
}

// everywhere are the methods of which some statement is about all accounts, and why.
// None of them is part of dialling.
var everywhere = map[string]string{
	"Ask":      "a person's own query",
	"Audit":    "it holds the whole ledger against the promises, or that of one campaign",
	"Memories": "what 'dialer recover' shows of all accounts",
}

// lookedUp are the methods that are given a campaign and find its account in the same
// statement, and why that is so. They read one partition, too, but the server knows only
// after it has begun which one.
var lookedUp = map[string]string{
	"Doubtful": "a person names a contact",
	"Imported": "a person names a campaign, once for each file",
	"Outcomes": "a person's view",
	"Progress": "a person's view, and the node looks at it when nothing is left to dial",
	"Recount":  "a person's view; a node never counts",
	"Settle":   "a person's view",
}

// ownClock are the methods that ask the clock of the server in a statement that writes to
// what grows, and why.
var ownClock = map[string]string{
	"WriteIntents": "the calling window must be open by the database's clock, too; it writes the time of the node",
}

var clock = regexp.MustCompile(`\b(now|clock_timestamp|statement_timestamp|transaction_timestamp)\(\)|\bcurrent_timestamp\b`)

// silent send nothing.
var silent = []string{"Close", "InstanceID", "OutIDKey", "Pool"}

// everything calls every method of DB, and of those with several ways each of them.
func (w *world) everything() {
	ctx, later := w.Context(), w.now.Add(time.Minute)
	other, err := w.db.ApplyAccount(ctx, accountFile("other"), w.now)
	w.must(err)
	theirs := &world{TB: w.TB, db: w.db, account: other, now: w.now}
	theirs.lease, err = w.db.Acquire(ctx, other, w.lease.Node, time.Hour)
	w.must(err)
	c, _, err := w.db.ApplyCampaign(ctx, campaignFile("theirs", func(c *campaign.Campaign) { c.Account = "other" }), time.Time{}, w.now)
	w.must(err)
	_, err = w.db.ImportContacts(ctx, c.ID, "theirs.csv", numbers(13700000000, 3), w.now)
	w.must(err)
	_, _, err = w.db.Start(ctx, c.ID, w.now)
	w.must(err)
	theirs.respond(theirs.unsure(theirs.intend(c.ID, w.now, theirs.fresh(c.ID, 0, 2)...)[0]))

	// A campaign with contacts in every state.
	w.must(w.db.Suppress(ctx, 13800000009, time.Time{}, "asked", "test", w.now))
	w.must(w.db.Suppress(ctx, 13800000019, time.Time{}, "asked", "test", w.now))
	_, err = w.db.Unsuppress(ctx, 13800000019)
	w.must(err)
	id := w.running("c", 13800000000, 12, retryBusy, redialLost)
	_, found, err := w.db.Imported(ctx, id, [32]byte{12})
	if w.must(err); !found {
		w.Error("the import is not found")
	}
	first := w.batch(id, w.now, w.fresh(id, 0, 10)...)
	var ids []campaign.AttemptID
	for _, v := range w.write(first) {
		ids = append(ids, v.Attempt)
	}
	_, _, err = w.db.Intended(ctx, first)
	w.must(err)
	if _, err := w.db.WriteIntents(ctx, first); err == nil { // asks which check it was
		w.Error("a batch was written twice")
	}
	_, _, err = w.db.Intended(ctx, w.batch(id, w.now, w.fresh(id, 10, 1)...)) // takes its number
	w.must(err)
	w.seq++
	w.push(receipt(ids[6], "call-6", campaign.Busy, 1))
	w.respond(w.accepted(ids[0], "call-0"), w.throttled(ids[1], w.now), w.refused(ids[2]), w.unsure(ids[3]), w.unsure(ids[4]), w.accepted(ids[5], "call-5"))
	w.respond(w.refused(ids[6])) // contradicts
	w.must(w.db.Resume(ctx, id, w.now))
	w.intend(id, later, w.due(id, later)...)
	_, _, err = w.db.Waiting(ctx, w.account, id)
	w.must(err)

	// Receipts: by OutId, by CallId, about nothing of ours, and about what was forgotten.
	w.push(receipt(ids[0], "call-0", campaign.Busy, 1), receipt(0, "call-5", campaign.Answered, 2), receipt(0, "call-x", campaign.Busy, 3))
	w.push(receipt(campaign.NewAttemptID(id, 12, 1), "call-11", campaign.Busy, 4))
	w.must(w.db.Recover(ctx, w.account, w.seq+5, "seen", "anna", w.now))
	w.seq += 5
	w.must(w.db.ApplyAnswer(ctx, w.account, w.lease.Node, receipt(ids[4], "call-4", campaign.Busy, 5), w.now))
	_, err = w.db.Overdue(ctx, w.account, w.now.Add(-time.Hour), later, 10)
	w.must(err)
	_, err = w.db.OpenLines(ctx, w.account, w.now.Add(-time.Hour))
	w.must(err)
	_, err = w.db.Settled(ctx, w.account, ids)
	w.must(err)
	names, err := w.db.Doubtful(ctx, id, 4)
	if w.must(err); len(names) != 1 {
		w.Errorf("in doubt: %q, want one", names)
	}
	w.settle(w.settlement("busy", ids[3]), 1)
	w.lose(2)
	w.respond(w.throttled(ids[7], later)) // a late answer about one that was lost
	_, err = w.db.Contradict(ctx, w.account, w.now.Add(-time.Hour), w.now)
	w.must(err)
	last, err := w.db.LastBatch(ctx, w.account)
	w.must(err)
	again := w.batch(id, later, w.fresh(id, 10, 1)...)
	again.Seq = last.Seq + 1
	w.must(w.db.Reinsert(ctx, w.entryOf(again, []campaign.Verdict{{Attempt: campaign.NewAttemptID(id, 11, 1)}})))
	w.must(w.db.Compact(ctx, w.account))

	// What people ask.
	w.progress(id)
	_, err = w.db.Outcomes(ctx, id)
	w.must(err)
	_, err = w.db.Recount(ctx, id)
	w.must(err)
	_, err = w.db.WorstSecond(ctx, w.account)
	w.must(err)
	_, err = w.db.Incidents(ctx, w.account)
	w.must(err)
	_, err = w.db.Memories(ctx)
	w.must(err)
	_, err = w.db.Audit(ctx, 0, 0)
	w.must(err)
	w.must(w.db.Ask(ctx, `SELECT count(*) FROM report.attempt`, func([]string) {}, func([]any) {}))
	if err := w.db.Durable(ctx); err == nil {
		w.Log("the server of the tests is durable") // and slow
	}

	// Small tables.
	_, err = w.db.Accounts(ctx)
	w.must(err)
	_, err = w.db.Account(ctx, "acme")
	w.must(err)
	_, err = w.db.Campaigns(ctx)
	w.must(err)
	_, err = w.db.Campaign(ctx, "c")
	w.must(err)
	w.must(w.db.PauseAccount(ctx, w.account, "by hand", w.now))
	w.must(w.db.ResumeAccount(ctx, "acme", w.now))
	w.must(w.db.Renew(ctx, w.lease, time.Hour, w.now))
	w.must(w.db.Vouch(ctx, w.lease))
	w.must(w.db.Release(ctx, w.lease))
	w.must(w.db.Pause(ctx, c.ID, "by hand", w.now))
	w.scheduled("nightly", w.now.Add(-time.Minute))
	if w.fire() != 1 {
		w.Error("the schedule did not fire")
	}
	runs, err := w.db.OpenRuns(ctx, w.account)
	if w.must(err); len(runs) == 0 {
		w.Fatal("no run is open")
	}
	w.must(w.db.EndRun(ctx, runs[0].ID, "done", w.now))
	_, _, err = w.db.RunState(ctx, runs[0].ID)
	w.must(err)
	w.must(w.db.Cancel(ctx, id, w.now))
}

// What grows is spread over servers by account. Every statement of an engine, and those
// in the triggers that it fires, must name the account, so that it runs on one of them.
func TestAStatementIsAboutOneAccount(t *testing.T) {
	t.Parallel()
	w := &watcher{t: t, sent: make(map[string][]string), plans: make(map[string][]plan), copied: make(map[string][]string)}
	worldIn(t, openWatched(t, partitioned(t), w)).everything()

	for m := range reflect.TypeFor[*postgres.DB]().Methods() {
		if len(w.sent[m.Name]) == 0 && !slices.Contains(silent, m.Name) {
			t.Errorf("%s is not among what the test does", m.Name)
		}
	}
	for name, statements := range w.sent {
		for _, sql := range statements {
			command, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(sql)), " ")
			explained := slices.ContainsFunc(w.plans[name], func(p plan) bool { return strings.TrimSpace(p.Query) == strings.TrimSpace(sql) })
			if slices.Contains([]string{"SELECT", "WITH", "INSERT", "UPDATE", "DELETE"}, command) && !explained {
				t.Errorf("%s: the server has not explained\n%s", name, sql)
			}
		}
	}
	for table, columns := range w.copied {
		if !slices.Contains(columns, "account_id") {
			t.Errorf("the rows copied to %s have no account_id: %q", table, columns)
		}
	}
	timed := make(map[string]bool)
	for name, plans := range w.plans {
		for _, p := range plans {
			if table := p.Plan.writes(); table != "" && clock.MatchString(p.Query) {
				if timed[name] = true; ownClock[name] == "" {
					t.Errorf("%s writes to %s what the clock of one of the servers says: make the time a parameter of\n%s", name, table, p.Query)
				}
			}
		}
	}
	for name, why := range ownClock {
		if !timed[name] {
			t.Errorf("%s asks no clock: it need not be excepted (%s)", name, why)
		}
	}
	tables, excepted := make(map[string]bool), make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(w.plans)) {
		for _, p := range w.plans[name] {
			left, read := make(map[string]map[string]bool), make(map[string]map[string]bool)
			p.Plan.touched(left, read)
			for table, of := range left {
				tables[table] = true
				switch {
				case len(of) == 1:
				case everywhere[name] != "" || lookedUp[name] != "" && len(read[table]) <= 1:
					excepted[name] = true
				default:
					t.Errorf("%s looks into %d partitions of %s and reads %d, want one: it does not name the account in\n%s", name, len(of), table, len(read[table]), p.Query)
				}
			}
		}
	}
	for _, exceptions := range []map[string]string{everywhere, lookedUp} {
		for name, why := range exceptions {
			if !excepted[name] {
				t.Errorf("%s names the account: it need not be excepted (%s)", name, why)
			}
		}
	}
	for _, table := range postgres.Distributed() {
		if !tables[table] {
			t.Errorf("nothing was read from %s", table)
		}
	}
}

// A key that a statement violates has the number of the shard behind its name.
func TestAKeyIsKnownByItsNameOnAShard(t *testing.T) {
	t.Parallel()
	db := openWith(t, partitioned(t), "plan_cache_mode", "auto")
	w := worldIn(t, db)
	id := w.running("c", 13800000000, 1)
	tx, err := db.Pool().Begin(t.Context())
	w.must(err)
	_, err = tx.Exec(t.Context(), `INSERT INTO batch (account_id, seq, campaign_id, node_id, term, at, upto_n, intents, suppressed) VALUES ($1, 1, $2, $3, 1, $4, 1, 0, 0)`,
		w.account, id, w.lease.Node, w.now)
	w.must(err)
	written := make(chan error, 1)
	go func() {
		_, err := db.WriteIntents(t.Context(), w.batch(id, w.now, w.fresh(id, 0, 1)...))
		written <- err
	}()
	w.eventually(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid')`)
	w.must(tx.Commit(t.Context()))
	if err := <-written; !errors.Is(err, campaign.ErrOutOfOrder) {
		t.Errorf("got %v, want %v", err, campaign.ErrOutOfOrder)
	}
}
