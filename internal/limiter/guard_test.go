package limiter

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What follows are the guard's promises one by one, at exact fake times.

func TestSlotIsFreeOneSecondAfterItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, start := NewGuard(1), time.Now()
		slot := mustAcquire(t, guard)
		pass(30 * time.Millisecond)
		answered := time.Now()
		pass(50 * time.Millisecond) // the answer is old when the sender gets to say so
		slot.Answered(start, answered)
		mustAcquire(t, guard)
		wantSince(t, "next slot", answered, second)
	})
}

func TestUnsentSlotIsFreeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, start := NewGuard(1), time.Now()
		mustAcquire(t, guard).Unsent()
		mustAcquire(t, guard)
		wantSince(t, "slot after an unsent one", start, 0)
	})
}

// It is not freer than it was: the request before it still counts.
func TestUnsentSlotRemembersTheRequestBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := NewGuard(2)
		learn(t, guard, 25*time.Millisecond)
		other := mustAcquire(t, guard)
		answered := answer(t, guard, 25*time.Millisecond)
		unsent := mustAcquire(t, guard)
		wantSince(t, "slot with a credit", answered, second-19*time.Millisecond)
		now := time.Now()
		other.Answered(now.Add(-time.Millisecond), now) // and with that the credit is gone
		unsent.Unsent()
		mustAcquire(t, guard)
		wantSince(t, "slot without a credit", answered, second)
	})
}

func TestASlotThatComesFreeSoonerIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, start := NewGuard(2), time.Now()
		mustAcquire(t, guard).Unanswered(start.Add(time.Minute))
		slot := mustAcquire(t, guard)
		served := make(chan time.Duration)
		go func() { mustAcquire(t, guard); served <- time.Since(start) }()
		synctest.Wait() // it waits for the slot of the unanswered request
		slot.Answered(start, start)
		if got := <-served; got != second {
			t.Errorf("served after %v, want %v", got, second)
		}
	})
}

func TestNobodyOvertakesWhenTheTimerIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, start := NewGuard(1), time.Now()
		mustAcquire(t, guard).Answered(start, start)
		served := make(chan string, 2)
		go func() {
			slot := mustAcquire(t, guard)
			served <- "first" // before its slot is free for the second
			slot.Unsent()
		}()
		synctest.Wait()
		guard.timer.Stop()
		pass(2 * second)
		mustAcquire(t, guard)
		served <- "second"
		if got := <-served; got != "first" {
			t.Errorf("the %s of two was served first", got)
		}
	})
}

func TestUnansweredSlotIsFreeOneSecondAfterItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, trip := NewGuard(1), 25*time.Millisecond
		learn(t, guard, trip)
		slot := mustAcquire(t, guard)
		deadline := time.Now().Add(3 * time.Second)
		pass(time.Second) // the connection broke early
		slot.Unanswered(deadline)
		mustAcquire(t, guard)
		wantSince(t, "next slot", deadline, second)
	})
}

func TestUnansweredSlotOfAStoppedProcessCountsFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := NewGuard(1)
		learn(t, guard, 25*time.Millisecond)
		slot := mustAcquire(t, guard)
		deadline := time.Now().Add(time.Second)
		pass(10 * time.Second)
		gaveUp := time.Now()
		slot.Unanswered(deadline)
		mustAcquire(t, guard)
		wantSince(t, "next slot", gaveUp, second)
	})
}

func TestOnlyTheFirstSettlingCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, start := NewGuard(1), time.Now()
		slot := mustAcquire(t, guard)
		slot.Answered(start, start)
		slot.Unsent()
		slot.Unanswered(start.Add(time.Hour))
		slot.Answered(start, start)
		mustAcquire(t, guard)
		wantSince(t, "second slot", start, second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := guard.Acquire(ctx); err == nil {
			t.Error("a slot settled four times was granted twice")
		}

		var none Slot
		none.Unsent()
		none.Answered(start, start)
		none.Unanswered(start)
	})
}

