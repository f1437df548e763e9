package dialer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

// keeper decides which accounts this node holds: it keeps their leases alive, takes
// accounts that are free, and hands accounts over to nodes that hold fewer. It costs the
// database one small statement per look, however many accounts there are.
type keeper struct {
	*Dialer
	holds sync.WaitGroup

	// Of the loop in keep alone.
	freeSince map[campaign.AccountID]time.Time // accounts that nobody holds, and when that was first seen
	gave      map[campaign.AccountID]time.Time // when this node handed an account over
	lastGave  time.Time

	mu        sync.Mutex
	held      map[campaign.AccountID]*hold
	obstacles map[campaign.AccountID]obstacle
}

// grant is a lease as this node got it.
type grant struct {
	campaign.Lease
	asked time.Time // when the statement that acquired it was begun
	got   time.Time // when its answer was here: the last holder had ended before
}

// hold is an account that this node holds or is about to give back.
type hold struct {
	grant
	end    context.CancelCauseFunc
	giving bool    // it is being handed over
	holder *holder // nil until it dials
}

// obstacle is why this node does not dial an account that it could have.
type obstacle struct {
	reason string // "" if trying again may help
	at     time.Time
	until  time.Time // it does not try before
}

// Times of the keeper, in leases. An account that moves stands still for a moment, so a
// node does not move them often, nor one that has just come, nor one that came back.
const (
	settledAfter = 2
	giveEvery    = 1
	giveAgain    = 10
	// refusedFor is how long others are told that this node refuses an account.
	refusedFor = 10 * time.Minute
)

// errHandedOver ends a holder whose account another node will take.
var errHandedOver = errors.New("the account is handed over")

func newKeeper(d *Dialer) *keeper {
	return &keeper{
		Dialer:    d,
		freeSince: make(map[campaign.AccountID]time.Time), gave: make(map[campaign.AccountID]time.Time),
		held: make(map[campaign.AccountID]*hold), obstacles: make(map[campaign.AccountID]obstacle),
	}
}

// keep works until ctx is done and every account is given back. It returns an error only
// if the database does not know this node any more.
func (k *keeper) keep(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var beat time.Time
	every(ctx, min(k.Poll/2, k.LeaseTTL/6), func() {
		alive := time.Since(beat) >= k.LeaseTTL/3
		if alive {
			beat = time.Now()
		}
		try, cancel := context.WithTimeout(ctx, k.LeaseTTL/2)
		defer cancel()
		err := k.look(ctx, try, alive)
		switch {
		case errors.Is(err, campaign.ErrNodeForgotten):
			stop(err)
		case err != nil && ctx.Err() == nil:
			k.Log.Warn("look at the accounts", "err", err)
			sleep(ctx, k.LeaseTTL/3) // each holder renews its lease by itself
		}
	})
	leave, cancel := context.WithTimeout(k.last, k.LeaseTTL)
	defer cancel()
	if err := k.DB.Leave(leave, k.node, time.Now()); err != nil {
		k.Log.Warn("tell the other nodes that this one leaves", "err", err)
	}
	k.holds.Wait()
	if err := context.Cause(ctx); errors.Is(err, campaign.ErrNodeForgotten) {
		return fmt.Errorf("%w: start the node again", err)
	}
	return nil
}

// look takes what is free and, if this node is to give a sign of life, does that before
// and looks at what it should hand over after.
func (k *keeper) look(ctx, try context.Context, alive bool) error {
	if alive {
		if err := k.beat(try); err != nil {
			return err
		}
	}
	free, err := k.DB.Free(try)
	if err != nil {
		return err
	}
	k.note(free)
	if !alive && !slices.ContainsFunc(free, k.wants) {
		return nil
	}
	if k.Account != "" {
		return k.take(ctx, try, slices.DeleteFunc(free, func(id campaign.AccountID) bool { return !k.wants(id) }))
	}
	fleet, err := k.DB.Fleet(try)
	if err != nil {
		return err
	}
	want := fleet.Take(k.node, k.waited)
	for _, id := range free {
		if k.refuses(id) {
			want = append(want, id) // nobody else may be there who takes it, and what was wrong may be mended
		}
	}
	if err := k.take(ctx, try, slices.DeleteFunc(want, func(id campaign.AccountID) bool { return !k.wants(id) })); err != nil {
		return err
	}
	if alive {
		k.give(fleet)
	}
	return nil
}

// beat tells that this node is alive, and renews the leases it holds.
func (k *keeper) beat(ctx context.Context) error {
	now := time.Now()
	b := postgres.Beat{Node: k.node, At: now, TTL: k.LeaseTTL, Spreads: k.Account == "", Refused: make(map[campaign.AccountID]string)}
	k.mu.Lock()
	for _, h := range k.held {
		b.Leases = append(b.Leases, h.Lease)
	}
	for id, r := range k.obstacles {
		if r.reason != "" && now.Sub(r.at) < refusedFor {
			b.Refused[id] = r.reason
		}
	}
	k.mu.Unlock()
	asked := time.Now()
	renewed, lost, err := k.DB.Beat(ctx, &b)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range b.Leases {
		h := k.held[l.Account]
		if h == nil || h.Term != l.Term {
			continue // given back meanwhile
		}
		switch {
		case slices.Contains(lost, l.Account):
			h.end(campaign.ErrLeaseLost)
		case slices.Contains(renewed, l.Account) && h.holder != nil:
			h.holder.trustFrom(asked)
		}
	}
	return nil
}

