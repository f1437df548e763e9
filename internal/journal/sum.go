package journal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"dialer/internal/campaign"
)

// Sum is a keyed checksum over the numbers of a batch's contacts, in the order of
// Attempts and Held. It shows whether contact 7 is the same person after a restore and
// another import, and shows nobody a number.
func Sum(key campaign.OutIDKey, phones ...campaign.Phone) string {
	h := hmac.New(sha256.New, key[:])
	for _, p := range phones {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(p))
		h.Write(b[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
