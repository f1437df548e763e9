package simulator

import (
	"hash/maphash"
	"sync"
	"time"
)

// validity is how far a time stamp may be off, and how long a nonce must not come back
// (help documents 48054 and 2593177).
const validity = 15 * time.Minute

// nonces remembers the nonces of the last 15 to 30 minutes as 64-bit hashes, in two
// generations: the older is thrown away as a whole, so memory is bounded and nothing
// is ever swept.
type nonces struct {
	seed maphash.Seed
	most int // a generation that is full ends early

	mu         sync.Mutex
	began      time.Time
	young, old map[uint64]struct{}
}

func newNonces(most int) *nonces {
	return &nonces{seed: maphash.MakeSeed(), most: most}
}

// fresh says whether this AccessKey id has not used the nonce, and remembers it.
func (n *nonces) fresh(accessKeyID, nonce string, now time.Time) bool {
	var h maphash.Hash
	h.SetSeed(n.seed)
	h.WriteString(accessKeyID)
	h.WriteByte(0)
	h.WriteString(nonce)
	sum := h.Sum64()

	n.mu.Lock()
	defer n.mu.Unlock()
	age := now.Sub(n.began)
	if n.young == nil || age >= validity || len(n.young) >= n.most {
		n.old = n.young
		if age >= 2*validity {
			n.old = nil
		}
		n.young, n.began = make(map[uint64]struct{}), now
	}
	_, inYoung := n.young[sum]
	_, inOld := n.old[sum]
	if inYoung || inOld {
		return false
	}
	n.young[sum] = struct{}{}
	return true
}
