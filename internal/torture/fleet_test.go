package torture

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// The fleet of TestFleet: eight accounts, two nodes that become four.
const (
	fleetAccounts = 8
	fleetNodes    = 4
	fleetLease    = time.Second
	// fleetLimit is what each account permits. Together they leave a small machine air.
	fleetLimit = 40
	// fleetSlack is what a busy machine may add to a pause that is promised: to most of
	// them, and to the longest.
	fleetSlack     = time.Second
	fleetMostSlack = 5 * time.Second
)

// fleet is a night whose nodes each have a way of their own to Postgres and, where the
// machine permits it, a network of their own.
type fleet struct {
	*Night
	nodes []*Node
	wires []*Proxy // to Postgres
	away  []outage
}

// outage is a time in which a node could not dial, and did not give its accounts back.
type outage struct {
	node     string
	from, to time.Time
}

// Adding machines is starting nodes, and losing them costs no more than is promised. Two
// nodes share eight accounts, then four; one is killed, one sleeps past its lease, one
// loses Postgres and not the platform, one is told to stop. The platform never sees more
// than the limit of any account in any second, nobody is called twice, and all accounts
// are dialled at their limit but for the pauses that are documented.
func TestFleet(t *testing.T) { // not beside others: it looks at how much work is done
	rounds := 1
	if Long() {
		rounds = 20
	}
	f := newFleet(t, 20+rounds*45)
	began := time.Now()
	f.start(t, 0)
	f.start(t, 1)
	f.spread(t, 2)
	f.dialled(t, 3*time.Second)
	f.start(t, 2)
	f.start(t, 3)
	f.spread(t, 4)
	for range rounds {
		f.kill(t, 0)
		f.freeze(t, 1)
		f.cut(t, 2)
		f.leave(t, 3)
	}
	f.spread(t, 4)
	ended := time.Now()
	for i := range fleetAccounts {
		f.Dialer("campaign", "cancel", fmt.Sprint("campaign", i+1))
	}
	f.settled(t)
	// A node that slept, or had no database, writes what it knows later than it knew it.
	// A node that slept in the middle of a statement, or had no database, writes down later
	// what it knows, with the time at which it began.
	f.Check(Rules{Quiescent: true, LostAfter: lostAfter, Commit: 20 * time.Second, Clock: 10 * time.Second})
	st := f.Simulator.Stats()
	if st.Throttled != 0 || st.Repeats != 0 || st.Overlaps != 0 {
		t.Errorf("%d requests were throttled, %d OutIds had two calls, %d phones rang in a call", st.Throttled, st.Repeats, st.Overlaps)
	}
	for name, account := range st.Accounts {
		if account.WorstSecond > fleetLimit {
			t.Errorf("account %s: %d requests in the worst second, the limit is %d", name, account.WorstSecond, fleetLimit)
		}
	}
	f.worked(t, began, ended)
}

func newFleet(t *testing.T, seconds int) *fleet {
	t.Helper()
	f := &fleet{Night: NewNight(t, NightOptions{Accounts: fleetAccounts, Limit: fleetLimit})}
	f.Account()
	contacts := fleetLimit * seconds
	for i := range fleetAccounts {
		name := fmt.Sprint("campaign", i+1)
		f.CampaignOf(i, name, 13800000000+i*contacts, contacts)
		f.Dialer("campaign", "start", name)
	}
	platform := strings.TrimPrefix(f.Endpoint, "http://")
	for i := range fleetNodes {
		network, err := NewNamespace(t)
		if err != nil {
			t.Logf("node%d runs in the machine's own network: %v", i+1, err)
		} else {
			// The platform has the same address in every network.
			NewProxyIn(t, network, platform, "tcp", platform)
		}
		f.wires = append(f.wires, NewProxyIn(t, network, loopback(port(t)), "tcp", f.Postgres.Addr()))
		f.nodes = append(f.nodes, &Node{Name: fmt.Sprint("node", i+1), opts: NodeOptions{Network: network}})
	}
	return f
}

// start starts a node for the first time.
func (f *fleet) start(t *testing.T, i int) {
	t.Helper()
	f.nodes[i] = f.StartNode(t, NodeOptions{
		Name: f.nodes[i].Name, Network: f.nodes[i].opts.Network,
		Env: []string{"DATABASE_URL=" + databaseURL(f.wires[i].Addr(), "dialer")}, Args: []string{"--lost-after", lostAfter.String(), "--lease", fleetLease.String()},
	})
}

