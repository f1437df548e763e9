package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dialer/bench/internal/chart"
	"dialer/bench/internal/lab"
	"dialer/bench/internal/table"
)

// Section is section 3 of the goals.
var Section = lab.Section{Number: 3, Name: "store", Title: "The store: intents with every check, responses and receipts", Run: run}

const peer = "batch claim"

// claimWorkers are the workers of the reference at batch 500; at batch 20 it has one.
const claimWorkers = 16

func run(ctx context.Context, l *lab.Lab) (t table.Table, err error) {
	s, err := start(ctx, l)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, part := range []func(context.Context, *lab.Lab, *server, *table.Table) error{besideClaims, growth, manyAccounts} {
		if err := part(ctx, l, s, &t); err != nil {
			return t, err
		}
	}
	return t, nil
}

// besideClaims measures one account beside the reference, what an old snapshot does,
// and how fast one account can be. Each goes on in the same ledger and the same queue.
func besideClaims(ctx context.Context, l *lab.Lab, s *server, t *table.Table) error {
	var (
		rounds = l.Rounds()
		many   = lab.Either(l, 20_000, 240_000) // per round, in batches of 500
		few    = lab.Either(l, 4_000, 50_000)   // per round, in batches of 20
		scale  = lab.Either(l, Scale{Contacts: 50_000, History: 50_000, Suppressed: 50_000}, Scale{Contacts: 1_000_000, History: 1_000_000, Suppressed: 1_000_000})
	)
	scale.Accounts = 1
	l.Say("store: loading %d contacts, %d attempts, %d suppressions", scale.Contacts, scale.History, scale.Suppressed)
	w, err := newWorld(ctx, s.admin, "ledger", scale)
	if err != nil {
		return err
	}
	defer w.close()
	c, err := newClaims(ctx, s.admin, "claims", 0, rounds*(many+few))
	if err != nil {
		return err
	}
	defer c.close()
	if err := s.checkpoint(ctx); err != nil {
		return err
	}
	dial := func(n, batch int) func() (did, error) {
		return func() (did, error) { return w.dial(ctx, w.sets[0], drain{contacts: n, batch: batch}) }
	}
	claim := func(n, batch, workers int) func() (did, error) {
		return func() (did, error) {
			took, err := c.work(ctx, n, batch, workers)
			return did{intents: took}, err
		}
	}
	var big, small, bigClaims, smallClaims, held, free, fast costs
	checkpoints := int64(0)
	for range rounds {
		for _, one := range []struct {
			what string
			to   *costs
			n    int
			f    func() (did, error)
		}{
			{"batch claim, batch 500", &bigClaims, many, claim(many, 500, claimWorkers)},
			{"ledger, batch 500", &big, many, dial(many, 500)},
			{"batch claim, batch 20", &smallClaims, few, claim(few, 20, 1)},
			{"ledger, batch 20", &small, few, dial(few, 20)},
		} {
			cost, err := s.measure(ctx, one.n, one.f)
			if err != nil {
				return err
			}
			l.Say("store: %s: %s", one.what, cost)
			*one.to = append(*one.to, cost)
			checkpoints += cost.checkpoints
		}
	}
	pairs := few / 4
	for range rounds {
		cost, err := s.measure(ctx, pairs, dial(pairs, 20))
		if err != nil {
			return err
		}
		free = append(free, cost)
		if cost, err = s.measureHeld(ctx, w, pairs, dial(pairs, 20)); err != nil {
			return err
		}
		held = append(held, cost)
		l.Say("store: an old snapshot held open: %s", cost)
		if cost, err = s.measure(ctx, pairs, dial(pairs, 10)); err != nil {
			return err
		}
		l.Say("store: one account, batch 10: %s", cost)
		fast = append(fast, cost)
	}
	t.Rows = append(t.Rows,
		table.Row{Name: "CPU of Postgres, batch 500", Unit: "s per 1M contacts", Ours: big.perMillion(), Peer: peer, Reference: bigClaims.perMillion(), Goal: table.RatioAtMost(1.2)},
		table.Row{Name: "CPU of Postgres, batch 20", Unit: "s per 1M contacts", Ours: small.perMillion(), Peer: peer + ", 1 worker", Reference: smallClaims.perMillion(), Goal: table.RatioAtMost(1.0)},
		table.Row{Name: "write-ahead log, batch 500", Unit: "B per contact", Ours: big.walEach(), Peer: peer, Reference: bigClaims.walEach(), Goal: table.RatioAtMost(0.75)},
		table.Row{Name: "contacts, batch 500", Unit: "per second", Ours: big.rate(), Peer: peer, Reference: bigClaims.rate()},
		table.Row{Name: "an old snapshot held open: CPU, batch 20", Unit: "s per 1M contacts", Ours: held.perMillion(), Peer: "none open", Reference: free.perMillion(), Goal: table.RatioAtMost(1.2)},
		table.Row{Name: "an old snapshot held open: intent p50", Unit: "ms", Ours: held.intent(0.5), Peer: "none open", Reference: free.intent(0.5), Goal: table.RatioAtMost(1.2)},
		table.Row{Name: "one account, batch 10", Unit: "intents per second", Ours: fast.rate(), Goal: table.AtLeast(8000)},
	)
	t.Notes = append(t.Notes, fmt.Sprintf(
		"One account dials %d contacts; its ledger holds %d attempts of the last 30 days with response and outcome, and %d suppressions are listed. %d checkpoints fell into the %d rounds. The batch claim does less: no checks, no history, no receipts, nothing found by CallId.",
		rounds*(many+few)+3*rounds*pairs, scale.History, scale.Suppressed, checkpoints, rounds))
	return nil
}

