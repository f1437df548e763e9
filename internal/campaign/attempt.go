package campaign

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// AttemptID names one attempt for ever: its campaign, its contact and which try
// it is. Because it is made of these, the primary key of the attempts forbids the
// same try twice, and a contact's attempts lie side by side.
type AttemptID int64

const (
	tryBits     = 10
	contactBits = 31
	// MaxTries is how many attempts one contact can have, throttled ones included.
	MaxTries = 1<<tryBits - 1
	// MaxContacts is how many contacts one campaign can have.
	MaxContacts = 1<<contactBits - 1
	// MaxCampaigns is how many campaigns a database can have.
	MaxCampaigns = 1<<(63-contactBits-tryBits) - 1
)

// NewAttemptID names the try-th attempt (from 1) for contact n of a campaign. It
// panics on numbers out of range, which no stored contact has.
func NewAttemptID(c ID, n int32, try int) AttemptID {
	if c < 1 || int(c) > MaxCampaigns || n < 1 || try < 1 || try > MaxTries {
		panic(fmt.Sprintf("attempt of campaign %d, contact %d, try %d is out of range", c, n, try))
	}
	return AttemptID(int64(c)<<(contactBits+tryBits) | int64(n)<<tryBits | int64(try))
}

// Campaign returns the campaign the attempt belongs to.
func (id AttemptID) Campaign() ID { return ID(id >> (contactBits + tryBits)) }

// Contact returns the number of the contact within its campaign.
func (id AttemptID) Contact() int32 { return int32(id >> tryBits & MaxContacts) }

// Try returns which attempt for its contact this is, from 1.
func (id AttemptID) Try() int { return int(id & MaxTries) }

// AttemptState is how far an attempt has come. It is never stored: it is what the
// ledger's rows say (docs/state-machine.md).
type AttemptState string

const (
	Dialing   AttemptState = "dialing"   // the intent is written; the request may be under way
	Accepted  AttemptState = "accepted"  // the platform took the request; its receipt is awaited
	Throttled AttemptState = "throttled" // final: the platform said too fast; no call was made
	Refused   AttemptState = "refused"   // final: the platform said no before any call
	Unsent    AttemptState = "unsent"    // final: not one byte of the request was written
	Unknown   AttemptState = "unknown"   // the request may have left and nobody knows what came of it
	Ended     AttemptState = "ended"     // final: a receipt or a query told the outcome
	Lost      AttemptState = "lost"      // unknown for so long that only a person or a late receipt settles it
	Settled   AttemptState = "settled"   // final: a person said that no call was made
)

// OutIDKey is the key under which attempts are named to the platform. Every
// database has its own, made at random when it is created.
type OutIDKey [32]byte

// OutIDLen is the length of an OutId, the most the platform accepts.
const OutIDLen = 15

// outIDAlphabet is Crockford's base 32: no I, L, O or U, so that an OutId survives
// being read aloud.
const outIDAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const (
	leftBits   = 38
	rightBits  = 37
	proofBits  = leftBits + rightBits - 64 // zero bits that prove an OutId to be ours
	outIDRound = 6
)

// OutID names the attempt to the platform: a keyed permutation of the attempt's
// id and 11 zero bits, 75 bits in all, as 15 characters. Two attempts never share
// an OutId, nobody without the key can guess the OutId of another attempt, and
// AttemptID turns it back, so it needs no index. The function out_id of the
// database computes the same.
func (k OutIDKey) OutID(id AttemptID) string {
	l := uint64(id) >> (rightBits - proofBits)
	r := uint64(id) << proofBits & (1<<rightBits - 1)
	for i := range outIDRound {
		if i%2 == 0 {
			l ^= k.round(i, r) & (1<<leftBits - 1)
		} else {
			r ^= k.round(i, l) & (1<<rightBits - 1)
		}
	}
	var b [OutIDLen]byte
	for i := OutIDLen - 1; i >= 0; i-- {
		b[i] = outIDAlphabet[r&31]
		r = r>>5 | l&31<<(rightBits-5)
		l >>= 5
	}
	return string(b[:])
}

// AttemptID returns the attempt that an OutId names, and whether the OutId can be
// one of ours. That the attempt exists is for the ledger to say.
func (k OutIDKey) AttemptID(outID string) (AttemptID, bool) {
	if len(outID) != OutIDLen {
		return 0, false
	}
	var l, r uint64
	for i := range OutIDLen {
		d := strings.IndexByte(outIDAlphabet, outID[i])
		if d < 0 {
			return 0, false
		}
		l = l<<5&(1<<leftBits-1) | r>>(rightBits-5)
		r = r<<5&(1<<rightBits-1) | uint64(d)
	}
	for i := outIDRound - 1; i >= 0; i-- {
		if i%2 == 0 {
			l ^= k.round(i, r) & (1<<leftBits - 1)
		} else {
			r ^= k.round(i, l) & (1<<rightBits - 1)
		}
	}
	id := AttemptID(l<<(rightBits-proofBits) | r>>proofBits)
	if r&(1<<proofBits-1) != 0 || id <= 0 || id.Campaign() < 1 || id.Contact() < 1 || id.Try() < 1 {
		return 0, false
	}
	return id, true
}

func (k OutIDKey) round(i int, half uint64) uint64 {
	var b [len(k) + 1 + 8]byte
	copy(b[:], k[:])
	b[len(k)] = byte(i)
	binary.BigEndian.PutUint64(b[len(k)+1:], half)
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint64(sum[:])
}
