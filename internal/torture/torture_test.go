package torture

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
	"dialer/internal/simulator"
)

// The numbers of the torture run and of the pauses. Those that are not set are the short form's or, with
// -torture.long, the long form's.
var (
	tortureSeed     = flag.Uint64("torture.seed", 0, "seed of the torture run's faults; 0: another one each time")
	tortureNodes    = flag.Int("torture.nodes", 4, "nodes of the torture run, from 1 to 4; as many accounts")
	tortureContacts = flag.Int("torture.contacts", 0, "contacts of the torture run")
	tortureKills    = flag.Int("torture.kills", 0, "kill -9 of nodes")
	torturePauses   = flag.Int("torture.pauses", 0, "pauses of nodes past lease and send_by, in TestPausedNode")
	tortureRestarts = flag.Int("torture.restarts", 0, "restarts of Postgres: fast, immediate and kill -9 in turn")
)

// torture is one run: a night, its nodes, and a seeded plan of what goes wrong.
type torture struct {
	*Night
	wire     *CommitProxy // between nodes and Postgres
	platform *Proxy       // between nodes and the platform
	nodes    []*Node
	dice     *rand.Rand

	kills, restarts int // that are still to come
	restarted       int
	counts          map[string]int

	pausesMu sync.Mutex
	pauses   []Pause
}

// Everything at once, at full pace: several nodes and accounts, kill -9, sleep, partitions,
// restarts of Postgres, lost replies to commits, broken connections, a platform that
// answers in every wrong way, receipts doubled, reordered and lost, people who pause and
// suppress. Then both ledgers are held against each other.
//
// The seed decides what goes wrong and when; what the processes are doing at that moment
// it does not, so a run with the same seed is alike and not the same.
func TestTorture(t *testing.T) {
	t.Parallel()
	contacts, kills, restarts := 20_000, 20, 3
	if Long() {
		contacts, kills, restarts = 200_000, 300, 20
	}
	for _, set := range []struct{ value, given *int }{{&contacts, tortureContacts}, {&kills, tortureKills}, {&restarts, tortureRestarts}} {
		if *set.given > 0 {
			*set.value = *set.given
		}
	}
	seed := *tortureSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	replay := fmt.Sprintf("go test ./internal/torture -run 'TestTorture$' -count=1 -timeout=2h -torture.seed=%d -torture.nodes=%d -torture.contacts=%d -torture.kills=%d -torture.restarts=%d",
		seed, *tortureNodes, contacts, kills, restarts)
	t.Log(replay)

	tt := newTorture(t, seed, contacts)
	tt.kills, tt.restarts = kills, restarts
	began := time.Now()
	tt.goWrong(t)
	lastFault := time.Now()
	tt.recovered(t, contacts, lastFault)
	p := tt.progress(t)
	took := time.Since(began)
	for _, node := range tt.nodes {
		if code, _ := node.Stop(); code != 0 {
			t.Errorf("node %s stopped with exit code %d", node.Name, code)
		}
	}
	tt.Quiet()
	report := tt.Check(Rules{
		Quiescent: true, LostAfter: lostAfterTorture, Pauses: tt.pauses, Commit: 20 * time.Second,
		Limits: tt.limits(),
	})
	st := tt.Simulator.Stats()
	t.Logf("%.0f s, %d requests/s over all; %v", took.Seconds(), int(float64(st.Requests)/took.Seconds()), tt.counts)
	t.Logf("%d contacts = %d done + %d suppressed + %d unknown; %d calls, %d OutIds twice, %d phones rung in a call",
		p.Imported, p.Done, p.Suppressed, p.Unknown, st.Accepted, st.Repeats, st.Overlaps)
	t.Logf("requests per second, by five seconds: %v", tt.rates())
	if st.Repeats != 0 || st.Overlaps != 0 {
		t.Errorf("%d OutIds with two calls, %d phones rung while in a call", st.Repeats, st.Overlaps)
	}
	tt.boundDoubt(t, report, kills)
	for what, least := range map[string]int{"kill": kills, "postgres": restarts} {
		if tt.counts[what] != least {
			t.Errorf("%d times %s, want %d", tt.counts[what], what, least)
		}
	}
	if t.Failed() {
		t.Log("again: " + replay)
	}
}

// tortureScale makes calls and pushes that much faster than life, and lostAfterTorture is
// past the longest call and the last of its pushes then, and past an outage in which they
// fail.
const (
	tortureScale     = 100
	lostAfterTorture = 18 * time.Second
)

