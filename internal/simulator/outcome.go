package simulator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// fate is what a call comes to: the codes its report carries (help documents 55085 and
// 112804, page "smart status code").
type fate struct {
	status, smart string
	early         string // only sent when EarlyMediaAsr was asked for
	rings         bool   // the phone rings; otherwise an announcement plays
	answered      bool
}

// kind is an outcome by name, as weighed in Config.Outcomes.
type kind struct {
	word  string // the dialer's closed list has this word for it; goes into the ledger
	fates []fate // one of them by the dice
}

var kinds = map[string]kind{
	"answered": {"answered", []fate{
		{status: "200000", smart: "ANSWERED", rings: true, answered: true},
		{status: "200001", smart: "ANSWERED", rings: true, answered: true},
	}},
	"busy": {"busy", []fate{
		{status: "200002", smart: "USER_BUSY", early: "200002"},
		{status: "200005", smart: "USER_BUSY", early: "200002"},
	}},
	"no_answer": {"no_answer", []fate{
		{status: "200003", smart: "NO_ANSWER", early: "200003", rings: true},
		{status: "408", smart: "NO_ANSWER", rings: true},
		{status: "487", smart: "NO_ANSWER", rings: true},
	}},
	"powered_off": {"powered_off", []fate{
		{status: "200010", smart: "POWERED_OFF", early: "200010"},
		{status: "200005", smart: "POWERED_OFF", early: "200010"},
	}},
	"unreachable": {"unreachable", []fate{
		{status: "200007", smart: "NO_USER_RESPONDING", early: "200007"},
		{status: "200005", smart: "UNAVAILABLE", early: "200007"},
		{status: "482", smart: "UNAVAILABLE"},
	}},
	"rejected":          {"rejected", []fate{{status: "200005", smart: "CALL_REJECTED", rings: true}}},
	"blocked":           {"blocked", []fate{{status: "200105", smart: "INCOMING_CALL_BARRED"}, {status: "200005", smart: "OPERATOR_BLOCK"}}},
	"blocked_time":      {"blocked", []fate{{status: "200118", smart: "OPERATOR_BLOCK"}}},
	"blocked_frequency": {"blocked", []fate{{status: "200119", smart: "OPERATOR_BLOCK"}}},
	"suspended": {"suspended", []fate{
		{status: "200011", smart: "SUSPEND", early: "200011"},
		{status: "200005", smart: "SUSPEND", early: "200011"},
	}},
	"invalid_number": {"invalid_number", []fate{{status: "200004", smart: "INVALID_NUMBER", early: "200004"}}},
	"line_fault": {"line_fault", []fate{
		{status: "500", smart: "NETWORK_BUSY"}, {status: "400", smart: "NETWORK_BUSY"}, {status: "9996", smart: "CANCEL"},
	}},
	"over_capacity":     {"line_fault", []fate{{status: "200121", smart: "NETWORK_BUSY"}}},
	"config_error":      {"config_error", []fate{{status: "200006", smart: "OTHER"}}},
	"caller_restricted": {"config_error", []fate{{status: "200117", smart: "OTHER"}}},
	"unknown":           {"unknown", []fate{{status: "200130", smart: "OTHER", early: "200130"}}},
}

// realistic is a guess at an ordinary evening; no source gives shares.
var realistic = map[string]float64{
	"answered": 45, "no_answer": 22, "busy": 8, "powered_off": 8, "unreachable": 5, "rejected": 5,
	"suspended": 2, "invalid_number": 2, "blocked": 2, "line_fault": 1,
}

// OutcomeNames lists the names Config.Outcomes may weigh, sorted.
func OutcomeNames() []string { return slices.Sorted(maps.Keys(kinds)) }

// mix of outcomes: each takes the part of [0, 1) up to its upTo.
type outcomeMix []struct {
	kind kind
	upTo float64
}

func newOutcomeMix(weights map[string]float64) (outcomeMix, error) {
	if weights == nil {
		weights = realistic
	}
	var total float64
	names := slices.Sorted(maps.Keys(weights)) // the order is part of what a seed means
	for _, name := range names {
		if _, ok := kinds[name]; !ok {
			return nil, fmt.Errorf("simulator: outcome %q is not known: use %s", name, strings.Join(OutcomeNames(), ", "))
		}
		if !(weights[name] >= 0) {
			return nil, fmt.Errorf("simulator: outcome %s: share %v is negative", name, weights[name])
		}
		total += weights[name]
	}
	if !(total > 0) {
		return nil, errors.New("simulator: no outcome has a share above 0")
	}
	m := make(outcomeMix, len(names))
	var sum float64
	for i, name := range names {
		sum += weights[name]
		m[i].kind, m[i].upTo = kinds[name], sum/total
	}
	return m, nil
}

func (m outcomeMix) pick(d dice) (word string, f fate) {
	roll := d.roll(forOutcome)
	chosen := m[len(m)-1].kind
	for _, part := range m {
		if roll < part.upTo {
			chosen = part.kind
			break
		}
	}
	return chosen.word, chosen.fates[int(d.roll(forVariant)*float64(len(chosen.fates)))]
}
