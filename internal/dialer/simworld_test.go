package dialer_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/simulator"
)

// world is everything there is in one simulation: real database, simulated platform,
// nodes with the real engine, a network in memory, a director, and the bubble's clock.
type world struct {
	t          *testing.T
	plan       *plan
	trace      *trace
	database   *simDatabase
	clock      *simClock
	network    *network
	platform   *simulator.Simulator
	ledger     bytes.Buffer
	found      *ledgers
	server     *http.Server
	db         *postgres.DB // the director's own: nothing happens to it
	account    postgres.Account
	campaign   postgres.Campaign
	noDatabase atomic.Bool
	acting     sync.WaitGroup
	background sync.WaitGroup
	serving    sync.WaitGroup

	mu         sync.Mutex
	nodes      []*simNode
	pauses     []pause
	skewed     []pause
	held       bool
	suppressed map[campaign.Phone]time.Time
	cancelled  time.Time
}

// pause is a time in which a campaign was acknowledged to be paused.
type pause struct {
	from, to      time.Time
	before, after int64 // attempts at its two ends
}

// trace is what happened, by the bubble's clock.
type trace struct {
	mu    sync.Mutex
	began time.Time
	lines []string
}

func (tr *trace) add(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, fmt.Sprintf("%9.4f  ", time.Since(tr.began).Seconds())+fmt.Sprintf(format, args...))
}

func (tr *trace) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return strings.Join(tr.lines, "\n")
}

// newWorld must be called in a bubble whose clock shows the plan's start.
func newWorld(t *testing.T, d *simDatabase, p *plan) *world {
	t.Helper()
	tr := &trace{began: time.Now()}
	w := &world{t: t, plan: p, trace: tr, database: d, network: newNetwork(p, tr), suppressed: make(map[campaign.Phone]time.Time)}
	w.clock = newSimClock(t, d)
	w.clock.setSkew(p.skew)
	var err error
	if w.db, err = postgres.OpenConfig(t.Context(), d.config(t, nil)); err != nil {
		t.Fatal(err)
	}
	c := p.platform
	c.Accounts = map[string]simulator.Account{"key": {Name: "main", Secret: "secret", Limit: p.limit}}
	c.Ledger = &w.ledger
	c.Transport = &posts{w: w}
	c.PushURL = "http://node/receipts/main/" + receiptSecret
	if w.platform, err = simulator.New(c); err != nil {
		t.Fatal(err)
	}
	w.server = &http.Server{Handler: w.platform}
	w.serving.Go(func() { _ = w.server.Serve(w.network) }) // it ends with http.ErrServerClosed
	return w
}

// close ends everything that could still go on.
func (w *world) close() {
	w.mu.Lock()
	nodes := slices.Clone(w.nodes)
	w.mu.Unlock()
	for _, s := range nodes {
		s.resume()
		s.stop()
	}
	_ = w.server.Close()
	w.serving.Wait()
	if err := w.platform.Close(); err != nil {
		w.t.Errorf("the platform's ledger: %v", err)
	}
	w.network.cut(nil, "the end")
	w.network.late.Wait()
	w.background.Wait()
	w.db.Close()
	w.clock.close()
}

// begin sets up account, campaign and contacts, and opens a run.
func (w *world) begin(change func(*campaign.Campaign)) {
	t, ctx, now := w.t, w.t.Context(), time.Now()
	t.Helper()
	a := &campaign.Account{
		Name: "main", Endpoint: "http://127.0.0.1:80", Limit: w.plan.limit, AccessKeyID: "id", AccessKeySecret: "secret", ReceiptSecret: "receipts",
		CallerIDs: []campaign.CallerID{{Number: "057100000000", Lines: 1000}},
	}
	var err error
	if _, err = w.db.ApplyAccount(ctx, a, now); err != nil {
		t.Fatal(err)
	}
	if w.account, err = w.db.Account(ctx, a.Name); err != nil {
		t.Fatal(err)
	}
	spec, err := campaign.ParseCampaign("test", []byte(`
campaign: night
account: main
caller_ids: ["057100000000"]
call: {voice_code: "open.wav,$name$", voice_code_param: {name: "{姓名}您好"}}
windows: ["09:00-12:00", "14:00-20:30"]
caps: {per_minute: 1, per_day: 20, per_30_days: 20}
`))
	if err != nil {
		t.Fatal(err)
	}
	// Shorter than a file may ask for: the minutes between would be looked through
	// second by second.
	s := campaign.Duration(time.Second)
	spec.MaxAttempts, spec.Caps.PerMinute = w.plan.attempts, w.plan.perMinute
	spec.Retry = campaign.RetryPolicy{campaign.Busy: {2 * s, 3 * s}, campaign.NoAnswer: {s}}
	if change != nil {
		change(spec)
	}
	if w.campaign, _, err = w.db.ApplyCampaign(ctx, spec, time.Time{}, now); err != nil {
		t.Fatal(err)
	}
	if _, err := w.db.ImportContacts(ctx, w.campaign.ID, "test.csv", &contacts{left: w.plan.contacts}, now); err != nil {
		t.Fatal(err)
	}
	w.startRun()
}