// holders returns how many accounts each node holds.
func (f *fleet) holders(t *testing.T) map[string]int {
	t.Helper()
	rows, err := f.DB().Pool().Query(t.Context(), `SELECT n.name FROM lease l JOIN node n USING (node_id) WHERE l.until > clock_timestamp()`)
	must(t, err)
	defer rows.Close()
	held := make(map[string]int)
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		held[name]++
	}
	must(t, rows.Err())
	return held
}

// spread waits until so many nodes hold the accounts, none more than one above its share
// or below it.
func (f *fleet) spread(t *testing.T, nodes int) {
	t.Helper()
	began := time.Now()
	Eventually(t, 30*time.Second, fmt.Sprintf("%d nodes share the accounts", nodes), func() (bool, string) {
		held := f.holders(t)
		all, share := 0, fleetAccounts/nodes
		for _, n := range held {
			all += n
			if n < share-1 || n > share+1 {
				return false, fmt.Sprint(held)
			}
		}
		return len(held) == nodes && all == fleetAccounts, fmt.Sprint(held)
	})
	t.Logf("after %.1f s the accounts are shared by %d nodes: %v", time.Since(began).Seconds(), nodes, f.holders(t))
}

// dialled waits until as many requests have come as the limits permit in that time.
func (f *fleet) dialled(t *testing.T, during time.Duration) {
	t.Helper()
	begin := f.Simulator.Stats().Requests
	Eventually(t, during+30*time.Second, "the accounts are dialled", func() (bool, string) {
		got := f.Simulator.Stats().Requests - begin
		return got >= int64(fleetAccounts*fleetLimit*during.Seconds()*0.9), fmt.Sprint(got)
	})
}

// gone waits until a node holds nothing and the others everything.
func (f *fleet) gone(t *testing.T, i int) {
	t.Helper()
	Eventually(t, 30*time.Second, "the others have taken over from "+f.nodes[i].Name, func() (bool, string) {
		held := f.holders(t)
		all := 0
		for _, n := range held {
			all += n
		}
		return held[f.nodes[i].Name] == 0 && all == fleetAccounts, fmt.Sprint(held)
	})
}

// out notes that a node is away from now on; the function it returns, that it is back.
func (f *fleet) out(i int) (back func()) {
	f.away = append(f.away, outage{node: f.nodes[i].Name, from: time.Now()})
	o := &f.away[len(f.away)-1]
	return func() { o.to = time.Now() }
}

func (f *fleet) kill(t *testing.T, i int) {
	t.Helper()
	back := f.out(i)
	f.nodes[i].Kill()
	f.gone(t, i)
	back()
	must(t, f.nodes[i].Restart(""))
	f.dialled(t, 3*time.Second)
}

func (f *fleet) freeze(t *testing.T, i int) {
	t.Helper()
	back := f.out(i)
	f.nodes[i].Freeze()
	f.gone(t, i)
	f.dialled(t, 2*time.Second)
	f.nodes[i].Thaw()
	back()
	f.dialled(t, 2*time.Second)
}

// cut takes Postgres from a node, without a word, and leaves it the platform.
func (f *fleet) cut(t *testing.T, i int) {
	t.Helper()
	back := f.out(i)
	f.wires[i].Now(Plan{BlackHole: true})
	f.gone(t, i)
	f.dialled(t, 2*time.Second)
	f.wires[i].Now(Plan{})
	back()
	f.dialled(t, 2*time.Second)
}

func (f *fleet) leave(t *testing.T, i int) {
	t.Helper()
	if code, took := f.nodes[i].Stop(); code != 0 || took > 10*time.Second {
		t.Errorf("node %s stopped with exit code %d after %s", f.nodes[i].Name, code, took)
	}
	f.gone(t, i)
	must(t, f.nodes[i].Restart(""))
	f.dialled(t, 3*time.Second)
}

// change is one passing of an account from a holder to the next, as the ledger tells it.
type change struct {
	from, to    string
	last, first time.Time // intent of the one and the other
}

// changes returns the changes of hands of each account.
func (f *fleet) changes(t *testing.T) map[string][]change {
	t.Helper()
	rows, err := f.DB().Pool().Query(t.Context(), `
		SELECT account, before, name, last, intent_at
		  FROM (SELECT a.name AS account, n.name, node_id, t.intent_at, lag(n.name) OVER w AS before, lag(node_id) OVER w AS old, lag(t.intent_at) OVER w AS last
		          FROM attempt t JOIN account a USING (account_id) JOIN node n USING (node_id)
		        WINDOW w AS (PARTITION BY t.account_id ORDER BY t.intent_at)) t
		 WHERE node_id <> old
		 ORDER BY account, intent_at`)
	must(t, err)
	defer rows.Close()
	all := make(map[string][]change)
	for rows.Next() {
		var account string
		var c change
		must(t, rows.Scan(&account, &c.from, &c.to, &c.last, &c.first))
		all[account] = append(all[account], c)
	}
	must(t, rows.Err())
	return all
}

