package torture

import (
	"testing"
)

func TestGoodHistory(t *testing.T) {
	h := goodHistory(t)
	r, err := Check(t.Context(), h.db.Pool(), written(t, h.seen), h.rules())
	h.must(err)
	if !r.OK() {
		t.Error("a good history is found bad")
	}
	h.must(r.Summary(t.Output()))
}
