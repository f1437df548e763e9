package limiter

import "time"

// slots are the slots of a guard that no request holds now, as a heap with the
// one that is free soonest on top. A slot is nothing but a moment: one second
// after the latest arrival its last request can have had, counted from the
// start of the guard and before any credit is taken off.
type slots []time.Duration

// never is the moment of a slot that no request has used yet: long past, and
// far enough from the smallest number that a credit can be taken off.
const never = -1 << 62 * time.Nanosecond

// add puts a slot back.
func (s *slots) add(moment time.Duration) {
	*s = append(*s, moment)
	heap := *s
	for i := len(heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if heap[parent] <= heap[i] {
			return
		}
		heap[parent], heap[i] = heap[i], heap[parent]
		i = parent
	}
}

// soonest takes out the slot with the earliest moment. There must be one.
func (s *slots) soonest() time.Duration {
	heap := *s
	top, last := heap[0], len(heap)-1
	heap[0] = heap[last]
	heap = heap[:last]
	*s = heap
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if right := child + 1; right < last && heap[right] < heap[child] {
			child = right
		}
		if heap[i] <= heap[child] {
			return top
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}
