package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"go.uber.org/ratelimit"
	"golang.org/x/time/rate"

	"dialer/internal/limiter"
)

// The pacers there are.
const (
	Ours   = "pace and guard"
	XRate  = "x/time/rate"
	Uber   = "uber-go/ratelimit"
	Vegeta = "vegeta pacer"
)

// settle tells a pacer what became of a request.
type settle func(sent, answered time.Time, err error)

// pacer says when the next call may be made. next returns false when it is over.
type pacer interface {
	next(ctx context.Context) (settle, bool)
}

func forget(time.Time, time.Time, error) {}

func newPacer(ctx context.Context, o Options) (pacer, error) {
	switch o.Pacer {
	case "":
		return unpaced{}, nil
	case Ours:
		return newPaceAndGuard(ctx, o.Rate), nil
	case XRate:
		return bucket{rate.NewLimiter(rate.Limit(o.Rate), o.Burst)}, nil
	case Uber:
		return uber{ratelimit.New(o.Rate)}, nil
	case Vegeta:
		return newAttack(ctx, vegeta.ConstantPacer{Freq: o.Rate, Per: time.Second}), nil
	}
	return nil, fmt.Errorf("no pacer is called %q", o.Pacer)
}

type unpaced struct{}

func (unpaced) next(ctx context.Context) (settle, bool) { return forget, ctx.Err() == nil }

// paceAndGuard is what a node does, without its transactions.
type paceAndGuard struct {
	pace   *limiter.Pace
	guard  *limiter.Guard
	tokens chan struct{}
}

func newPaceAndGuard(ctx context.Context, limit int) *paceAndGuard {
	p := &paceAndGuard{pace: limiter.NewPace(float64(limit)), guard: limiter.NewGuard(limit), tokens: make(chan struct{})}
	go func() {
		defer close(p.tokens)
		for {
			n, err := p.pace.Take(ctx, 100)
			if err != nil {
				return
			}
			for range n {
				select {
				case p.tokens <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return p
}

func (p *paceAndGuard) next(ctx context.Context) (settle, bool) {
	if _, ok := <-p.tokens; !ok {
		return nil, false
	}
	slot, err := p.guard.Acquire(ctx)
	if err != nil {
		return nil, false
	}
	return func(sent, answered time.Time, err error) {
		switch {
		case err == nil, errors.Is(err, errThrottled):
			slot.Answered(sent, answered)
		default:
			slot.Unanswered(answered)
		}
		if errors.Is(err, errThrottled) {
			p.pace.Throttled()
		}
	}, true
}

// bucket is x/time/rate as people use it: every sender waits for its token.
type bucket struct{ limiter *rate.Limiter }

func (b bucket) next(ctx context.Context) (settle, bool) {
	// Wait gives up at once if the time will be over before the token comes.
	return forget, b.limiter.Wait(ctx) == nil
}

type uber struct{ limiter ratelimit.Limiter }

func (u uber) next(ctx context.Context) (settle, bool) {
	u.limiter.Take()
	return forget, ctx.Err() == nil
}

// attack is the loop of a vegeta attack: one goroutine asks the pacer, sleeps, and
// hands a tick to whichever worker is free.
type attack struct{ ticks chan struct{} }

func newAttack(ctx context.Context, pacer vegeta.Pacer) *attack {
	a := &attack{ticks: make(chan struct{})}
	go func() {
		defer close(a.ticks)
		began := time.Now()
		for hits := uint64(0); ctx.Err() == nil; hits++ {
			wait, stop := pacer.Pace(time.Since(began), hits)
			if stop {
				return
			}
			time.Sleep(wait)
			select {
			case a.ticks <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return a
}

func (a *attack) next(context.Context) (settle, bool) {
	_, ok := <-a.ticks
	return forget, ok
}