func newTorture(t *testing.T, seed uint64, contacts int) *torture {
	t.Helper()
	nodes := min(max(*tortureNodes, 1), 4)
	night := NewNight(t, NightOptions{Accounts: nodes, Simulator: simulator.Config{
		Seed: seed, TimeScale: tortureScale, Duplicate: 0.1, Reorder: 0.1, LoseReceipts: 0.005, ProgressReports: true,
		// A throttled answer slows its account down for seconds, so there are few.
		Faults: simulator.Faults{
			Throttle: 0.0002, NeverAnswer: 0.001, Cut: 0.004, CutBefore: 0.004, HTML: 0.001, Status503: 0.001, Redirect302: 0.001,
			OKWithoutCallID: 0.001, SystemError: 0.001, Business: map[string]float64{"isv.MOBILE_NUMBER_ILLEGAL": 0.002, "isv.BUSINESS_LIMIT_CONTROL": 0.001},
			Delay: simulator.Range{Max: 8 * time.Millisecond},
		},
	}})
	log, err := os.CreateTemp("", "dialer-torture-*.log")
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the logs of the nodes: %s", log.Name())
			return
		}
		must(t, errors.Join(log.Close(), os.Remove(log.Name())))
	})
	tt := &torture{
		Night: night, dice: rand.New(rand.NewPCG(seed, 3)), counts: make(map[string]int),
		wire: NewCommitProxy(t, "tcp", night.Postgres.Addr(), seed), platform: NewProxy(t, "tcp", strings.TrimPrefix(night.Endpoint, "http://")),
	}
	tt.wire.Lose(&Loss{Every: 100}, &Loss{Every: 500, When: DuringCommit}, &Loss{Every: 500, When: BeforeCommit})
	night.Endpoint, night.Database = "http://"+tt.platform.Addr(), tt.wire.URL()
	night.Account()
	for i := range nodes {
		night.CampaignOf(i, fmt.Sprintf("campaign%d", i+1), 13800000000+i*(contacts/nodes), contacts/nodes)
		night.Dialer("campaign", "start", fmt.Sprintf("campaign%d", i+1))
	}
	for i := range nodes {
		tt.nodes = append(tt.nodes, night.StartNode(t, NodeOptions{
			Name: fmt.Sprintf("node%d", i+1), Log: log, Args: []string{"--lost-after", lostAfterTorture.String(), "--lease", "1s", "--timeout", "5s"},
		}))
	}
	return tt
}

func (tt *torture) limits() map[string]int {
	limits := make(map[string]int)
	for i := range tt.accounts {
		limits[nightAccount+suffix(i)] = nightLimit / tt.accounts
	}
	return limits
}

// rates are the requests per second that arrived in each five seconds of the run.
func (tt *torture) rates() []int {
	var rates []int
	for _, r := range tt.Requests() {
		slot := int(r.MonoUS / 5_000_000)
		for len(rates) <= slot {
			rates = append(rates, 0)
		}
		rates[slot]++
	}
	for i := range rates {
		rates[i] /= 5
	}
	return rates
}

// goWrong does what the seed says until all kills and restarts are done.
func (tt *torture) goWrong(t *testing.T) {
	t.Helper()
	var healing sync.WaitGroup
	defer healing.Wait()
	heal := func(after time.Duration, f func()) {
		healing.Go(func() {
			timer := time.NewTimer(after)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-t.Context().Done():
			}
			f()
		})
	}
	tick := time.NewTimer(0)
	defer tick.Stop()
	for tt.kills > 0 || tt.restarts > 0 {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
		tick.Reset(tt.between(150*time.Millisecond, 900*time.Millisecond))
		switch roll := tt.dice.IntN(100); {
		case roll < 45:
			tt.killOne(t, heal)
		case roll < 53:
			tt.restartPostgres(t)
		case roll < 63:
			tt.freezeOne(heal)
		case roll < 71:
			tt.counts["connections to postgres cut"] += tt.wire.CutAll()
		case roll < 77:
			if n, err := tt.Postgres.TerminateBackends(); err == nil {
				tt.counts["backends terminated"] += n
			}
		case roll < 81:
			tt.counts["partition from postgres"]++
			tt.wire.Partition()
			heal(tt.between(200*time.Millisecond, 2*time.Second), func() { must(t, tt.wire.Heal()) })
		case roll < 89:
			tt.counts["connections to the platform cut"] += tt.platform.CutAll()
		case roll < 93:
			tt.pauseOne(t, heal)
		default:
			tt.suppressOne()
		}
	}
}

func (tt *torture) between(least, most time.Duration) time.Duration {
	return least + time.Duration(tt.dice.Int64N(int64(most-least)))
}

func (tt *torture) killOne(t *testing.T, heal func(time.Duration, func())) {
	if tt.kills == 0 {
		return
	}
	node := tt.nodes[tt.dice.IntN(len(tt.nodes))]
	if !node.Running() || node.Frozen() {
		return // it comes back in a moment
	}
	tt.kills--
	tt.counts["kill"]++
	node.Kill()
	heal(tt.between(0, 1200*time.Millisecond), func() {
		// On a server that recovers a node may not begin; a supervisor tries again.
		for range 60 {
			// It may have been killed while it began, and be started by the other kill's heal.
			if node.Running() || node.Restart("") == nil || t.Context().Err() != nil {
				return
			}
			timer := time.NewTimer(time.Second)
			<-timer.C
		}
		t.Errorf("node %s does not come back", node.Name)
	})
}

