package campaign

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What is written down of a guard never frees a slot too soon, nor much too late.
func TestRest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		left := rapid.SliceOf(rapid.Map(rapid.Int64Range(1, int64(12*time.Second)), func(n int64) time.Duration { return time.Duration(n) })).Draw(t, "left")
		got := NewRest(left).Left()
		slices.Sort(left)
		if len(got) != len(left) {
			t.Fatalf("%d requests of %d", len(got), len(left))
		}
		for i := range left {
			if got[i] < left[i] || got[i] >= left[i]+RestStep {
				t.Fatalf("%v is written down as %v", left[i], got[i])
			}
		}
	})
}