func (w *world) startRun() {
	if _, _, err := w.db.Start(w.t.Context(), w.campaign.ID, time.Now()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) progress() campaign.Progress {
	p, err := w.db.Progress(context.WithoutCancel(w.t.Context()), w.campaign.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// do lets an act happen, at its time.
func (w *world) do(a act) {
	time.Sleep(time.Until(w.plan.start.Add(a.at)))
	w.trace.add("%s (%d, for %v)", a.kind, a.n, a.last)
	ctx := context.WithoutCancel(w.t.Context())
	nodes := w.alive()
	node := func() *simNode { return nodes[a.n%len(nodes)] }
	switch a.kind {
	case join:
		w.startNode()
	case crash, stop:
		if len(nodes) > 0 {
			if s := node(); a.kind == crash {
				s.crash()
			} else {
				s.stop()
			}
		}
		time.Sleep(a.last)
		w.startNode()
	case hang:
		if len(nodes) > 0 {
			s := node()
			s.hang()
			time.Sleep(a.last)
			w.trace.add("%s goes on", s.name)
			s.resume()
		}
	case dbPart:
		if len(nodes) > 0 {
			s := node()
			s.setDatabaseDown(true)
			time.Sleep(a.last)
			s.setDatabaseDown(false)
		}
	case netDown:
		w.network.setDown(true)
		time.Sleep(a.last)
		w.network.setDown(false)
	case dbDown:
		w.noDatabase.Store(true)
		time.Sleep(a.last)
		w.noDatabase.Store(false)
	case stepClock:
		w.clock.setSkew(a.skew)
		from := time.Now()
		time.Sleep(a.last)
		w.mu.Lock()
		w.skewed = append(w.skewed, pause{from: from, to: time.Now()})
		w.mu.Unlock()
		w.clock.setSkew(w.plan.skew)
	case holdIt:
		w.hold(ctx, a.last)
	case suppressOne:
		phone := campaign.Phone(13800000001 + a.n)
		if err := w.db.Suppress(ctx, phone, time.Time{}, "asked not to be called", "test", time.Now()); err != nil {
			w.t.Errorf("suppress: %v", err)
		}
		w.mu.Lock()
		if w.suppressed[phone].IsZero() {
			w.suppressed[phone] = time.Now()
		}
		w.mu.Unlock()
	case cancelIt:
		if err := w.db.Cancel(ctx, w.campaign.ID, time.Now()); err != nil {
			w.t.Errorf("cancel: %v", err)
		}
		w.mu.Lock()
		if w.cancelled.IsZero() {
			w.cancelled = time.Now()
		}
		w.mu.Unlock()
	}
	w.trace.add("%s: over", a.kind)
}

// hold pauses the campaign as a person does, and counts what is intended meanwhile.
func (w *world) hold(ctx context.Context, last time.Duration) {
	w.mu.Lock()
	busy := w.held
	w.held = true
	w.mu.Unlock()
	if busy {
		return
	}
	defer func() {
		w.mu.Lock()
		w.held = false
		w.mu.Unlock()
	}()
	if err := w.db.Pause(ctx, w.campaign.ID, "a person", time.Now()); err != nil {
		return // the run has ended
	}
	p := pause{from: time.Now(), before: w.progress().Attempts}
	time.Sleep(last)
	p.to, p.after = time.Now(), w.progress().Attempts
	w.mu.Lock()
	w.pauses = append(w.pauses, p)
	w.mu.Unlock()
	if err := w.db.Resume(ctx, w.campaign.ID, time.Now()); err != nil && w.progress().State != campaign.Cancelled && w.progress().State != campaign.Idle {
		w.t.Errorf("resume: %v", err)
	}
}

// heal ends all faults.
func (w *world) heal() {
	w.plan.over.Store(true)
	w.network.setDown(false)
	w.noDatabase.Store(false)
	if err := w.platform.SetFaults(simulator.Faults{}); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range w.alive() {
		s.resume()
		s.setDatabaseDown(false)
	}
	w.acting.Wait() // a node that was told to stop may take its time
	if len(w.alive()) == 0 {
		w.startNode()
	}
	w.trace.add("nothing goes wrong any more")
}

// settle waits until nothing is left to happen. Meanwhile a person lets go on what was
// paused, and starts again what has ended with contacts pending.
func (w *world) settle() {
	ctx := context.WithoutCancel(w.t.Context())
	time.Sleep(simRequestTimeout + time.Second) // what is unanswered is known to be
	for end := w.plan.start.Add(simPatience); time.Now().Before(end); {
		p := w.progress()
		a, err := w.db.Account(ctx, "main")
		if err != nil {
			w.t.Fatal(err)
		}
		if !a.Active {
			w.trace.add("a person resumes the account: %s", a.Reason)
			if err := w.db.ResumeAccount(ctx, "main", time.Now()); err != nil {
				w.t.Fatal(err)
			}
		}
		_, open := w.campaign.Spec.Windows.Open(time.Now(), shanghai)
		switch {
		case p.State == campaign.Paused:
			w.trace.add("a person resumes the campaign: %s", p.Reason)
			if err := w.db.Resume(ctx, w.campaign.ID, time.Now()); err != nil {
				w.t.Fatal(err)
			}
		case p.State == campaign.Idle && p.Pending > 0 && open:
			w.trace.add("a person starts the campaign again: %d pending", p.Pending)
			w.startRun()
		case p.Open == 0 && (p.State != campaign.Running && p.Pending == 0 || !open):
			quiet, cancel := context.WithTimeout(ctx, time.Millisecond)
			err := w.platform.WaitQuiet(quiet)
			cancel()
			var waiting int
			if err := w.db.Pool().QueryRow(ctx, `SELECT count(*) FROM inbox`).Scan(&waiting); err != nil {
				w.t.Fatal(err)
			}
			if err == nil && waiting == 0 {
				return
			}
		}
		time.Sleep(time.Second)
	}
	w.t.Errorf("it has not ended after %v: %+v", simPatience, w.progress())
}
