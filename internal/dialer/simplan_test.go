package dialer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"dialer/internal/simulator"
)

// The times of a simulation. What lasts minutes at night lasts seconds here, because
// each second that passes costs a look at the tables.
const (
	simRequestTimeout = 2 * time.Second
	simSendWithin     = time.Second
	simLeaseTTL       = 3 * time.Second
	simAskAfter       = 6 * time.Second
	simLostAfter      = 14 * time.Second
	simFaultsUntil    = 10 * time.Second // after the start, nothing goes wrong on purpose
	simPatience       = 6 * time.Minute  // everything is final by then
)

// plan is what a seed stands for: the campaign, what goes wrong and when. Each seed
// uses a few kinds of faults, so that they meet in pairs and triples and none drowns
// the others.
type plan struct {
	seed      uint64
	contacts  int
	limit     int
	nodes     int
	attempts  int // the campaign's max_attempts
	perMinute int
	start     time.Time
	skew      time.Duration

	fates    map[fateKind]float64 // shares of the requests
	slowDial float64              // share of the connections that take longer than send_by
	kill     float64              // share of the database's statements that do not arrive
	drop     float64              // share of its replies that are lost
	late     float64              // share of the intents that arrive late
	lose     float64              // shares of the pushes
	unacked  float64
	double   float64
	dawdle   float64
	platform simulator.Config
	acts     []act
	over     atomic.Bool // from now on nothing goes wrong on purpose
}

// act is something that happens at a time after the start.
type act struct {
	at   time.Duration
	kind actKind
	n    int           // which node, which contact
	last time.Duration // how long
	skew time.Duration // of a step: how much the database is ahead then
}

type actKind string

const (
	crash       actKind = "a node crashes"
	stop        actKind = "a node is told to stop"
	join        actKind = "another node starts"
	hang        actKind = "a node hangs"
	netDown     actKind = "the network is down"
	dbDown      actKind = "the database is down"
	dbPart      actKind = "the database is down for one node"
	holdIt      actKind = "a person pauses the campaign"
	suppressOne actKind = "a number is suppressed"
	cancelIt    actKind = "a person cancels the campaign"
	stepClock   actKind = "the database's clock steps"
)

func newPlan(seed uint64) *plan {
	r := pcg(seed, 1)
	p := &plan{
		seed: seed, contacts: 10 + r.IntN(31), limit: 10 + r.IntN(21), nodes: 1 + r.IntN(2), attempts: 1 + r.IntN(3), perMinute: 3,
		start:    time.Date(2000, 1, 3, 10, 0, 0, 0, shanghai).Add(time.Duration(r.IntN(1e9))),
		fates:    make(map[fateKind]float64),
		platform: ordinary(seed),
	}
	some := func(chance float64) bool { return r.Float64() < chance }
	if some(0.1) {
		p.perMinute = 1
	}
	if some(0.1) { // the window, which ends at 12, closes in the run
		p.start = time.Date(2000, 1, 3, 11, 59, 57, 0, shanghai).Add(-time.Duration(r.IntN(4e9)))
	}
	if some(0.2) {
		p.skew = time.Duration(r.IntN(4e9)) - 2*time.Second
	}
	for _, kind := range fateKinds {
		if some(0.25) {
			p.fates[kind] = 0.05 + 0.2*r.Float64()
		}
	}
	for _, share := range []*float64{&p.slowDial, &p.lose, &p.unacked, &p.double, &p.dawdle} {
		if some(0.2) {
			*share = 0.05 + 0.3*r.Float64()
		}
	}
	for _, share := range []*float64{&p.kill, &p.drop} {
		if some(0.3) {
			*share = 0.005 + 0.05*r.Float64()
		}
	}
	if some(0.2) {
		p.late = 0.05 + 0.3*r.Float64()
	}
	for _, share := range []*float64{&p.platform.Duplicate, &p.platform.Reorder, &p.platform.LoseReceipts} {
		if some(0.2) {
			*share = 0.3 * r.Float64()
		}
	}
	p.platform.ProgressReports = some(0.1)
	p.platform.Faults = platformFaults(r)
	if p.attempts == 3 {
		delete(p.platform.Faults.Business, "isv.BUSINESS_LIMIT_CONTROL") // the third try would wait an hour
	}
	p.acts = p.newActs(r)
	return p
}

// ordinary is the platform when nothing goes wrong.
func ordinary(seed uint64) simulator.Config {
	return simulator.Config{
		Seed: seed, TimeScale: 20, PushRetry: []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second},
		Outcomes: map[string]float64{"answered": 4, "busy": 3, "no_answer": 2, "rejected": 1},
	}
}

var shanghai = time.FixedZone("CST", 8*3600)

