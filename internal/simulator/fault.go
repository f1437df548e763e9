package simulator

import (
	"fmt"
	"maps"
	"slices"
)

// The faults by the names they have in the ledger.
const (
	faultThrottle  = "throttle"
	faultNever     = "never_answer"
	faultCut       = "cut"
	faultCutBefore = "cut_before"
	faultHTML      = "html"
	fault503       = "status_503"
	fault302       = "redirect_302"
	faultNoCallID  = "no_call_id"
	faultSystem    = "system_error"
	faultRingTwice = "ring_twice"
	faultBusiness  = "business"
)

// faultPlan is Faults made ready for one roll of the dice per request.
type faultPlan struct {
	parts []faultPart
	delay Range
}

// faultPart takes the part of [0, 1) up to upTo.
type faultPart struct {
	name, code string
	upTo       float64
}

func newFaultPlan(f Faults) (*faultPlan, error) {
	p := &faultPlan{delay: f.Delay}
	if err := f.Delay.check("Faults.Delay"); err != nil {
		return nil, err
	}
	var sum float64
	add := func(name, code string, share float64) error {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("simulator: fault %s %s: share %v is not between 0 and 1", name, code, share)
		}
		if share > 0 {
			sum += share
			p.parts = append(p.parts, faultPart{name, code, sum})
		}
		return nil
	}
	for _, fault := range []struct {
		name  string
		share float64
	}{
		{faultThrottle, f.Throttle}, {faultNever, f.NeverAnswer}, {faultCut, f.Cut}, {faultCutBefore, f.CutBefore},
		{faultHTML, f.HTML}, {fault503, f.Status503}, {fault302, f.Redirect302}, {faultNoCallID, f.OKWithoutCallID},
		{faultSystem, f.SystemError}, {faultRingTwice, f.RingTwice},
	} {
		if err := add(fault.name, "", fault.share); err != nil {
			return nil, err
		}
	}
	for _, code := range slices.Sorted(maps.Keys(f.Business)) {
		if code == "" || code == "OK" {
			return nil, fmt.Errorf("simulator: fault business: %q is not an error code", code)
		}
		if err := add(faultBusiness, code, f.Business[code]); err != nil {
			return nil, err
		}
	}
	if sum > 1+1e-9 {
		return nil, fmt.Errorf("simulator: the shares of all faults add up to %v: at most 1", sum)
	}
	if sum > 1-1e-9 {
		p.parts[len(p.parts)-1].upTo = 1 // shares that mean everything leave no gap by rounding
	}
	return p, nil
}

// pick returns the fault of a request; its name is empty for none.
func (p *faultPlan) pick(d dice) faultPart {
	if len(p.parts) == 0 {
		return faultPart{}
	}
	roll := d.roll(forFault)
	for _, part := range p.parts {
		if roll < part.upTo {
			return part
		}
	}
	return faultPart{}
}

// places says whether the call of a request with this fault is placed all the same.
func (f faultPart) places(d dice) bool {
	switch f.name {
	case "", faultNever, faultCut, faultNoCallID, faultRingTwice:
		return true
	case faultHTML, fault503, fault302, faultSystem:
		return d.chance(0.5, forPlacing)
	case faultBusiness:
		return mayHaveRung(f.code) && d.chance(0.5, forPlacing)
	}
	return false
}
