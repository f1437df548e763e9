package campaign

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The defaults of a campaign file.
const (
	defaultZone      = "Asia/Shanghai"
	defaultPerMinute = 1
	defaultPerDay    = 2
	defaultPer30Days = 6
	mostAttempts     = 100
	mostCallsPerSec  = 100_000
)

func defaultWindows() Windows { return Windows{{9 * 60, 12 * 60}, {14 * 60, 20*60 + 30}} }

var (
	nameForm     = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N}_.-]*$`)
	callerIDForm = regexp.MustCompile(`^[0-9]{5,20}$`)
	idForm       = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.-]{0,127}$`)
)

// ParseCampaign reads a campaign file. Every problem of the file is in the error,
// one sentence each, with name and line. The Campaign it returns is complete:
// defaults are filled in. Whether the account exists and owns the caller IDs is for
// the caller to check.
func ParseCampaign(name string, data []byte) (*Campaign, error) {
	f, root, err := parseFile(name, data)
	if err != nil {
		return nil, err
	}
	c := &Campaign{
		Zone:        defaultZone,
		Windows:     defaultWindows(),
		MaxAttempts: 1,
		Caps:        Caps{PerMinute: defaultPerMinute, PerDay: defaultPerDay, Per30Days: defaultPer30Days},
		Lost:        LostHold,
	}
	const what = "the campaign"
	present := f.object(root, what, keys{
		"campaign":     f.text("campaign", &c.Name, checkName),
		"account":      f.text("account", &c.Account, checkName),
		"caller_ids":   func(n *yaml.Node) { f.callerIDs(n, &c.CallerIDs) },
		"columns":      func(n *yaml.Node) { f.columns(n, &c.Columns) },
		"call":         func(n *yaml.Node) { f.call(n, &c.Call) },
		"schedule":     func(n *yaml.Node) { c.Schedule = f.schedule(n) },
		"zone":         f.text("zone", &c.Zone, func(s string) error { _, err := loadZone(s); return err }),
		"windows":      func(n *yaml.Node) { f.windows(n, &c.Windows) },
		"pace":         f.number("pace", mostCallsPerSec, "calls started per second", func(v float64) { c.Pace = v }),
		"max_attempts": f.integer("max_attempts", 1, mostAttempts, "attempts", func(v int) { c.MaxAttempts = v }),
		"retry":        func(n *yaml.Node) { c.Retry = f.retry(n) },
		"caps":         func(n *yaml.Node) { f.caps(n, &c.Caps) },
		"lost":         func(n *yaml.Node) { f.lost(n, &c.Lost) },
		"sample":       f.boolean("sample", func(v bool) { c.Sample = v }),
	}, nil)
	f.require(root, present, what, "campaign", "account", "caller_ids", "call")
	if n := present["schedule"]; n != nil && c.Schedule != nil {
		if c.Schedule.Zone == "" {
			c.Schedule.Zone = c.Zone
		}
		f.failAll(n, c.Schedule.Validate())
	}
	if n := present["retry"]; n != nil {
		for _, o := range Outcomes {
			if len(c.Retry[o]) >= c.MaxAttempts {
				f.fail(n, "retry %s has %d delays, but with max_attempts: %d at most %d can be used; raise max_attempts or shorten the list",
					o, len(c.Retry[o]), c.MaxAttempts, c.MaxAttempts-1)
			}
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func checkName(s string) error {
	if len(s) > 64 || !nameForm.MatchString(s) {
		return errors.New("write a name of letters, digits, dots, dashes and underscores, at most 64 bytes")
	}
	return nil
}

func checkCallerID(s string) error {
	if !callerIDForm.MatchString(s) {
		return errors.New(`write the number as 5 to 20 digits in quotes, as "057100000000"`)
	}
	return nil
}

func (f *file) callerIDs(n *yaml.Node, to *[]string) {
	f.list(n, "caller_ids", 1000, func(item *yaml.Node) {
		var number string
		f.text("caller_ids", &number, checkCallerID)(item)
		if number != "" && slices.Contains(*to, number) {
			f.fail(item, "caller ID %s stands twice", number)
		} else if number != "" {
			*to = append(*to, number)
		}
	})
}

func (f *file) columns(n *yaml.Node, to *Columns) {
	f.object(n, "columns", keys{"phone": f.text("phone", &to.Phone, func(s string) error {
		if foldName(s) == "" {
			return errors.New("write the header of the column that holds the numbers")
		}
		return nil
	})}, nil)
}

func (f *file) windows(n *yaml.Node, to *Windows) {
	var ws Windows
	before := len(f.problems)
	f.list(n, "windows", 48, func(item *yaml.Node) {
		var w Window
		if item.Kind != yaml.ScalarNode {
			f.fail(item, "a window must be a text, as \"09:00-12:00\"")
		} else if err := w.UnmarshalText([]byte(item.Value)); err != nil {
			f.failAll(item, err)
		} else {
			ws = append(ws, w)
		}
	})
	if len(f.problems) == before {
		f.failAll(n, ws.overlap())
	}
	*to = ws
}

func (f *file) schedule(n *yaml.Node) *Schedule {
	s := &Schedule{}
	before := len(f.problems)
	present := f.object(n, "schedule", keys{
		"cron": f.text("cron", &s.Cron, nil),
		"zone": f.text("zone", &s.Zone, nil),
	}, nil)
	f.require(n, present, "schedule", "cron")
	if len(f.problems) > before {
		return nil // said once is enough
	}
	return s
}

func (f *file) retry(n *yaml.Node) RetryPolicy {
	pairs, _ := f.entries(n, "retry")
	p := RetryPolicy{}
	for i := 0; i < len(pairs); i += 2 {
		o := Outcome(pairs[i].Value)
		if err := retryable(o); err != nil {
			f.failAll(pairs[i], err)
			continue
		}
		f.list(resolve(pairs[i+1]), "retry "+string(o), mostAttempts, func(item *yaml.Node) {
			var d Duration
			switch err := d.UnmarshalText([]byte(item.Value)); {
			case item.Kind != yaml.ScalarNode:
				f.fail(item, "retry %s: write durations, as [5m, 2h]", o)
			case err != nil:
				f.fail(item, "retry %s: %v", o, err)
			case d < minRetryDelay || d > maxRetryDelay:
				f.fail(item, "retry %s: a delay must lie between %s and %s; found %s", o, minRetryDelay, maxRetryDelay, d)
			default:
				p[o] = append(p[o], d)
			}
		})
	}
	return p
}

func (f *file) caps(n *yaml.Node, to *Caps) {
	f.object(n, "caps", keys{
		"per_minute":  f.integer("per_minute", 1, 1000, "calls", func(v int) { to.PerMinute = v }),
		"per_day":     f.integer("per_day", 1, 1000, "calls", func(v int) { to.PerDay = v }),
		"per_30_days": f.integer("per_30_days", 1, 1000, "calls", func(v int) { to.Per30Days = v }),
	}, nil)
}

func (f *file) lost(n *yaml.Node, to *LostPolicy) {
	switch p := LostPolicy(n.Value); p {
	case LostHold, LostRedial:
		*to = p
	default:
		f.fail(n, "lost must be %q (wait for a person) or %q (call again, at the risk of a second ring); found %s", LostHold, LostRedial, shown(n))
	}
}

// notSettable are the parameters of SmartCall that no campaign chooses.
var notSettable = map[string]string{
	"called_number":          "it is each contact's number",
	"called_show_number":     "it is taken from caller_ids, in turn",
	"out_id":                 "it names the attempt and is made by the dialer",
	"dynamic_id":             "it names the attempt in callbacks and is made by the dialer",
	"speed":                  "the platform documents it as not supported",
	"background_volume":      "the platform documents it as not supported",
	"background_speed":       "the platform documents it as not supported",
	"noise_threshold":        "the platform does not document what it does",
	"owner_id":               "it is a relic of the platform",
	"resource_owner_id":      "it is a relic of the platform",
	"resource_owner_account": "it is a relic of the platform",
}

// call reads the parameters of SmartCall; the ranges are those of help
// document 114042.
func (f *file) call(n *yaml.Node, c *Call) {
	before := len(f.problems)
	present := f.object(n, "call", keys{
		"voice_code":             f.text("voice_code", &c.VoiceCode, nil),
		"voice_code_param":       func(n *yaml.Node) { c.VoiceCodeParam = f.param(n) },
		"record_flag":            f.boolean("record_flag", func(v bool) { c.RecordFlag = &v }),
		"volume":                 f.integer("volume", -4, 4, "steps", func(v int) { c.Volume = &v }),
		"asr_model_id":           f.text("asr_model_id", &c.AsrModelID, checkID),
		"asr_base_id":            f.text("asr_base_id", &c.AsrBaseID, checkID),
		"pause_time":             f.integer("pause_time", 300, 1200, "milliseconds", func(v int) { c.PauseTime = &v }),
		"mute_time":              f.integer("mute_time", 1000, 20000, "milliseconds", func(v int) { c.MuteTime = &v }),
		"action_code_break":      f.boolean("action_code_break", func(v bool) { c.ActionCodeBreak = &v }),
		"action_code_time_break": f.integer("action_code_time_break", 0, 60000, "milliseconds", func(v int) { c.ActionCodeTimeBreak = &v }),
		"early_media_asr":        f.boolean("early_media_asr", func(v bool) { c.EarlyMediaAsr = &v }),
		"session_timeout":        f.integer("session_timeout", 1, 3600, "seconds", func(v int) { c.SessionTimeout = &v }),
		"tts_style":              f.text("tts_style", &c.TtsStyle, checkID),
		"tts_volume":             f.integer("tts_volume", 0, 100, "steps", func(v int) { c.TtsVolume = &v }),
		"tts_speed":              f.integer("tts_speed", -200, 200, "steps", func(v int) { c.TtsSpeed = &v }),
		"tts_conf":               f.boolean("tts_conf", func(v bool) { c.TtsConf = &v }),
		"stream_asr":             f.integer("stream_asr", 0, 1, "(0 off, 1 on)", func(v int) { c.StreamAsr = &v }),
		"background_file_code":   f.text("background_file_code", &c.BackgroundFileCode, checkVoiceID),
		"enable_itn":             f.boolean("enable_itn", func(v bool) { c.EnableITN = &v }),
	}, notSettable)
	f.require(n, present, "call", "voice_code")
	if len(f.problems) == before {
		f.failAll(n, append(c.checkParam(), c.checkTogether()...)...)
	}
}

func (f *file) param(n *yaml.Node) map[string]string {
	pairs, _ := f.entries(n, "voice_code_param")
	param := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		var text string
		f.text("voice_code_param "+short(pairs[i].Value), &text, nil)(resolve(pairs[i+1]))
		param[pairs[i].Value] = text
	}
	return param
}

func checkID(s string) error {
	if !idForm.MatchString(s) {
		return errors.New("write an id of letters, digits, dots, dashes and underscores")
	}
	return nil
}

func checkVoiceID(s string) error {
	if !voiceIDForm.MatchString(s) || strings.Contains(s, "/") {
		return fmt.Errorf("write a voice id, as \"office.wav\"; found %q", short(s))
	}
	return nil
}