// A caller that mixes up its times must not break the law.
func TestWrongTimesFreeNoSlotTooSoon(t *testing.T) {
	for name, settle := range map[string]func(s Slot, now time.Time){
		"zero times":          func(s Slot, _ time.Time) { s.Answered(time.Time{}, time.Time{}) },
		"answered before":     func(s Slot, now time.Time) { s.Answered(now, now.Add(-time.Minute)) },
		"zero deadline":       func(s Slot, _ time.Time) { s.Unanswered(time.Time{}) },
		"answered in a while": func(s Slot, now time.Time) { s.Answered(now, now.Add(time.Minute)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				guard := NewGuard(1)
				pass(time.Minute)
				learn(t, guard, 25*time.Millisecond)
				granted := time.Now()
				settle(mustAcquire(t, guard), granted)
				mustAcquire(t, guard)
				if waited := time.Since(granted); waited < time.Second || waited > second+time.Second {
					t.Errorf("next slot after %v, want one second and a little", waited)
				}
			})
		})
	}
}

func TestThoseWhoWaitAreServedInOrderAndOneForEachSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, senders = 500, 2000
		guard, start := NewGuard(limit), time.Now()
		held := make([]Slot, limit)
		for i := range held {
			held[i] = mustAcquire(t, guard)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		served := make(chan int, senders)
		for i := range senders {
			go func() {
				if _, err := guard.Acquire(ctx); err == nil {
					served <- i
				}
			}()
			synctest.Wait() // it waits now
		}
		// Answers come a millisecond apart, that of the last slot first.
		for _, slot := range slices.Backward(held) {
			slot.Answered(start, time.Now())
			pass(time.Millisecond)
		}
		pass(time.Until(start.Add(second)))
		for i := range limit {
			synctest.Wait()
			if n := len(served); n != 1 {
				t.Fatalf("%d senders went on when slot %d came free, want 1", n, i)
			}
			if got := <-served; got != i {
				t.Fatalf("sender %d was served as number %d", got, i)
			}
			pass(time.Millisecond)
		}
	})
}

func TestGivingUpLosesNoSlotAndNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, senders = 10, 100
		guard, start := NewGuard(limit), time.Now()
		for range limit {
			mustAcquire(t, guard).Answered(start, time.Now())
		}
		// Of a hundred who wait, all but the last ten give up, some of them
		// in the very moment in which a slot comes free.
		stayed := make(chan time.Duration, senders)
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if i < senders-limit {
					ctx, cancel = context.WithTimeout(ctx, second*time.Duration(i%3)/2)
				}
				defer cancel()
				slot, err := guard.Acquire(ctx)
				switch {
				case i >= senders-limit:
					stayed <- time.Since(start)
				case err == nil:
					slot.Unsent()
				case !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("error %v, want one that wraps the context's", err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		for range limit {
			if got := <-stayed; got != second {
				t.Errorf("one that stayed was served after %v, want %v", got, second)
			}
		}
	})
}

func TestAcquireWithAContextThatIsOver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	guard := NewGuard(1)
	if _, err := guard.Acquire(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want one that wraps context.Canceled", err)
	}
	mustAcquire(t, guard) // the slot is still there
}

func TestLoweredLimitWaitsForSlotsToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, start := NewGuard(4), time.Now()
		for i := range 4 { // answers at 0, 100, 200 and 300 ms
			mustAcquire(t, guard).Answered(start, time.Now())
			if i < 3 {
				pass(100 * time.Millisecond)
			}
		}
		guard.SetLimit(2)
		// Two slots end when their seconds are over; the third is the first of the new limit.
		mustAcquire(t, guard)
		wantSince(t, "first slot under the lowered limit", start, second+200*time.Millisecond)
		mustAcquire(t, guard)
		wantSince(t, "second slot under the lowered limit", start, second+300*time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := guard.Acquire(ctx); err == nil {
			t.Error("a third request under a limit of two")
		}
	})
}

func TestRaisedLimitServesThoseWhoWait(t *testing.T) {
	for _, limit := range []int{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			guard, start := NewGuard(limit), time.Now()
			served := make(chan struct{})
			go func() { mustAcquire(t, guard); close(served) }()
			pass(time.Minute)
			guard.SetLimit(1)
			<-served
			wantSince(t, "slot", start, time.Minute)
		})
	}
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, start := NewGuard(3), time.Now()
		guard.Hold(3 * time.Second)
		guard.Hold(time.Second) // does not shorten the other
		guard.SetLimit(5)
		for range 5 {
			mustAcquire(t, guard).Answered(time.Now(), time.Now())
			wantSince(t, "slot after a hold", start, 3*time.Second)
		}
		// Holding somebody who waits already.
		next := make(chan time.Duration)
		go func() { mustAcquire(t, guard); next <- time.Since(start) }()
		pass(500 * time.Millisecond)
		guard.Hold(time.Minute)
		if got, want := <-next, time.Minute+3500*time.Millisecond; got != want {
			t.Errorf("the one who waited was served after %v, want %v", got, want)
		}
	})
}

