package campaign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Call holds the parameters of SmartCall that a campaign may choose (help document
// 114042). A nil pointer or an empty string is not sent, so that the platform's own
// default holds.
type Call struct {
	// VoiceCode is what is played first: voice ids ("open.wav"), $variables$ that are
	// spoken, and https addresses, separated by commas.
	VoiceCode string `yaml:"voice_code" json:"voice_code"`
	// VoiceCodeParam gives the text of each variable of VoiceCode; {column} stands for
	// the contact's value in that column.
	VoiceCodeParam map[string]string `yaml:"voice_code_param" json:"voice_code_param,omitempty"`
	RecordFlag     *bool             `yaml:"record_flag" json:"record_flag,omitempty"`
	Volume         *int              `yaml:"volume" json:"volume,omitempty"` // -4..4
	AsrModelID     string            `yaml:"asr_model_id" json:"asr_model_id,omitempty"`
	AsrBaseID      string            `yaml:"asr_base_id" json:"asr_base_id,omitempty"`
	PauseTime      *int              `yaml:"pause_time" json:"pause_time,omitempty"` // ms, 300..1200
	MuteTime       *int              `yaml:"mute_time" json:"mute_time,omitempty"`   // ms, 1000..20000
	// ActionCodeBreak says whether the callee may interrupt the audio.
	ActionCodeBreak *bool `yaml:"action_code_break" json:"action_code_break,omitempty"`
	// ActionCodeTimeBreak is how long the callee speaks to interrupt it; ms, 0 is off.
	ActionCodeTimeBreak *int  `yaml:"action_code_time_break" json:"action_code_time_break,omitempty"`
	EarlyMediaAsr       *bool `yaml:"early_media_asr" json:"early_media_asr,omitempty"`
	SessionTimeout      *int  `yaml:"session_timeout" json:"session_timeout,omitempty"` // s, 1..3600
	// TtsStyle, TtsVolume and TtsSpeed count only when TtsConf is true.
	TtsStyle           string `yaml:"tts_style" json:"tts_style,omitempty"`
	TtsVolume          *int   `yaml:"tts_volume" json:"tts_volume,omitempty"` // 0..100
	TtsSpeed           *int   `yaml:"tts_speed" json:"tts_speed,omitempty"`   // -200..200
	TtsConf            *bool  `yaml:"tts_conf" json:"tts_conf,omitempty"`
	StreamAsr          *int   `yaml:"stream_asr" json:"stream_asr,omitempty"` // 0 or 1
	BackgroundFileCode string `yaml:"background_file_code" json:"background_file_code,omitempty"`
	EnableITN          *bool  `yaml:"enable_itn" json:"enable_itn,omitempty"`
}

const (
	// forbiddenInText are the characters that SmartCall does not take in spoken text
	// (help document 114042), with the full-width twin of the last.
	forbiddenInText = "@=:\"${}^*¥￥"
	// maxSpokenText bounds VoiceCodeParam as sent: it travels in the URL, where the
	// platform's own limit is not documented.
	maxSpokenText = 4096
)

var (
	variableForm    = regexp.MustCompile(`^\$([\p{L}_][\p{L}\p{N}_]*)\$$`)
	voiceIDForm     = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N}._-]*\.wav$`)
	placeholderForm = regexp.MustCompile(`\{[^{}]*\}`)
	hostForm        = regexp.MustCompile(`^(?i:[a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*$`)
)

// Placeholders returns the names of the columns that the call needs, sorted, each
// once, folded as the columns of a contact file are.
func (c *Call) Placeholders() []string {
	names := map[string]bool{}
	for _, text := range c.VoiceCodeParam {
		for _, p := range placeholderForm.FindAllString(text, -1) {
			names[foldName(p[1:len(p)-1])] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// RenderParam fills the contact's values into VoiceCodeParam and returns it as JSON
// with sorted keys, "" if the call has no variables. A missing, empty or unspeakable
// value is an error that names the column and never the value. It is safe for
// concurrent use.
func (c *Call) RenderParam(vars map[string]string) (string, error) {
	if len(c.VoiceCodeParam) == 0 {
		return "", nil
	}
	out := make(map[string]string, len(c.VoiceCodeParam))
	for name, text := range c.VoiceCodeParam {
		filled, err := fill(text, vars)
		if err != nil {
			return "", err
		}
		out[name] = filled
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // the text is spoken, not shown in a page
	if err := enc.Encode(out); err != nil {
		return "", fmt.Errorf("render voice_code_param: %w", err)
	}
	if b.Len() > maxSpokenText {
		return "", fmt.Errorf("voice_code_param grows to %d bytes, more than %d; shorten the text", b.Len(), maxSpokenText)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// fill replaces the placeholders of a text. It finds what placeholderForm does, by hand:
// it runs for every call.
func fill(text string, vars map[string]string) (string, error) {
	var b strings.Builder
	for {
		begin := strings.IndexByte(text, '{')
		if begin < 0 {
			b.WriteString(text)
			return b.String(), nil
		}
		end := strings.IndexAny(text[begin+1:], "{}") + begin + 1
		if end == begin || text[end] == '{' {
			end = max(end, begin+1) // no placeholder: the next may begin here
			b.WriteString(text[:end])
			text = text[end:]
			continue
		}
		name := text[begin+1 : end]
		value, folded := vars[name]
		if !folded {
			name = foldName(name)
			value = vars[name]
		}
		value = strings.TrimSpace(value)
		if err := speakable(value); err != nil {
			return "", fmt.Errorf("column %q %w", name, err)
		}
		b.WriteString(text[:begin])
		b.WriteString(value)
		text = text[end+1:]
	}
}

var (
	errEmptyValue      = errors.New("is empty")
	errUndecodable     = errors.New("holds a character that could not be decoded")
	errControlInText   = errors.New("holds a control character or a line break")
	errForbiddenInText = errors.New("holds one of the characters @ = : \" $ { } ^ * ¥, which the platform does not speak")
)

// speakable says why a value cannot be spoken, as the end of a sentence.
func speakable(value string) error {
	switch {
	case strings.TrimSpace(value) == "":
		return errEmptyValue
	case !utf8.ValidString(value) || strings.ContainsRune(value, utf8.RuneError):
		return errUndecodable
	case strings.ContainsFunc(value, unicode.IsControl):
		return errControlInText
	case strings.ContainsAny(value, forbiddenInText):
		return errForbiddenInText
	}
	return nil
}

// variables returns the variables named in a voice code, and an error for each part
// that is none of the three kinds.
func variables(voiceCode string) (names []string, errs []error) {
	if strings.TrimSpace(voiceCode) == "" {
		return nil, []error{errors.New(`voice_code is empty; write what is played first, as "open.wav,$name$"`)}
	}
	if strings.ContainsAny(voiceCode, "，、") {
		return nil, []error{errors.New("voice_code holds a full-width comma; separate its parts by a plain comma")}
	}
	for part := range strings.SplitSeq(voiceCode, ",") {
		switch m := variableForm.FindStringSubmatch(part); {
		case m != nil:
			names = append(names, m[1])
		case part != strings.TrimSpace(part):
			errs = append(errs, errors.New("voice_code holds spaces around its commas; remove them"))
		case strings.Contains(part, "://"):
			if err := checkVoiceURL(part); err != nil {
				errs = append(errs, err)
			}
		case !voiceIDForm.MatchString(part):
			errs = append(errs, fmt.Errorf("voice_code part %q is no voice id (open.wav), no variable ($name$) and no https address", short(part)))
		}
	}
	return names, errs
}

// checkVoiceURL lets through only addresses that the platform can fetch without
// reaching into anybody's network. We never fetch them.
func checkVoiceURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("voice_code holds an address that cannot be read")
	}
	host := u.Hostname()
	switch {
	case u.Scheme != "https":
		return errors.New("voice_code holds an address that is not https")
	case u.User != nil:
		return errors.New("voice_code holds an address with a user name; remove it")
	case u.Port() != "" && u.Port() != "443":
		return errors.New("voice_code holds an address with a port; only 443 is allowed")
	case !hostForm.MatchString(host): // nor does an address of digits, in any notation
		return errors.New("voice_code holds an address without a host name on the internet, as cdn.example.com")
	case strings.ContainsAny(s, "${}"):
		return errors.New("voice_code holds an address with a variable; what is called from must not leave in an address")
	}
	return nil
}

// checkParam says what is wrong with the variables of the call.
func (c *Call) checkParam() []error {
	names, errs := variables(c.VoiceCode)
	if len(errs) > 0 {
		return errs // which variables are missing cannot be said yet
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if _, ok := c.VoiceCodeParam[name]; !ok {
			errs = append(errs, fmt.Errorf("voice_code speaks $%s$, but voice_code_param has no %s; add %s: \"{column}\"", name, name, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.VoiceCodeParam)) {
		if !slices.Contains(names, name) {
			errs = append(errs, fmt.Errorf("voice_code_param has %q, but voice_code does not speak $%s$", short(name), short(name)))
		}
		if err := checkTemplate(c.VoiceCodeParam[name]); err != nil {
			errs = append(errs, fmt.Errorf("voice_code_param %q %w", short(name), err))
		}
	}
	return errs
}

// checkTemplate says why a text with {columns} cannot be rendered.
func checkTemplate(text string) error {
	for _, p := range placeholderForm.FindAllString(text, -1) {
		if foldName(p[1:len(p)-1]) == "" {
			return errors.New("holds {} without a column's name")
		}
	}
	// A stand-in for what is filled in later: a template may be nothing but a column.
	return speakable(placeholderForm.ReplaceAllString(text, "值"))
}

// checkTogether says which parameters contradict each other (help document
// 114042).
func (c *Call) checkTogether() []error {
	var errs []error
	if (c.TtsStyle != "" || c.TtsVolume != nil || c.TtsSpeed != nil) && (c.TtsConf == nil || !*c.TtsConf) {
		errs = append(errs, errors.New("tts_style, tts_volume and tts_speed count only with tts_conf: true; add it, or remove them"))
	}
	if c.AsrModelID != "" && c.AsrBaseID != "" {
		errs = append(errs, errors.New("give asr_model_id or asr_base_id, not both: the platform refuses a model of another base"))
	}
	if c.ActionCodeTimeBreak != nil && *c.ActionCodeTimeBreak > 0 && c.ActionCodeBreak != nil && !*c.ActionCodeBreak {
		errs = append(errs, errors.New("action_code_time_break needs action_code_break: true"))
	}
	return errs
}
