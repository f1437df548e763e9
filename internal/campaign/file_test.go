package campaign

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const renewalFile = `# a comment
campaign: renewal
account: main
caller_ids: ["057100000000", 01000000000]
columns: {phone: 手机号}
call:
  voice_code: "open.wav,$name$"
  voice_code_param: {name: "{姓名}"}
  record_flag: true
  volume: -4
  pause_time: 300
  mute_time: 20000
  action_code_break: true
  action_code_time_break: 500
  early_media_asr: true
  session_timeout: 120
  tts_conf: true
  tts_style: xiaoyun
  tts_volume: 0
  tts_speed: -200
  stream_asr: 0
  asr_base_id: customer_service_8k
  background_file_code: office.wav
  enable_itn: false
schedule: {cron: "0 20 * * 1-5"}
windows: ["09:00-12:00", "14:00-20:30"]
pace: 200
max_attempts: 3
retry: {busy: [5m, 2h], no_answer: [2h]}
caps: {per_minute: 1, per_day: 3, per_30_days: 9}
lost: redial
sample: true
`

const smallFile = "campaign: a\naccount: b\ncaller_ids: [057100000000]\ncall: {voice_code: open.wav}\n"

func TestParseCampaign(t *testing.T) {
	got, err := ParseCampaign("renewal.yaml", []byte(renewalFile))
	if err != nil {
		t.Fatal(err)
	}
	want := &Campaign{
		Name: "renewal", Account: "main", CallerIDs: []string{"057100000000", "01000000000"},
		Columns: Columns{Phone: "手机号"},
		Call: Call{
			VoiceCode: "open.wav,$name$", VoiceCodeParam: map[string]string{"name": "{姓名}"},
			RecordFlag: new(true), Volume: new(-4), PauseTime: new(300), MuteTime: new(20000),
			ActionCodeBreak: new(true), ActionCodeTimeBreak: new(500), EarlyMediaAsr: new(true), SessionTimeout: new(120),
			TtsConf: new(true), TtsStyle: "xiaoyun", TtsVolume: new(0), TtsSpeed: new(-200), StreamAsr: new(0),
			AsrBaseID: "customer_service_8k", BackgroundFileCode: "office.wav", EnableITN: new(false),
		},
		Schedule: &Schedule{"0 20 * * 1-5", "Asia/Shanghai"}, Zone: "Asia/Shanghai",
		Windows: Windows{{540, 720}, {840, 1230}}, Pace: 200, MaxAttempts: 3,
		Retry: RetryPolicy{Busy: {Duration(5 * time.Minute), Duration(2 * time.Hour)}, NoAnswer: {Duration(2 * time.Hour)}},
		Caps:  Caps{1, 3, 9}, Lost: LostRedial, Sample: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var back Campaign
	if err := json.Unmarshal(got.JSON(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, &back); diff != "" {
		t.Errorf("after a round trip through JSON (-want +got):\n%s", diff)
	}
	if text := string(got.JSON()); !strings.Contains(text, `"windows":["09:00-12:00","14:00-20:30"]`) || !strings.Contains(text, `"retry":{"busy":["5m","2h"]`) {
		t.Errorf("JSON is hard to read: %s", text)
	}
}

func TestParseCampaignDefaults(t *testing.T) {
	got, err := ParseCampaign("a.yaml", []byte(smallFile))
	if err != nil {
		t.Fatal(err)
	}
	want := &Campaign{
		Name: "a", Account: "b", CallerIDs: []string{"057100000000"}, Call: Call{VoiceCode: "open.wav"},
		Zone: "Asia/Shanghai", Windows: Windows{{9 * 60, 12 * 60}, {14 * 60, 20*60 + 30}}, MaxAttempts: 1,
		Caps: Caps{PerMinute: 1, PerDay: 2, Per30Days: 6}, Lost: LostHold,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text := string(got.JSON()); strings.Contains(text, "volume") || strings.Contains(text, "record_flag") {
		t.Errorf("what was not set is stored: %s", text)
	}
}

func TestParseCampaignAnchors(t *testing.T) {
	got, err := ParseCampaign("a.yaml", []byte("campaign: a\naccount: b\ncaller_ids: [&id \"057100000000\"]\ncaps: &caps {per_day: 4}\n"+
		"call:\n  <<: {voice_code: x.wav, volume: 1}\n  voice_code: open.wav\n  asr_model_id: *id\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Call.VoiceCode != "open.wav" || *got.Call.Volume != 1 || got.Call.AsrModelID != "057100000000" || got.Caps.PerDay != 4 {
		t.Errorf("got %+v", got.Call)
	}
}

func TestParseCampaignRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		want       []string // the lines of the error, each by a part
	}{
		{"empty", "", []string{"a.yaml: the file is empty"}},
		{"comment only", "# nothing\n", []string{"a.yaml: the file is empty"}},
		{"not UTF-8", "campaign: \xd5\xc5", []string{"a.yaml: the file is not UTF-8"}},
		{"too large", strings.Repeat("#", maxFile+1), []string{"a.yaml: the file has 262145 bytes"}},
		{"not YAML", "campaign: a\n  account: [", []string{"a.yaml:2: not valid YAML: "}},
		{"a list", "- a\n", []string{`a.yaml:1: the campaign must be a list of "key: value" lines`}},
		{"two documents", smallFile + "---\n" + smallFile, []string{"a.yaml:5: a second document begins"}},
		{"broken second document", smallFile + "---\n[", []string{"not valid YAML"}},
		{"nothing there", "sample: true\n", []string{"has no campaign", "has no account", "has no caller_ids", "has no call"}},
		{"unknown keys", smallFile + "windws: [x]\npaec: 1\nfoo: 1\n", []string{
			`a.yaml:5: unknown key "windws" in the campaign: did you mean "windows"?`, `a.yaml:6: unknown key "paec" in the campaign: did you mean "pace"?`, `a.yaml:7: unknown key "foo" in the campaign`}},
		{"twice", smallFile + "pace: 1\npace: 2\n", []string{`a.yaml:6: key "pace" stands twice; it is already on line 5`}},
		{"no value", smallFile + "pace:\n", []string{"a.yaml:5: pace has no value"}},
		{"a key that is no word", smallFile + "[a]: 1\n", []string{"a.yaml:5: a key of the campaign must be a word"}},
		{"itself", smallFile + "caps: &a {<<: *a}\n", []string{"a.yaml:5: mappings are merged too often"}},
		{"itself twice", smallFile + "caps: &a {<<: [*a, *a]}\n", []string{"a.yaml:5: mappings are merged too often"}},
		{"names", "campaign: a b\naccount: ../x\ncaller_ids: [1234567]\ncall: {voice_code: open.wav}\n", []string{"a.yaml:1: campaign: write a name", "a.yaml:2: account: write a name"}},
		{"caller IDs", "campaign: a\naccount: b\ncaller_ids:\n- 1234\n- \"0571-0000\"\n- 057100000000\n- 057100000000\n- {a: b}\ncall: {voice_code: open.wav}\n",
			[]string{"a.yaml:4: caller_ids: write the number as 5 to 20 digits", "a.yaml:5: caller_ids: write", "a.yaml:7: caller ID 057100000000 stands twice", "a.yaml:8: caller_ids must be a text"}},
		{"no caller IDs", "campaign: a\naccount: b\ncaller_ids: []\ncall: {voice_code: open.wav}\n", []string{"a.yaml:3: caller_ids is an empty list"}},
		{"a caller ID without brackets", "campaign: a\naccount: b\ncaller_ids: 057100000000\ncall: {voice_code: open.wav}\n", []string{"a.yaml:3: caller_ids must be a list"}},
		{"zone", smallFile + "zone: Asia/Shanghi\n", []string{`a.yaml:5: zone: zone "Asia/Shanghi" is not known`}},
		{"windows", smallFile + "windows: [\"9-12\", \"09:00-09:00\", [a]]\n", []string{`window "9-12": write`, `window "09:00-09:00" is empty`, "a window must be a text"}},
		{"windows overlap", smallFile + "windows: [\"09:00-12:00\", \"11:00-13:00\"]\n", []string{"a.yaml:5: windows 09:00-12:00 and 11:00-13:00 overlap"}},
		{"windows as sexagesimal", smallFile + "windows: [09:00-12:00]\n", nil},
		{"schedule", smallFile + "schedule: {cron: \"0 9 31 2 *\"}\n", []string{"a.yaml:5: schedule \"0 9 31 2 *\" never fires"}},
		{"schedule without cron", smallFile + "schedule: {zone: UTC}\n", []string{"a.yaml:5: schedule has no cron; add it"}},
		{"schedule's zone", smallFile + "schedule: {cron: \"0 9 * * *\", zone: Mars}\n", []string{`zone "Mars" is not known`}},
		{"numbers", smallFile + "pace: fast\nmax_attempts: 0\nlost: maybe\nsample: yes\n", []string{
			`a.yaml:5: pace must be a number of calls started per second, without a unit; found "fast"`, "a.yaml:6: max_attempts must lie between 1 and 100 attempts; found 0",
			`a.yaml:7: lost must be "hold" (wait for a person) or "redial"`, "a.yaml:8: sample must be true or false"}},
		{"pace out of range", smallFile + "pace: -1\n", []string{"between 0 and 100000"}},
		{"pace not a number", smallFile + "pace: .nan\n", []string{"pace"}},
		{"attempts with a unit", smallFile + "max_attempts: 3x\n", []string{"without a unit"}},
		{"caps", smallFile + "caps: {per_minute: 0, per_dya: 1, per_30_days: [1]}\n", []string{"per_minute must lie between 1 and 1000 calls; found 0", `unknown key "per_dya" in caps: did you mean "per_day"?`, "per_30_days must be a whole number of calls between 1 and 1000, without a unit; found a list"}},
		{"retry", smallFile + "max_attempts: 3\nretry: {busy: [5, 30s], bsuy: [5m], answered: [5m], invalid_number: [5m], config_error: [5m], no_answer: 5m, rejected: [[1]]}\n", []string{
			`"5" is no duration: write a number with its unit`, "a delay must lie between 1m and 720h; found 30s", `unknown outcome "bsuy": did you mean "busy"?`, `outcome "answered" cannot be retried`,
			`outcome "invalid_number" cannot be retried`, `outcome "config_error" cannot be retried`, "retry no_answer must be a list", "retry rejected: write durations"}},
		{"retries that cannot happen", smallFile + "retry: {busy: [5m]}\n", []string{"a.yaml:5: retry busy has 1 delays, but with max_attempts: 1 at most 0 can be used"}},
		{"columns", smallFile + "columns: {phone: \" \", name: x}\n", []string{"phone: write the header", `unknown key "name" in columns`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseCampaign("a.yaml", []byte(tt.file))
			checkProblems(t, c == nil, err, tt.want)
		})
	}
}

func checkProblems(t *testing.T, refused bool, err error, want []string) {
	t.Helper()
	if (err != nil) != (want != nil) || refused != (want != nil) {
		t.Fatalf("error %v, want %q", err, want)
	}
	if err == nil {
		return
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != len(want) {
		t.Errorf("%d problems, want %d:\n%v", len(lines), len(want), err)
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error says nothing of %q:\n%v", part, err)
		}
	}
}

func TestParseCampaignRefusesCalls(t *testing.T) {
	for _, tt := range []struct {
		call string
		want []string
	}{
		{"voice_code: open.wav", nil},
		{"volume: 5", []string{"volume must lie between -4 and 4 steps; found 5", "call has no voice_code; add it"}},
		{"voice_code: open.wav\n  volume: -5", []string{"a.yaml:6: volume must lie"}},
		{"voice_code: open.wav\n  pause_time: 299", []string{"pause_time must lie between 300 and 1200 milliseconds; found 299"}},
		{"voice_code: open.wav\n  pause_time: 1201", []string{"pause_time"}},
		{"voice_code: open.wav\n  pause_time: 800ms", []string{"pause_time must be a whole number of milliseconds between 300 and 1200, without a unit; found \"800ms\""}},
		{"voice_code: open.wav\n  mute_time: 10", []string{"mute_time must lie between 1000 and 20000 milliseconds; found 10"}},
		{"voice_code: open.wav\n  mute_time: 20001", []string{"mute_time"}},
		{"voice_code: open.wav\n  session_timeout: 0", []string{"session_timeout must lie between 1 and 3600 seconds; found 0"}},
		{"voice_code: open.wav\n  session_timeout: 3601", []string{"session_timeout"}},
		{"voice_code: open.wav\n  session_timeout: 1.5", []string{"session_timeout must be a whole number"}},
		{"voice_code: open.wav\n  stream_asr: 2", []string{"stream_asr"}},
		{"voice_code: open.wav\n  record_flag: 1", []string{"record_flag must be true or false"}},
		{"voice_code: open.wav\n  tts_conf: true\n  tts_volume: 101", []string{"tts_volume must lie between 0 and 100"}},
		{"voice_code: open.wav\n  tts_conf: true\n  tts_speed: 201", []string{"tts_speed must lie between -200 and 200"}},
		{"voice_code: open.wav\n  tts_speed: 20", []string{"count only with tts_conf: true"}},
		{"voice_code: open.wav\n  tts_conf: false\n  tts_style: xiaoyun", []string{"count only with tts_conf: true"}},
		{"voice_code: open.wav\n  asr_model_id: a\n  asr_base_id: b", []string{"not both"}},
		{"voice_code: open.wav\n  asr_model_id: a b", []string{"asr_model_id: write an id"}},
		{"voice_code: open.wav\n  action_code_break: false\n  action_code_time_break: 5", []string{"needs action_code_break: true"}},
		{"voice_code: open.wav\n  action_code_time_break: -1", []string{"action_code_time_break must lie"}},
		{"voice_code: open.wav\n  background_file_code: office", []string{"write a voice id"}},
		{"voice_code: open.wav\n  voice_cod: x", []string{`did you mean "voice_code"?`}},
		{"voice_code: $name$", []string{"voice_code speaks $name$, but voice_code_param has no name"}},
		{"voice_code: open.wav\n  voice_code_param: {name: \"{姓名}\"}", []string{`voice_code_param has "name", but voice_code does not speak $name$`}},
		{"voice_code: $name$\n  voice_code_param: {name: \"\"}", []string{`voice_code_param "name" is empty`}},
		{"voice_code: $name$\n  voice_code_param: {name: \"{}\"}", []string{"holds {} without a column's name"}},
		{"voice_code: $name$\n  voice_code_param: {name: \"{姓名\"}", []string{"holds one of the characters"}},
		{"voice_code: $name$\n  voice_code_param: {name: \"a:b\"}", []string{"holds one of the characters"}},
		{"voice_code: $name$\n  voice_code_param: {name: [a]}", []string{"voice_code_param name must be a text"}},
		{"voice_code: $name$\n  voice_code_param: [name]", []string{"voice_code_param must be a list of \"key: value\""}},
		{"voice_code: http://cdn.example.com/a.wav", []string{"not https"}},
	} {
		c, err := ParseCampaign("a.yaml", []byte("campaign: a\naccount: b\ncaller_ids: [057100000000]\ncall:\n  "+tt.call+"\n"))
		t.Run(tt.call, func(t *testing.T) { checkProblems(t, c == nil, err, tt.want) })
	}
	for key := range notSettable {
		_, err := ParseCampaign("a.yaml", []byte("campaign: a\naccount: b\ncaller_ids: [057100000000]\ncall: {voice_code: open.wav, "+key+": 1}\n"))
		if err == nil || !strings.Contains(err.Error(), "a.yaml:4: "+key+" cannot be set: ") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

const accountFile = `account: main
endpoint: http://127.0.0.1:18080
live: false
access_key_id: ${A_KEY}
access_key_secret: file:/etc/dialer/secret
receipt_secret: ${A_RECEIPT_SECRET}
caller_ids:
  - {number: "057100000000", lines: 2000}
  - {number: "057100000001", lines: 30, pace: 2.5}
`

func TestParseAccount(t *testing.T) {
	got, err := ParseAccount("main.yaml", []byte(accountFile))
	if err != nil {
		t.Fatal(err)
	}
	want := &Account{Name: "main", Endpoint: "http://127.0.0.1:18080", AccessKeyID: "${A_KEY}", AccessKeySecret: "file:/etc/dialer/secret",
		ReceiptSecret: "${A_RECEIPT_SECRET}", Limit: 1000, CallerIDs: []CallerID{{Number: "057100000000", Lines: 2000}, {Number: "057100000001", Lines: 30, Pace: 2.5}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseAccountRefuses(t *testing.T) {
	const rest = "account: a\ncaller_ids: [{number: 057100000000, lines: 1}]\n"
	for _, tt := range []struct {
		file string
		want []string
	}{
		{rest + "endpoint: http://localhost:1", nil},
		{rest + "endpoint: http://[::1]:1/", nil},
		{rest + "endpoint: https://127.0.0.2", nil},
		{rest + "endpoint: https://dyvmsapi.aliyuncs.com\nlive: true", nil},
		{rest + "endpoint: https://dyvmsapi.aliyuncs.com", []string{"a.yaml:3: endpoint is not on this machine, so real people would be called"}},
		{rest + "endpoint: http://dyvmsapi.aliyuncs.com\nlive: true", []string{"must use https"}},
		{rest + "endpoint: http://127.0.0.1:1\nlive: true", []string{"nobody would be called"}},
		{rest + "endpoint: http://10.0.0.1", []string{"must use https"}},
		{rest + "endpoint: https://localhost.example.com", []string{"not on this machine"}},
		{rest + "endpoint: dyvmsapi.aliyuncs.com", []string{"must be an https address"}},
		{rest + "endpoint: ftp://127.0.0.1", []string{"must be an https address"}},
		{rest + "endpoint: http://127.0.0.1/x", []string{"without a path"}},
		{rest + "endpoint: http://a:b@127.0.0.1", []string{"without a path, a query or a user name"}},
		{rest + "endpoint: http://127.0.0.1:1\naccess_key_id: LTAIxyzSECRET\naccess_key_secret: ${S}", []string{"a.yaml:4: access_key_id: write where the secret is"}},
		{rest + "endpoint: http://127.0.0.1:1\nreceipt_secret: file:SECRET", []string{"receipt_secret: write where the secret is"}},
		{rest + "endpoint: http://127.0.0.1:1\naccess_key_id: ${A}", []string{"give both"}},
		{rest + "endpoint: http://127.0.0.1:1\nsecurity_token: ${A}", []string{"security_token needs"}},
		{rest + "endpoint: http://127.0.0.1:1\nlimit: 0", []string{"limit must lie between 1 and 100000"}},
		{"account: a\nendpoint: http://127.0.0.1:1\ncaller_ids: [{number: 1}, {lines: 2, number: 057100000000}, {lines: 1, number: 057100000000}]", []string{"a caller ID has no lines", "number: write the number", "stands twice"}},
		{"{}", []string{"has no account", "has no endpoint", "has no caller_ids"}},
		{rest + "endpoint: http://127.0.0.1:1\nlimt: 1", []string{`did you mean "limit"?`}},
	} {
		a, err := ParseAccount("a.yaml", []byte(tt.file))
		t.Run(tt.file, func(t *testing.T) { checkProblems(t, a == nil, err, tt.want) })
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q repeats a secret", err)
		}
	}
}

func TestResolveSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	getenv := func(name string) string { return map[string]string{"KEY": " s3cret\n"}[name] }
	for _, tt := range []struct{ ref, want, err string }{
		{"", "", ""},
		{"${KEY}", "s3cret", ""},
		{write("good", "\ts3cret\r\n", 0o600), "s3cret", ""},
		{write("stricter", "s3cret", 0o400), "s3cret", ""},
		{"${OTHER}", "", "the environment variable OTHER is not set"},
		{"s3cret", "", "write where the secret is"},
		{"file:s3cret", "", "write where the secret is"},
		{write("open", "s3cret", 0o640), "", "chmod 600"},
		{write("all", "s3cret", 0o604), "", "chmod 600"},
		{write("empty", " \n", 0o600), "", "is empty"},
		{write("large", strings.Repeat("s3cret", 1000), 0o600), "", "more than 4096 bytes"},
		{"file:" + dir, "", "not a regular file"},
		{"file:" + dir + "/none", "", "no such file"},
	} {
		got, err := ResolveSecret(tt.ref, getenv)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("ResolveSecret(%s) = %q, %v, want %q, %q", filepath.Base(tt.ref), got, err, tt.want, tt.err)
		}
	}
}

func FuzzParseCampaign(f *testing.F) {
	f.Add([]byte(renewalFile))
	f.Add([]byte(smallFile + "caps: &a {<<: [*a, *a]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCampaign("a.yaml", data)
		if err != nil {
			return
		}
		var back Campaign
		if err := json.Unmarshal(c.JSON(), &back); err != nil {
			t.Fatal(err)
		}
		// A policy without rules, or a call without variables, is not stored.
		if len(c.Retry) == 0 {
			c.Retry = nil
		}
		if len(c.Call.VoiceCodeParam) == 0 {
			c.Call.VoiceCodeParam = nil
		}
		if diff := cmp.Diff(c, &back); diff != "" {
			t.Fatalf("after a round trip through JSON (-want +got):\n%s", diff)
		}
	})
}