// platformFaults are in one seed of two; some codes pause the campaign or the account,
// and a person lets them go on.
func platformFaults(r *rand.Rand) simulator.Faults {
	var f simulator.Faults
	if r.IntN(2) == 0 {
		return f
	}
	for _, share := range []*float64{
		&f.Throttle, &f.NeverAnswer, &f.Cut, &f.CutBefore, &f.HTML, &f.Status503, &f.Redirect302, &f.OKWithoutCallID, &f.SystemError,
	} {
		if r.IntN(6) == 0 {
			*share = 0.1 * r.Float64()
		}
	}
	for _, code := range []string{
		"isp.UNKNOWN", "isv.VOICE_CALL_FAIL", "InternalError", "isv.NEVER_SEEN_BEFORE", "isv.BUSINESS_LIMIT_CONTROL", "isv.MOBILE_NUMBER_ILLEGAL",
		"isv.VOICE_FILE_ILLEGAL", "isv.AMOUNT_NOT_ENOUGH",
	} {
		if r.IntN(10) == 0 {
			if f.Business == nil {
				f.Business = make(map[string]float64)
			}
			f.Business[code] = 0.08 * r.Float64()
		}
	}
	if r.IntN(4) == 0 { // many receipts come before the answer
		f.Delay = simulator.Range{Min: 0, Max: 1900 * time.Millisecond}
	}
	return f
}

func (p *plan) newActs(r *rand.Rand) []act {
	kinds := []actKind{crash, crash, stop, join, hang, hang, netDown, dbDown, dbPart, holdIt, holdIt, suppressOne, suppressOne}
	if r.IntN(5) == 0 {
		kinds = append(kinds, cancelIt)
	}
	if r.IntN(5) == 0 {
		kinds = append(kinds, stepClock)
	}
	var acts []act
	steps := false
	for range r.IntN(6) {
		a := act{kind: kinds[r.IntN(len(kinds))], at: time.Duration(r.IntN(int(6 * time.Second))), n: r.IntN(p.contacts)}
		if r.IntN(2) == 0 {
			a.at /= 4 // while the first contacts are dialled
		}
		if a.last = time.Duration(r.IntN(int(4 * time.Second))); r.IntN(3) == 0 {
			a.last /= 8
		}
		if steps && a.kind == stepClock {
			continue // the second would undo the first
		}
		a.skew = []time.Duration{2 * time.Hour, -2 * time.Hour, 6 * time.Second, -6 * time.Second}[r.IntN(4)]
		acts = append(acts, a)
		steps = steps || a.kind == stepClock
	}
	if steps {
		// A lease taken while the clock is ahead lasts that much longer, and nobody could
		// take over from a holder that is away.
		acts = slices.DeleteFunc(acts, func(a act) bool { return slices.Contains([]actKind{crash, hang, dbDown, dbPart}, a.kind) })
	}
	return acts
}

// fate is what the network does to the k-th request to a number.
func (p *plan) fate(phone string, k int) fate {
	if p.over.Load() {
		return fate{}
	}
	number, _ := strconv.ParseUint(phone, 10, 64)
	r := pcg(p.seed, 2, number, uint64(k))
	at := r.Float64()
	for _, kind := range fateKinds {
		if at -= p.fates[kind]; at < 0 {
			f := fate{kind: kind, part: r.Float64(), delay: time.Duration(r.IntN(int(2 * simRequestTimeout)))}
			switch {
			case r.IntN(4) == 0:
				f.part = float64(r.IntN(2)) // nothing, or all of it
			case r.IntN(3) == 0:
				f.delay = simRequestTimeout + time.Duration(r.IntN(3)-1)*time.Millisecond
			}
			if kind == slowRequest {
				if r.IntN(3) > 0 {
					f.delay /= 4
				}
				f.delay = min(f.delay, simRequestTimeout)
			}
			return f
		}
	}
	return fate{}
}

// dialDelay is how long a connection takes.
func (p *plan) dialDelay(r *rand.Rand) time.Duration {
	if p.over.Load() || r.Float64() >= p.slowDial {
		return 0
	}
	return time.Duration(r.IntN(int(2 * simSendWithin)))
}

type dbFault int

const (
	dbFine dbFault = iota
	dbKill
	dbDrop
	dbLate
)

func (p *plan) dbFault(r *rand.Rand) dbFault {
	switch at := r.Float64(); {
	case p.over.Load():
	case at < p.kill:
		return dbKill
	case at < p.kill+p.drop:
		return dbDrop
	case at < p.kill+p.drop+p.late: // of the intents alone
		return dbLate
	}
	return dbFine
}

// String tells the plan to people.
func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d contacts, limit %d, %d nodes, %d attempts, %d a minute, from %s, database ahead by %v\n",
		p.seed, p.contacts, p.limit, p.nodes, p.attempts, p.perMinute, p.start.Format(time.TimeOnly+".000"), p.skew)
	fmt.Fprintf(&b, "  network %v, slow connections %.2f; database: lost statements %.3f, lost replies %.3f, late intents %.3f\n", p.fates, p.slowDial, p.kill, p.drop, p.late)
	fmt.Fprintf(&b, "  pushes: lost %.2f, unacknowledged %.2f, doubled %.2f, late %.2f\n", p.lose, p.unacked, p.double, p.dawdle)
	fmt.Fprintf(&b, "  platform: duplicates %.2f, reordered %.2f, lost %.2f, faults %+v\n", p.platform.Duplicate, p.platform.Reorder, p.platform.LoseReceipts, p.platform.Faults)
	for _, a := range p.acts {
		fmt.Fprintf(&b, "  at %v %s (%d, for %v)\n", a.at, a.kind, a.n, a.last)
	}
	return b.String()
}
