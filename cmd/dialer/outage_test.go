package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/pgserver"
	"dialer/internal/postgres"
	"dialer/internal/simulator"
)

// away is how long TestPostgresAwayForAWhile keeps the database away.
var away = flag.Duration("away", 6*time.Second, "how long the database is away; it is more than the 4 s for which an intent may still be sent")

// server is a private Postgres that can be stopped for a while: it comes back at the
// same address with everything that was committed.
type server struct {
	*pgserver.Server
	options pgserver.Options
	address string // of its socket, for life
}

// startServer starts a Postgres whose data is in dir, which its user can pass through.
func startServer(t *testing.T, dir string) *server {
	t.Helper()
	// As root, the server runs as another user.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	s := &server{options: pgserver.Options{Dir: dir, BinDir: os.Getenv("DIALER_PG_BIN"), AllowDownload: true}}
	s.start(t)
	config, err := pgx.ParseConfig(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	s.address = fmt.Sprintf("%s/.s.PGSQL.%d", config.Host, config.Port)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// folder is a folder for startServer.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dialer-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *server) start(t *testing.T) {
	t.Helper()
	last := s.Server
	var err error
	if s.Server, err = pgserver.Start(t.Context(), s.options); err != nil {
		s.Server = last
		t.Fatal(err)
	}
	if last != nil && last.URL() != s.URL() {
		t.Fatalf("the server was at %s and came back at %s", last.URL(), s.URL())
	}
}

func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// dial connects to the server's socket.
func (s *server) dial() (net.Conn, error) { return net.Dial("unix", s.address) }

// revive waits for a server that recovers, or has given up and is started again by
// package pgserver.
func (s *server) revive(t *testing.T) {
	t.Helper()
	eventually(t, 60*time.Second, "the database", func() (bool, string) {
		conn, err := pgx.Connect(t.Context(), s.URL())
		if err != nil {
			return false, err.Error()
		}
		conn.Close(t.Context())
		return true, ""
	})
}

// everyCallHasItsOutcome waits until the platform has nothing more to say and every
// call it placed has an outcome and a response in the ledger.
func everyCallHasItsOutcome(t *testing.T, db *postgres.DB, sim *platform, contacts int) {
	t.Helper()
	eventually(t, 120*time.Second, "an outcome for every call", func() (bool, string) {
		st := sim.Stats()
		var outcomes, unanswered, due, inbox int
		err := db.Pool().QueryRow(t.Context(), `
			SELECT (SELECT count(*) FROM outcome), (SELECT count(*) FROM attempt a WHERE NOT EXISTS (SELECT FROM response r WHERE r.account_id = a.account_id AND r.attempt_id = a.attempt_id)),
			       (SELECT count(*) FROM due), (SELECT count(*) FROM inbox)`).Scan(&outcomes, &unanswered, &due, &inbox)
		if err != nil {
			return false, err.Error()
		}
		return int64(outcomes) == st.Accepted && outcomes >= contacts && unanswered+due+inbox == 0 && st.Open == 0 && st.Acked+st.GivenUp == st.Reports,
			fmt.Sprintf("%d calls placed, %d outcomes, %d without a response, %d due, %d in the inbox; %d of %d reports acknowledged, %d given up",
				st.Accepted, outcomes, unanswered, due, inbox, st.Acked, st.Reports, st.GivenUp)
	})
}

// history is what the platform remembers of a night.
type history struct {
	requests, pushes []simulator.Entry
	calls            map[string]simulator.Entry // by OutId
}

// history stops the platform and reads its ledger. It fails the test if somebody was
// called twice or, of so many contacts, not at all, or the limit did not hold.
func (p *platform) history(t *testing.T, contacts int) history {
	t.Helper()
	st := p.Stats()
	if worst := st.Accounts["tests"].WorstSecond; worst > 1000 {
		t.Errorf("%d requests in one sliding second, the limit is 1000", worst)
	}
	if st.Repeats != 0 || st.Overlaps != 0 {
		t.Errorf("%d OutIds with two calls, %d phones rung while in a call", st.Repeats, st.Overlaps)
	}
	byCallee, _ := p.calls(t)
	if len(byCallee) != contacts {
		t.Errorf("%d contacts were called, want %d", len(byCallee), contacts)
	}
	for callee, n := range byCallee {
		if n > 1 {
			t.Errorf("%s was called %d times", callee, n)
		}
	}
	f, err := os.Open(p.ledger)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := history{calls: make(map[string]simulator.Entry)}
	for e, err := range simulator.ReadLedger(f) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case simulator.KindRequest:
			h.requests = append(h.requests, e)
		case simulator.KindPush:
			h.pushes = append(h.pushes, e)
		case simulator.KindCall:
			h.calls[e.OutID] = e
		}
	}
	return h
}

