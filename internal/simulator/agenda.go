package simulator

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// agenda does things at their time, one after the other, in one goroutine. Tens of
// thousands of calls can be under way at once; each is an entry here and no timer.
type agenda struct {
	mu    sync.Mutex
	queue appointments
	made  uint64
	wake  chan struct{}
}

type appointment struct {
	at   time.Time
	made uint64 // of two at the same time the one made first goes first
	do   func()
}

func newAgenda() *agenda { return &agenda{wake: make(chan struct{}, 1)} }

// at has do called at the given time, or at once if that is past. do must not block.
func (a *agenda) at(t time.Time, do func()) {
	a.mu.Lock()
	a.made++
	heap.Push(&a.queue, appointment{t, a.made, do})
	first := a.queue[0].made == a.made
	a.mu.Unlock()
	if first {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

func (a *agenda) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		for ctx.Err() == nil {
			do, wait := a.next()
			if do == nil {
				if wait > 0 {
					timer.Reset(wait)
				}
				break
			}
			do()
		}
	}
}

// next takes what is due off the queue, or says how long to wait; 0 = nothing planned.
func (a *agenda) next() (do func(), wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return nil, 0
	}
	if wait := time.Until(a.queue[0].at); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&a.queue).(appointment).do, 0
}

// appointments is a heap by time.
type appointments []appointment

func (q appointments) Len() int { return len(q) }
func (q appointments) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].made < q[j].made
}
func (q appointments) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *appointments) Push(x any)   { *q = append(*q, x.(appointment)) }
func (q *appointments) Pop() any {
	old := *q
	last := len(old) - 1
	x := old[last]
	old[last] = appointment{}
	*q = old[:last]
	return x
}
