package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// order is a SmartCall request that was understood.
type order struct {
	caller, callee string // as sent
	phone          string // callee without country code
	outID          string
	dynamicID      string
	sessionTimeout time.Duration // 0 = not given
	record         bool
	earlyMedia     bool
}

// smartCall throttles, checks and places a call, in the order in which gateway and
// service would.
func (s *Simulator) smartCall(env *envelope, who caller, arrival time.Time, e *Entry) (answer, *Entry) {
	e.OutID, e.Callee, e.Caller = env.all.get("OutId"), env.all.get("CalledNumber"), env.all.get("CalledShowNumber")
	luck := e.OutID
	if luck == "" {
		luck = who.nonce
	}
	d := newDice(s.config.Seed, luck)
	plan := s.faults.Load()
	a := s.decide(env, who.account, arrival, d, plan.pick(d), e)
	a.delay = d.within(plan.delay, forDelay)
	return a, e
}

func (s *Simulator) decide(env *envelope, acc *account, arrival time.Time, d dice, fault faultPart, e *Entry) answer {
	if !acc.calls.admit(arrival.Sub(s.began), fault.name == faultThrottle) {
		e.Verdict, e.Code = VerdictThrottled, throttled.code
		if fault.name == faultThrottle {
			e.Fault = faultThrottle
		}
		return throttled.answer(env.host)
	}
	o, no := readOrder(env.all, acc, d)
	if no != nil {
		e.Verdict, e.Code = VerdictRefused, no.code
		return no.answer(env.host)
	}
	e.Fault = fault.name
	switch {
	case fault.places(d):
		e.Verdict = VerdictAccepted
		e.CallID = s.place(o, acc, arrival, d, e)
		if fault.name == faultRingTwice {
			e.SecondID = s.place(o, acc, arrival, dice(mix(uint64(d))), e)
		}
	case fault.name == faultBusiness && !mayHaveRung(fault.code):
		e.Verdict = VerdictRefused
	default:
		e.Verdict = VerdictDropped
	}
	a, code := fault.answer(e.CallID, env.host, o, d)
	e.Code = code
	return a
}

// answer is what the sender gets to see, and the Code in it. callID is empty if no call
// was placed.
func (f faultPart) answer(callID, host string, o order, d dice) (a answer, code string) {
	var no *refusal
	switch f.name {
	case faultNever:
		return answer{silent: true}, ""
	case faultCut, faultCutBefore:
		return answer{cut: true}, ""
	case faultHTML:
		const page = "<html><head><title>Welcome</title></head><body>Please log in.</body></html>"
		return answer{status: http.StatusOK, html: true, body: []byte(page)}, ""
	case fault302:
		return answer{status: http.StatusFound, location: "/redirected"}, ""
	case faultNoCallID:
		return accepted(""), "OK"
	case fault503:
		no = gateway(503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server.")
	case faultSystem:
		no = business("isp.SYSTEM_ERROR", "系统错误", d)
	case faultBusiness:
		no = business(f.code, "被叫号码"+o.callee+"呼叫失败："+f.code, d)
	default:
		return accepted(callID), "OK"
	}
	return no.answer(host), no.code
}

// readOrder checks what the SmartCall page documents: required parameters, forms of
// numbers, ranges. What the page only advises is let through; PauseTime and MuteTime
// out of range are replaced by the platform, not refused.
func readOrder(ps params, a *account, d dice) (order, *refusal) {
	for _, name := range []string{"CalledShowNumber", "CalledNumber", "VoiceCode"} {
		if ps.get(name) == "" {
			return order{}, missing(name)
		}
	}
	o := order{
		caller: ps.get("CalledShowNumber"), callee: ps.get("CalledNumber"),
		outID: ps.get("OutId"), dynamicID: ps.get("DynamicId"),
		record: ps.get("RecordFlag") == "true", earlyMedia: ps.get("EarlyMediaAsr") == "true",
	}
	var ok bool
	if o.phone, ok = mainland(o.callee); !ok {
		return order{}, business("isv.MOBILE_NUMBER_ILLEGAL", "号码格式错误："+o.callee, d)
	}
	if !digits(o.caller) || (a.callerIDs != nil && !a.callerIDs[o.caller]) {
		return order{}, business("isv.DISPLAY_NUMBER_ILLEGAL", "号显不合法："+o.caller, d)
	}
	if len(o.outID) > 15 {
		return order{}, business("isv.PARAM_LENGTH_LIMIT", "参数超出长度限制：OutId", d)
	}
	if strings.ContainsAny(o.outID+o.dynamicID, "@=:\"${}^*¥") {
		return order{}, business("isv.INVALID_PARAMETERS", "参数异常：OutId, DynamicId", d)
	}
	if no := checkVoice(ps.get("VoiceCode"), ps.get("VoiceCodeParam"), d); no != nil {
		return order{}, no
	}
	for i := range ps {
		if rule, ok := rules[ps[i].name]; ok && ps[i].value != "" && !rule.allows(ps[i].value) {
			return order{}, business("isv.INVALID_PARAMETERS", "参数异常："+ps[i].name, d)
		}
	}
	if text := ps.get("SessionTimeout"); text != "" {
		seconds, _ := strconv.Atoi(text) // the rule above let it pass
		o.sessionTimeout = time.Duration(seconds) * time.Second
	}
	return o, nil
}

// checkVoice checks that every TTS variable $name$ of VoiceCode has a value.
func checkVoice(voiceCode, values string, d dice) *refusal {
	var given map[string]json.RawMessage
	if values != "" {
		if err := json.Unmarshal([]byte(values), &given); err != nil {
			return business("isv.INVALID_JSON_PARAM", "JSON参数不合法", d)
		}
		for _, value := range given {
			if text := string(value); strings.Contains(text, "http://") || strings.Contains(text, "https://") {
				return business("isv.PARAM_NOT_SUPPORT_URL", "变量不支持URL参数", d)
			}
		}
	}
	for part := range strings.SplitSeq(voiceCode, ",") {
		if len(part) < 3 || part[0] != '$' || part[len(part)-1] != '$' {
			continue
		}
		if _, ok := given[part[1:len(part)-1]]; !ok {
			return business("isv.TEMPLATE_MISSING_PARAMETERS", "文本转语音模板参数缺失", d)
		}
	}
	return nil
}

// rule is the documented range of a parameter: numbers from least to most, or words.
type rule struct {
	least, most int
	words       []string
}

func (r rule) allows(value string) bool {
	if r.words == nil {
		n, err := strconv.Atoi(value)
		return err == nil && n >= r.least && n <= r.most
	}
	return slices.Contains(r.words, value)
}

var (
	yesOrNo = []string{"true", "false"}
	rules   = map[string]rule{
		"RecordFlag":          {words: yesOrNo},
		"ActionCodeBreak":     {words: yesOrNo},
		"EarlyMediaAsr":       {words: yesOrNo},
		"TtsConf":             {words: yesOrNo},
		"EnableITN":           {words: yesOrNo},
		"AsrBaseId":           {words: []string{"customer_service_8k", "dialect_customer_service_8k"}},
		"Volume":              {least: -4, most: 4},
		"ActionCodeTimeBreak": {least: 0, most: 1 << 30},
		"PauseTime":           {least: -1 << 30, most: 1 << 30},
		"MuteTime":            {least: -1 << 30, most: 1 << 30},
		"SessionTimeout":      {least: 1, most: 3600},
		"TtsVolume":           {least: 0, most: 100},
		"TtsSpeed":            {least: -200, most: 200},
		"StreamAsr":           {least: 0, most: 1},
	}
)