// promised is the longest that nobody may dial when an account changes hands.
func (f *fleet) promised(c change) (died bool, pause time.Duration) {
	for _, o := range f.away {
		if c.from == o.node && c.last.Before(o.to) && c.first.After(o.from) {
			return true, fleetLease + time.Second
		}
	}
	return false, time.Second
}

// worked checks that every account was dialled as fast as the machine permitted, but for
// the pauses that are documented: the lease and a second after a holder was lost, a second
// after it gave the account back. How fast that is, is seen while nothing changes hands:
// at the limit, unless the machine has more to do. The time before an account's first
// request does not count. The pauses themselves are looked at in the platform's ledger.
func (f *fleet) worked(t *testing.T, began, ended time.Time) {
	t.Helper()
	arrivals := make(map[string][]time.Time)
	for _, r := range f.Requests() {
		if r.Wall.Before(ended) {
			arrivals[r.Account] = append(arrivals[r.Account], r.Wall)
		}
	}
	if len(arrivals) != fleetAccounts {
		t.Errorf("%d accounts were dialled, want %d", len(arrivals), fleetAccounts)
	}
	changes := f.changes(t)
	possible := make(map[string]time.Duration)
	pauses := make(map[bool][]time.Duration) // after a loss, after a hand-over
	var calm time.Duration
	inCalm := 0
	for account, at := range arrivals {
		if late := at[0].Sub(began); late > 10*time.Second {
			t.Errorf("account %s was dialled %s after the first node had begun", account, late)
		}
		possible[account] = ended.Sub(at[0])
		quiet := at[0] // nothing has changed hands since
		rest := func(until time.Time) {
			if until.After(quiet) {
				calm += until.Sub(quiet)
				inCalm += between(at, quiet, until)
			}
		}
		for _, c := range changes[account] {
			next := slices.IndexFunc(at, func(a time.Time) bool { return a.After(c.first) })
			if next <= 0 {
				continue // it was on its way when all ended
			}
			died, promised := f.promised(c)
			possible[account] -= promised
			// The silence in which the change lies.
			pause := at[next].Sub(at[next-1])
			pauses[died] = append(pauses[died], pause)
			if pause > promised+fleetMostSlack {
				t.Errorf("account %s was not dialled for %.2f s when it passed from %s to %s (lost: %t); %.2f s are promised",
					account, pause.Seconds(), c.from, c.to, died, promised.Seconds())
			}
			rest(at[next-1].Add(-time.Second))
			quiet = at[next].Add(time.Second)
		}
		rest(ended)
	}
	rate := min(float64(inCalm)/calm.Seconds(), fleetLimit)
	least := 0.9
	if rate < 0.7*fleetLimit {
		// The machine has so much else to do that what it permits changes from one moment to
		// the next.
		least = 0.7
	}
	worst := math.Inf(1)
	for account, at := range arrivals {
		share := float64(len(at)) / (possible[account].Seconds() * rate)
		worst = min(worst, share)
		if share < least {
			t.Errorf("account %s: %d requests are %.1f %% of what was possible in %.1f s, its %d changes of hands taken off",
				account, len(at), 100*share, possible[account].Seconds(), len(changes[account]))
		}
	}
	for died, promised := range map[bool]time.Duration{true: fleetLease + time.Second, false: time.Second} {
		p := pauses[died]
		if len(p) == 0 {
			t.Errorf("no account changed hands (lost: %t): this test shows nothing", died)
			continue
		}
		slices.Sort(p)
		if median := p[len(p)/2]; median > promised+fleetSlack {
			t.Errorf("half of the accounts that changed hands (lost: %t) were not dialled for %.2f s and more; %.2f s are promised", died, median.Seconds(), promised.Seconds())
		}
		t.Logf("%d accounts changed hands (lost: %t), not dialled for %.2f to %.2f s, half of them for less than %.2f", len(p), died, p[0].Seconds(), p[len(p)-1].Seconds(), p[len(p)/2].Seconds())
	}
	t.Logf("%.0f s: %.1f %% of the limit while nothing changed hands; on each account at least %.1f %% of what was possible", ended.Sub(began).Seconds(), 100*rate/fleetLimit, 100*worst)
	if rate < fleetLimit/3 {
		t.Errorf("this machine dials %.1f requests per second of %d: too few to show anything", rate, fleetLimit)
	}
}

func between(all []time.Time, from, to time.Time) (n int) {
	for _, at := range all {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}