// growth measures the same dialling in ledgers of other sizes.
func growth(ctx context.Context, l *lab.Lab, s *server, t *table.Table) error {
	var (
		sizes = lab.Either(l, []int{20_000, 200_000}, []int{100_000, 1_000_000, 10_000_000})
		many  = lab.Either(l, 5_000, 20_000)
		few   = lab.Either(l, 2_000, 8_000)
	)
	cpu, p50 := make([]table.Runs, len(sizes)), make([]table.Runs, len(sizes))
	worlds := make([]*world, len(sizes))
	for i, size := range sizes {
		l.Say("store: loading a ledger of %d attempts", size)
		w, err := newWorld(ctx, s.admin, fmt.Sprintf("size_%d", size), Scale{Accounts: 1, Contacts: sizes[0], History: size, Suppressed: sizes[0]})
		if err != nil {
			return err
		}
		defer w.close()
		worlds[i] = w
		// The first ones find an empty cache.
		if _, err := w.dial(ctx, w.sets[0], drain{contacts: few, batch: 500}); err != nil {
			return err
		}
	}
	for range l.Rounds() {
		for i, w := range worlds {
			cost, err := s.measure(ctx, many, func() (did, error) { return w.dial(ctx, w.sets[0], drain{contacts: many, batch: 500}) })
			if err != nil {
				return err
			}
			l.Say("store: %d attempts: %s", sizes[i], cost)
			cpu[i] = append(cpu[i], cost.perMillion())
			if cost, err = s.measure(ctx, few, func() (did, error) { return w.dial(ctx, w.sets[0], drain{contacts: few, batch: 20}) }); err != nil {
				return err
			}
			p50[i] = append(p50[i], cost.intents.at(0.5).Seconds()*1000)
		}
	}
	last := len(sizes) - 1
	before := fmt.Sprintf("at %d", sizes[0])
	t.Rows = append(t.Rows,
		table.Row{Name: fmt.Sprintf("%d attempts in the ledger: CPU, batch 500", sizes[last]), Unit: "s per 1M contacts", Ours: cpu[last], Peer: before, Reference: cpu[0], Goal: table.RatioAtMost(1.4)},
		table.Row{Name: fmt.Sprintf("%d attempts in the ledger: intent p50, batch 20", sizes[last]), Unit: "ms", Ours: p50[last], Peer: before, Reference: p50[0], Goal: table.RatioAtMost(1.3)},
	)
	curve := func(name string, of []table.Runs) chart.Line {
		line := chart.Line{Name: name}
		for i, size := range sizes {
			line.Points = append(line.Points, chart.Point{X: float64(size), Y: of[i].Median()})
		}
		return line
	}
	t.Charts = append(t.Charts,
		chart.Chart{File: "growth-cpu.svg", Title: "What a contact costs Postgres as the ledger grows", X: "attempts in the ledger", Y: "CPU s per 1M contacts, batch 500", LogX: true, Lines: []chart.Line{curve("ledger", cpu)}},
		chart.Chart{File: "growth-intent.svg", Title: "How long an intent takes as the ledger grows", X: "attempts in the ledger", Y: "ms, median, batch 20", LogX: true, Lines: []chart.Line{curve("ledger", p50)}},
	)
	return nil
}

// manyAccounts measures 20 accounts at their limit at once, and one alone: a batch of 20
// every 20 ms each.
func manyAccounts(ctx context.Context, l *lab.Lab, s *server, t *table.Table) error {
	const accounts, perSecond, batch = 20, 1000, 20
	const every = batch * time.Second / perSecond
	rounds, seconds := l.Rounds(), lab.Either(l, 3, 8)
	each := rounds * seconds * perSecond
	l.Say("store: loading %d accounts", accounts+1)
	w, err := newWorld(ctx, s.admin, "accounts", Scale{Accounts: accounts + 1, Contacts: (accounts + 1) * each, History: (accounts + 1) * each, Suppressed: lab.Either(l, 20_000, 1_000_000)})
	if err != nil {
		return err
	}
	defer w.close()
	var all, one costs
	for range rounds {
		n := seconds * perSecond
		how := drain{contacts: n, batch: batch, every: every}
		cost, err := s.measure(ctx, accounts*n, func() (did, error) { return w.dialAll(ctx, w.sets[:accounts], how) })
		if err != nil {
			return err
		}
		l.Say("store: %d accounts: %s", accounts, cost)
		all = append(all, cost)
		if cost, err = s.measure(ctx, n, func() (did, error) { return w.dial(ctx, w.sets[accounts], how) }); err != nil {
			return err
		}
		l.Say("store: one account at %d/s: %s", perSecond, cost)
		one = append(one, cost)
	}
	t.Rows = append(t.Rows,
		table.Row{Name: "20 accounts x 1000/s: CPU of Postgres", Unit: "cores", Ours: all.cores(), Goal: table.AtMost(1)},
		table.Row{Name: "20 accounts x 1000/s: kept up", Unit: "intents per second", Ours: all.rate(), Goal: table.AtLeast(0.97 * accounts * perSecond)},
		table.Row{Name: "one account at 1000/s: CPU of Postgres", Unit: "% of a core", Ours: one.percent(), Goal: table.AtMost(6)},
	)
	return nil
}

// dialAll dials several accounts at once.
func (w *world) dialAll(ctx context.Context, sets []*set, how drain) (did, error) {
	done, errs := make([]did, len(sets)), make([]error, len(sets))
	var all sync.WaitGroup
	for i, s := range sets {
		all.Go(func() { done[i], errs[i] = w.dial(ctx, s, how) })
	}
	all.Wait()
	var sum did
	for _, d := range done {
		sum.attempts += d.attempts
		sum.suppressed += d.suppressed
		sum.held += d.held
		sum.late += d.late
		sum.intents = append(sum.intents, d.intents...)
	}
	return sum, errors.Join(errs...)
}