func (tt *torture) restartPostgres(t *testing.T) {
	if tt.restarts == 0 {
		return
	}
	tt.restarts--
	tt.counts["postgres"]++
	stop := []func() error{
		func() error { return tt.Postgres.Stop(Fast) },
		func() error { return tt.Postgres.Stop(Immediate) },
		tt.Postgres.Kill9,
	}[tt.restarted%3]
	tt.restarted++
	must(t, stop())
	timer := time.NewTimer(tt.between(0, time.Second))
	<-timer.C
	must(t, tt.Postgres.Start())
}

func (tt *torture) freezeOne(heal func(time.Duration, func())) {
	node := tt.nodes[tt.dice.IntN(len(tt.nodes))]
	if !node.Running() || node.Frozen() {
		return
	}
	tt.counts["freeze"]++
	node.Freeze()
	heal(tt.between(100*time.Millisecond, 3*time.Second), node.Thaw)
}

func (tt *torture) pauseOne(t *testing.T, heal func(time.Duration, func())) {
	name := fmt.Sprintf("campaign%d", 1+tt.dice.IntN(len(tt.nodes)))
	if _, _, err := tt.Try("campaign", "pause", name); err != nil {
		return // the server is away, or the campaign is paused or done
	}
	tt.counts["pause"]++
	at := time.Now()
	heal(tt.between(300*time.Millisecond, 1500*time.Millisecond), func() {
		for range 60 {
			resumed := time.Now()
			if _, _, err := tt.Try("campaign", "resume", name); err == nil {
				tt.pausesMu.Lock()
				defer tt.pausesMu.Unlock()
				tt.pauses = append(tt.pauses, Pause{Campaign: name, At: at, ResumedAt: resumed})
				return
			}
			timer := time.NewTimer(500 * time.Millisecond)
			<-timer.C
		}
		t.Errorf("campaign %s cannot be resumed", name)
	})
}

func (tt *torture) suppressOne() {
	number := fmt.Sprint(13800000000 + tt.dice.IntN(20_000))
	if _, _, err := tt.Try("suppress", "add", number); err == nil {
		tt.counts["suppress"]++
	}
}

// recovered waits until nothing is under way: every contact has ended or is unknown.
// There is a bound: what was left at the limit, and what it takes to lose what nobody
// can know.
func (tt *torture) recovered(t *testing.T, contacts int, since time.Time) {
	t.Helper()
	left := tt.progress(t)
	t.Logf("the last fault: %d pending, %d open, %d done", left.Pending, left.Open, left.Done)
	within := time.Duration(float64(left.Pending+left.Open)/float64(nightLimit)*1.5*float64(time.Second)) + lostAfterTorture + 90*time.Second
	Eventually(t, within, "every contact has ended or is unknown", func() (bool, string) {
		tt.resumeGuarded(t)
		p := tt.progress(t)
		if p.Imported != int64(contacts) {
			return false, fmt.Sprintf("the figures are not to be had: %+v", p)
		}
		return p.Pending == 0 && p.Open == 0, fmt.Sprintf("%+v", p)
	})
	tt.counts["seconds to recover"] = int(time.Since(since).Seconds())
}

// resumeGuarded resumes campaigns that a guard has paused: a torture has many answers in
// a row that nobody understands. A campaign in which somebody was called twice is not
// resumed.
func (tt *torture) resumeGuarded(t *testing.T) {
	t.Helper()
	all, err := tt.DB().Campaigns(t.Context())
	if err != nil {
		return
	}
	for _, c := range all {
		if c.State != campaign.Paused || !strings.HasPrefix(c.Reason, "twenty requests in a row") {
			continue
		}
		tt.counts["resumed after a guard"]++
		if err := tt.DB().Resume(t.Context(), c.ID, time.Now()); err != nil && !postgres.IsTransient(err) {
			t.Error(err)
		}
	}
}

// progress is the sum over all campaigns.
func (tt *torture) progress(t *testing.T) campaign.Progress {
	t.Helper()
	var sum campaign.Progress
	all, err := tt.DB().Campaigns(t.Context())
	for _, c := range all {
		var p campaign.Progress
		if p, err = tt.DB().Progress(t.Context(), c.ID); err != nil {
			break
		}
		sum.Imported += p.Imported
		sum.Pending += p.Pending
		sum.Open += p.Open
		sum.Done += p.Done
		sum.Suppressed += p.Suppressed
		sum.Unknown += p.Unknown
		sum.Attempts += p.Attempts
		if p.State == campaign.Paused {
			sum.Reason += p.Campaign + " is paused: " + p.Reason + "; "
		}
	}
	if err != nil && !postgres.IsTransient(err) && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return sum
}

// boundDoubt checks what kills left: at most a batch and the requests in flight each.
func (tt *torture) boundDoubt(t *testing.T, report Report, kills int) {
	t.Helper()
	const batch, inFlight = 100, 250
	unanswered, worst := 0, 0
	for _, d := range report.Doubts {
		unanswered += d.Unanswered
		worst = max(worst, d.Unanswered)
	}
	t.Logf("%d attempts without a response after %d kills, at most %d of one process", unanswered, kills, worst)
	if worst > batch+inFlight || unanswered > kills*(batch+inFlight)/2 {
		t.Errorf("%d attempts are without a response, %d of one process: more than a batch and the requests in flight", unanswered, worst)
	}
}