func TestCreditComesAndGoes(t *testing.T) {
	const trip = 25 * time.Millisecond
	const credit = 19 * time.Millisecond // 0.8 of it less a millisecond
	synctest.Test(t, func(t *testing.T) {
		guard := NewGuard(1)
		after := func(trip, want time.Duration) {
			t.Helper()
			answered := answer(t, guard, trip)
			mustAcquire(t, guard).Unsent()
			if got := time.Since(answered); got != want {
				t.Fatalf("slot free %v after the answer of a round trip of %v, want %v", got, trip, want)
			}
		}
		for range settleAnswers - 1 {
			after(trip, second)
		}
		after(trip, second-credit)
		after(10*trip, second-credit)
		after(credit, second-credit*8/10+creditMargin) // quicker than ever, but as quick as was thought possible
		after(2*time.Millisecond, second)              // quicker than that: all is void
		for range settleAnswers - 2 {
			after(trip, second)
		}
		after(trip, second-600*time.Microsecond) // and the least is remembered
		after(100*time.Microsecond, second)
		for range settleAnswers {
			after(trip, second) // a near network gets no credit
		}
	})
}

func TestNoCreditInTheFirstSecond(t *testing.T) {
	trip := newRoundTrip()
	for i := range 100 * settleAnswers {
		if trip.saw(10*time.Millisecond, time.Duration(i)*10*time.Microsecond); trip.credit != 0 && i < 100*settleAnswers-1 {
			t.Fatalf("credit %v after %d µs", trip.credit, i*10)
		}
	}
	trip.saw(10*time.Millisecond, time.Second)
	if trip.credit != 7*time.Millisecond {
		t.Errorf("credit %v after a second, want 7ms", trip.credit)
	}
}

// A sender that looks at its clock before it waits for a slot would make the
// network look slow, and slow earns credit.
func TestWaitingForASlotIsNoRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := NewGuard(1)
		guard.Hold(second) // so that the first one waits, too
		for range settleAnswers {
			sent := time.Now()
			slot := mustAcquire(t, guard)
			pass(25 * time.Millisecond)
			slot.Answered(sent, time.Now())
		}
		if want := 19 * time.Millisecond; guard.trip.credit != want {
			t.Errorf("credit %v, want %v", guard.trip.credit, want)
		}
	})
}

// A slot whose second is running when the network turns out quicker waits longer.
func TestCreditLostCountsForSlotsAlreadySettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := NewGuard(2)
		learn(t, guard, 25*time.Millisecond)
		first, other := mustAcquire(t, guard), mustAcquire(t, guard)
		sent := time.Now()
		pass(25 * time.Millisecond)
		answered := time.Now()
		first.Answered(sent, answered)
		pass(time.Millisecond)
		other.Unsent()
		answer(t, guard, time.Millisecond)
		mustAcquire(t, guard)
		wantSince(t, "slot", answered, second)
	})
}

// learn lets a guard see enough round trips to give their credit.
func learn(t *testing.T, guard *Guard, trip time.Duration) {
	t.Helper()
	for guard.trip.credit == 0 {
		answer(t, guard, trip)
	}
}

// answer sends one request and returns when its answer came.
func answer(t *testing.T, guard *Guard, trip time.Duration) time.Time {
	t.Helper()
	slot := mustAcquire(t, guard)
	sent := time.Now()
	pass(trip)
	answered := time.Now()
	slot.Answered(sent, answered)
	return answered
}

func mustAcquire(t *testing.T, guard *Guard) Slot {
	t.Helper()
	slot, err := guard.Acquire(t.Context())
	if err != nil {
		t.Errorf("acquire: %v", err)
	}
	return slot
}

func wantSince(t *testing.T, what string, from time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(from); got != want {
		t.Errorf("%s after %v, want %v", what, got, want)
	}
}