// note remembers since when accounts are free.
func (k *keeper) note(free []campaign.AccountID) {
	before := k.freeSince
	k.freeSince = make(map[campaign.AccountID]time.Time, len(free))
	for _, id := range free {
		since, known := before[id]
		if !known {
			since = time.Now()
		}
		k.freeSince[id] = since
	}
}

// waited tells whether an account has been free for so long that nobody seems to want it:
// it must not wait for fairness.
func (k *keeper) waited(id campaign.AccountID) bool {
	return time.Since(k.freeSince[id]) >= k.LeaseTTL/6
}

// wants tells whether this node could try to take a free account now.
func (k *keeper) wants(id campaign.AccountID) bool {
	k.Dialer.mu.Lock()
	_, known := k.accounts[id]
	k.Dialer.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	return known && k.held[id] == nil && !time.Now().Before(k.obstacles[id].until)
}

func (k *keeper) refuses(id campaign.AccountID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.obstacles[id].reason != ""
}

// take acquires accounts and begins to hold those that it gets.
func (k *keeper) take(ctx, try context.Context, want []campaign.AccountID) error {
	if len(want) == 0 {
		return nil
	}
	asked := time.Now()
	leases, err := k.DB.Acquire(try, want, k.node, k.LeaseTTL)
	if err != nil {
		return err
	}
	got := time.Now()
	for _, l := range leases {
		k.Dialer.mu.Lock()
		a := k.accounts[l.Account]
		k.Dialer.mu.Unlock()
		held, end := context.WithCancelCause(ctx)
		h := &hold{grant: grant{Lease: l, asked: asked, got: got}, end: end}
		k.mu.Lock()
		k.held[l.Account] = h
		k.mu.Unlock()
		k.holds.Go(func() {
			defer end(nil)
			k.hold(held, a, h)
		})
	}
	return nil
}

// hold dials an account until ctx is done or it cannot, and gives it back.
func (k *keeper) hold(ctx context.Context, a *account, h *hold) {
	spec, changed := k.settings(a)
	log := k.Log.With("account", spec.Name, "term", h.Term)
	rest := h.Rest
	dialling, err := k.newHolder(ctx, a, spec, &h.grant, log)
	if err == nil {
		k.mu.Lock()
		h.holder = dialling
		delete(k.obstacles, a.id)
		k.mu.Unlock()
		log.Info("account held")
		err = dialling.run(ctx, changed)
		rest = campaign.NewRest(dialling.guard.Taken())
	} else if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.held, a.id)
	}()
	news := k.refuse(a.id, err)
	switch {
	case errors.Is(err, campaign.ErrLeaseLost):
		log.Warn("account lost to another node")
		return
	case errors.Is(err, campaign.ErrServerChanged):
		log.Warn("account given up", "err", err)
	case errors.Is(err, errDistrusted), errors.Is(err, errUnwitnessed):
		if news {
			log.Error("NOT DIALLING", "err", err)
		}
	case errors.Is(context.Cause(ctx), errHandedOver):
		log.Info("account handed over: another node holds fewer")
	case err != nil && ctx.Err() == nil && news:
		log.Error("account given up", "err", err)
	}
	release, cancel := context.WithTimeout(k.last, k.LeaseTTL)
	defer cancel()
	if err := k.DB.Release(release, h.Lease, rest); err != nil {
		log.Warn("give the account back", "err", err)
	}
}

// refuse remembers that an account could not be dialled, and tells whether the reason is
// another one than last time.
func (k *keeper) refuse(id campaign.AccountID, err error) (news bool) {
	if err == nil || errors.Is(err, campaign.ErrLeaseLost) || errors.Is(err, errHandedOver) || errors.Is(err, context.Canceled) {
		return false
	}
	r := obstacle{at: time.Now()}
	switch {
	case postgres.IsTransient(err), errors.Is(err, campaign.ErrServerChanged):
		r.until = r.at.Add(k.LeaseTTL / 3)
	case errors.Is(err, errUnwitnessed):
		r.reason, r.until = err.Error(), r.at.Add(2*k.LeaseTTL) // others first
	default:
		r.reason, r.until = err.Error(), r.at.Add(k.LeaseTTL)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	news = r.reason == "" || k.obstacles[id].reason != r.reason
	k.obstacles[id] = r
	return news
}

// give hands an account over if another node holds fewer.
func (k *keeper) give(fleet *campaign.Fleet) {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.held {
		if h.giving {
			return // one at a time
		}
	}
	id := fleet.Give(k.node, func(a campaign.Held) bool {
		h := k.held[a.Account]
		return h != nil && h.holder != nil && now.Sub(h.got) >= settledAfter*k.LeaseTTL &&
			(k.gave[a.Account].IsZero() || now.Sub(k.gave[a.Account]) >= giveAgain*k.LeaseTTL) &&
			(!a.Busy || now.Sub(k.lastGave) >= giveEvery*k.LeaseTTL)
	})
	if id == 0 {
		return
	}
	k.gave[id], k.lastGave = now, now
	k.held[id].giving = true
	k.held[id].end(errHandedOver)
}