// agrees fails the test unless the ledger has, for every call, the outcome that the
// platform remembers, counted once.
func (h history) agrees(t *testing.T, db *postgres.DB) {
	t.Helper()
	rows, err := db.Pool().Query(t.Context(), `SELECT out_id(attempt_id), outcome::text, talk_s, call_id FROM outcome`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	outcomes := 0
	for rows.Next() {
		var outID, outcome, callID string
		var talk int
		if err := rows.Scan(&outID, &outcome, &talk, &callID); err != nil {
			t.Fatal(err)
		}
		outcomes++
		if c := h.calls[outID]; outcome != c.Outcome || talk != c.DurationS || callID != c.CallID {
			t.Errorf("%s: outcome %s of call %s, %d s; the platform says %s, %s, %d s", outID, outcome, callID, talk, c.Outcome, c.CallID, c.DurationS)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if outcomes != len(h.calls) {
		t.Errorf("%d outcomes of %d calls", outcomes, len(h.calls))
	}
	stored, err := db.Campaign(t.Context(), "greeting")
	if err != nil {
		t.Fatal(err)
	}
	p, err := db.Progress(t.Context(), stored.ID)
	if err != nil {
		t.Fatal(err)
	}
	if p.Done != int64(len(h.calls)) {
		t.Errorf("%d contacts are counted as done, %d were called", p.Done, len(h.calls))
	}
	if n := count(t, db, `SELECT count(*) FROM incident`); n != 0 {
		t.Errorf("%d incidents", n)
	}
}

// doubt is how many attempts there are of which no response tells whether a phone rang.
func doubt(t *testing.T, db *postgres.DB) int {
	t.Helper()
	return count(t, db, `
		SELECT count(*) FROM attempt a LEFT JOIN response r USING (account_id, attempt_id) WHERE r.class IS NULL OR r.class = 'unknown'`)
}

// spooled returns the files of receipts that wait below a state folder.
func spooled(t *testing.T, state string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(state, "*", "spool-*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// While the database is away nothing is sent, every receipt is answered and kept, and
// afterwards everything goes on by itself.
func TestPostgresAwayForAWhile(t *testing.T) {
	t.Parallel()
	const contacts = 3500
	pg := startServer(t, folder(t))
	state := t.TempDir()
	env := environment{"DATABASE_URL": pg.URL(), "DIALER_STATE": state}
	env.must(t, "migrate")
	sim := simulate(t, simulator.Config{})
	sim.prepare(t, env, contacts)
	n := startNode(t, env, "one")
	sim.pushTo(t, n.address)
	requests := func(want int64) {
		t.Helper()
		eventually(t, 30*time.Second, fmt.Sprint(want, " requests"), func() (bool, string) {
			n := sim.Stats().Requests
			return n >= want, fmt.Sprint(n)
		})
	}
	requests(1200)

	pg.stop(t)
	gone := time.Now()
	eventually(t, 10*time.Second, "receipts on disk", func() (bool, string) {
		files := spooled(t, state)
		return len(files) > 0, fmt.Sprint(files)
	})
	select {
	case <-time.After(time.Until(gone.Add(*away))):
	case <-n.read:
		t.Fatal("the node ended because its database was away")
	}
	back := time.Now()
	pg.start(t)
	ready := time.Now()

	db := open(t, pg.URL())
	everyCallHasItsOutcome(t, db, sim, contacts)
	if left := spooled(t, state); len(left) != 0 {
		t.Errorf("receipts still on disk: %v", left)
	}
	if n := doubt(t, db); n != 0 {
		t.Errorf("%d attempts are in doubt, want none", n)
	}
	h := sim.history(t, contacts)
	h.agrees(t, db)
	// An intent may be sent for 3 s, and the simulator notes a request when it has read it.
	const sendWithin = 4 * time.Second
	var first time.Time
	for _, r := range h.requests {
		switch {
		case r.Wall.After(gone.Add(sendWithin)) && r.Wall.Before(back):
			t.Errorf("a request %s after the database had gone", r.Wall.Sub(gone))
		case r.Wall.After(ready) && (first.IsZero() || r.Wall.Before(first)):
			first = r.Wall
		}
	}
	if d := first.Sub(ready); first.IsZero() || d > 10*time.Second {
		t.Errorf("calling went on %s after the database was back, want 5 s, twice that on a busy machine", d)
	}
	kept, slowest := 0, time.Duration(0)
	for _, p := range h.pushes {
		if p.Wall.Before(gone) || p.Wall.After(back) {
			continue
		}
		kept++
		slowest = max(slowest, time.Duration(p.TookUS)*time.Microsecond)
		if !p.Acked {
			t.Errorf("a push %s after the database had gone was answered with status %d after %d µs", p.Wall.Sub(gone), p.Status, p.TookUS)
		}
	}
	if kept == 0 {
		t.Error("no receipt came while the database was away")
	}
	if code := n.terminate(t, 25*time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	t.Logf("%d pushes while the database was away, the slowest took %s; calling went on after %s", kept, slowest, first.Sub(ready))
}

// failpoints builds the program so that it can be killed at a named moment.
func failpoints(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "dialer")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoint", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// A node that is killed between the sync of a receipt and its answer loses none that it
// has answered: the next one finds them on disk.
func TestSpoolSurvivesKill(t *testing.T) {
	t.Parallel()
	const contacts = 2000
	program := failpoints(t)
	pg := startServer(t, folder(t))
	state := t.TempDir()
	env := environment{"DATABASE_URL": pg.URL(), "DIALER_STATE": state, "DIALER_FAILPOINTS": "after_spool=kill:5"}
	env.must(t, "migrate")
	sim := simulate(t, simulator.Config{})
	sim.prepare(t, env, contacts)
	first := startProgram(t, env, program, "first", "--listen", "127.0.0.1:0")
	sim.pushTo(t, first.address)
	eventually(t, 30*time.Second, "1000 requests", func() (bool, string) {
		n := sim.Stats().Requests
		return n >= 1000, fmt.Sprint(n)
	})
	acked := sim.Stats().Acked
	pg.stop(t)
	if code := first.end(t, 30*time.Second); code != -1 {
		t.Fatalf("the node ended with exit code %d, want a kill", code)
	}
	if acked = sim.Stats().Acked - acked; acked == 0 || len(spooled(t, state)) == 0 {
		t.Fatalf("%d receipts were acknowledged while the database was away, in %v", acked, spooled(t, state))
	}

	pg.start(t)
	delete(env, "DIALER_FAILPOINTS")
	second := startNode(t, env, "second")
	sim.pushTo(t, second.address)
	db := open(t, pg.URL())
	// The first node took with it what it knew of the requests in hand; a contact whose
	// attempt was never sent stays in doubt.
	eventually(t, 60*time.Second, "an outcome for every call", func() (bool, string) {
		st := sim.Stats()
		untried := count(t, db, `SELECT count(*) FROM contact k WHERE NOT EXISTS (SELECT FROM attempt a WHERE (a.account_id, a.campaign_id, a.n) = (k.account_id, k.campaign_id, k.n))`)
		inHand := count(t, db, `
			SELECT count(*) FROM attempt a JOIN node USING (node_id) LEFT JOIN response r USING (account_id, attempt_id) WHERE r.attempt_id IS NULL AND node.name = 'second'`)
		outcomes := count(t, db, `SELECT count(*) FROM outcome`)
		return untried+inHand == 0 && int64(outcomes) == st.Accepted && st.Open == 0 && st.Acked+st.GivenUp == st.Reports,
			fmt.Sprintf("%d untried, %d in hand, %d outcomes of %d calls, %d of %d reports acknowledged", untried, inHand, outcomes, st.Accepted, st.Acked, st.Reports)
	})
	if left := spooled(t, state); len(left) != 0 {
		t.Errorf("receipts still on disk: %v", left)
	}
	silent := count(t, db, `SELECT count(*) FROM attempt a LEFT JOIN outcome o USING (account_id, attempt_id) WHERE o.attempt_id IS NULL`)
	sim.history(t, contacts-silent).agrees(t, db)
	t.Logf("%d receipts were acknowledged before the kill; %d attempts in doubt", acked, silent)
}

// Receipts come before our own response is stored, a third of them twice, each to two
// nodes at once, and for a while there is no database: each counts once, and every
// outcome is the one that the platform remembers.
func TestReceiptsEarlyDoubledAndSpooled(t *testing.T) {
	t.Parallel()
	const contacts = 1000
	pg := startServer(t, folder(t))
	state := t.TempDir()
	env := environment{"DATABASE_URL": pg.URL(), "DIALER_STATE": state}
	env.must(t, "migrate")
	// A call with its receipts takes less than 200 ms here, the answer much more.
	sim := simulate(t, simulator.Config{
		Duplicate: 0.3, Reorder: 0.1, ProgressReports: true, PushEvery: 20 * time.Millisecond,
		// On a busy machine an answer may come too late more than once.
		PushRetry: slices.Repeat([]time.Duration{time.Minute}, 50),
		Ring:      simulator.Range{Max: time.Second}, Talk: simulator.Range{Min: time.Second, Max: 5 * time.Second}, ReceiptDelay: simulator.Range{Max: time.Second},
		Faults: simulator.Faults{Delay: simulator.Range{Min: time.Second, Max: 1500 * time.Millisecond}},
	})
	sim.prepare(t, env, contacts)
	env.must(t, "campaign", "pause", "greeting") // until both nodes are there
	both := []*node{startNode(t, env, "one"), startNode(t, env, "two")}
	twice := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		statuses := make([]int, len(both))
		var pushing sync.WaitGroup
		for i, n := range both {
			pushing.Go(func() {
				resp, err := http.Post("http://"+n.address+r.URL.Path, "application/json", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				statuses[i] = resp.StatusCode
				resp.Body.Close()
			})
		}
		pushing.Wait()
		w.WriteHeader(max(statuses[0], statuses[1]))
		fmt.Fprint(w, `{"code":0}`)
	}))
	t.Cleanup(twice.Close)
	sim.pushTo(t, twice.Listener.Addr().String())
	env.must(t, "campaign", "resume", "greeting")
	eventually(t, 30*time.Second, "400 requests", func() (bool, string) {
		n := sim.Stats().Requests
		return n >= 400, fmt.Sprint(n)
	})
	pg.stop(t)
	eventually(t, 30*time.Second, "receipts on the disk of two nodes", func() (bool, string) {
		files := spooled(t, state)
		slots := make(map[string]bool)
		for _, f := range files {
			slots[strings.Split(filepath.Base(f), "-")[1]] = true
		}
		return len(slots) == 2, fmt.Sprint(files)
	})
	pg.start(t)

	db := open(t, pg.URL())
	everyCallHasItsOutcome(t, db, sim, contacts)
	eventually(t, 10*time.Second, "empty spools", func() (bool, string) {
		files := spooled(t, state)
		return len(files) == 0, fmt.Sprint(files)
	})
	early := count(t, db, `SELECT count(*) FROM receipt f JOIN response r USING (account_id, attempt_id) WHERE f.final AND f.received_at < r.answered_at`)
	if early < contacts/200 {
		t.Errorf("%d of %d receipts came before the answer: too few to show anything", early, contacts)
	}
	// What was doubled is stored once: a final receipt for each call.
	if n := count(t, db, `SELECT count(*) FROM receipt WHERE final`); n != contacts {
		t.Errorf("%d final receipts of %d calls are stored", n, contacts)
	}
	if n := doubt(t, db); n != 0 {
		t.Errorf("%d attempts are in doubt, want none", n)
	}
	h := sim.history(t, contacts)
	h.agrees(t, db)
	t.Logf("%d receipts before the answer; %d pushes", early, len(h.pushes))
}
