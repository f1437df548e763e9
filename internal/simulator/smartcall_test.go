package simulator

import (
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestSmartCallParameters(t *testing.T) {
	type values = map[string]string
	for _, test := range []struct {
		name   string
		change values // "" removes
		code   string
	}{
		{"nothing", values{}, "OK"},
		{"no callee", values{"CalledNumber": ""}, "MissingCalledNumber"},
		{"no number to show", values{"CalledShowNumber": ""}, "MissingCalledShowNumber"},
		{"no voice", values{"VoiceCode": ""}, "MissingVoiceCode"},
		{"number to show not bought", values{"CalledShowNumber": "057100000001"}, "isv.DISPLAY_NUMBER_ILLEGAL"},
		{"callee abroad", values{"CalledNumber": "+85200000000"}, "isv.MOBILE_NUMBER_ILLEGAL"},
		{"OutId of 15 bytes", values{"OutId": "ABCDEFGHIJKLMNO"}, "OK"},
		{"OutId of 16 bytes", values{"OutId": "ABCDEFGHIJKLMNOP"}, "isv.PARAM_LENGTH_LIMIT"},
		{"OutId of 6 characters, 18 bytes", values{"OutId": "一二三四五六"}, "isv.PARAM_LENGTH_LIMIT"},
		{"no OutId", values{"OutId": ""}, "OK"},
		{"forbidden character in OutId", values{"OutId": "a@b"}, "isv.INVALID_PARAMETERS"},
		{"forbidden character in DynamicId", values{"DynamicId": "a:b"}, "isv.INVALID_PARAMETERS"},
		{"variable with value", values{"VoiceCode": "open.wav,$name$", "VoiceCodeParam": `{"name":"喂"}`}, "OK"},
		{"variable without value", values{"VoiceCode": "open.wav,$name$", "VoiceCodeParam": `{"other":"喂"}`}, "isv.TEMPLATE_MISSING_PARAMETERS"},
		{"values not JSON", values{"VoiceCodeParam": `{"name"`}, "isv.INVALID_JSON_PARAM"},
		{"values an array", values{"VoiceCodeParam": `["name"]`}, "isv.INVALID_JSON_PARAM"},
		{"address in a value", values{"VoiceCodeParam": `{"a":"see https://example.com"}`}, "isv.PARAM_NOT_SUPPORT_URL"},
		{"volume 4", values{"Volume": "4"}, "OK"},
		{"volume 5", values{"Volume": "5"}, "isv.INVALID_PARAMETERS"},
		{"volume a word", values{"Volume": "loud"}, "isv.INVALID_PARAMETERS"},
		{"session of an hour", values{"SessionTimeout": "3600"}, "OK"},
		{"session over an hour", values{"SessionTimeout": "3601"}, "isv.INVALID_PARAMETERS"},
		{"pause out of range is replaced, not refused", values{"PauseTime": "5"}, "OK"},
		{"mute out of range is replaced, not refused", values{"MuteTime": "99999"}, "OK"},
		{"break time negative", values{"ActionCodeTimeBreak": "-1"}, "isv.INVALID_PARAMETERS"},
		{"TTS volume", values{"TtsVolume": "101"}, "isv.INVALID_PARAMETERS"},
		{"TTS speed", values{"TtsSpeed": "-201"}, "isv.INVALID_PARAMETERS"},
		{"stream", values{"StreamAsr": "2"}, "isv.INVALID_PARAMETERS"},
		{"base model", values{"AsrBaseId": "klingon"}, "isv.INVALID_PARAMETERS"},
		{"flag", values{"RecordFlag": "yes"}, "isv.INVALID_PARAMETERS"},
		{"unknown parameter is ignored", values{"Colour": "red"}, "OK"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := testConfig()
			config.Accounts[testID] = Account{Name: "main", Secret: testSecret, CallerIDs: []string{testShown}}
			s := start(t, config)
			v := orderOf(1)
			for name, value := range test.change {
				if v[name] = value; value == "" {
					delete(v, name)
				}
			}
			got := send(t, s, request3("SmartCall", v))
			if got.Code != test.code {
				t.Fatalf("got code %q, want %q", got.Code, test.code)
			}
			if accepted := test.code == "OK"; (s.Stats().Accepted == 1) != accepted || (got.CallId != "") != accepted {
				t.Errorf("CallId %q, %d calls placed", got.CallId, s.Stats().Accepted)
			}
			if strings.HasPrefix(test.code, "isv.") && (got.HostId != "" || (got.Status != 200 && got.Status != 400)) {
				t.Errorf("business error with status %d, HostId %q, want 200 or 400 and none", got.Status, got.HostId)
			}
		})
	}
}

func TestBusinessErrorsComeInBothForms(t *testing.T) {
	s := start(t, testConfig())
	seen := make(map[int]int)
	for i := range 200 {
		v := orderOf(i)
		v["CalledNumber"] = "12345"
		seen[send(t, s, request3("SmartCall", v)).Status]++
	}
	if seen[200] < 60 || seen[400] < 60 || seen[200]+seen[400] != 200 {
		t.Errorf("got %v, want HTTP 200 and 400 about equally", seen)
	}
}

func TestMainlandNumbers(t *testing.T) {
	for number, want := range map[string]string{
		"13800000000": "13800000000", "19900000000": "19900000000",
		"+8613800000000": "13800000000", "008613800000000": "13800000000", "+008613800000000": "13800000000",
		"01000000000": "01000000000", "02100000000": "02100000000", "05710000000": "05710000000", "057100000000": "057100000000",
	} {
		if got, ok := mainland(number); !ok || got != want {
			t.Errorf("%s: got %q, %t, want %q", number, got, ok, want)
		}
	}
	for _, number := range []string{
		"", "1380000000", "138000000000", "12800000000", "1380000000x", "１３８00000000", "138 0000 0000", "8613800000000",
		"+85212345678", "0085212345678", "+8601000000000", "057112", "0100000000", "010000000000", "01100000000",
		"4001234567", "95188", "110", "14000000000000", "0571-00000000",
	} {
		if bare, ok := mainland(number); ok {
			t.Errorf("%q: accepted as %q", number, bare)
		}
	}
}

func TestIDsHaveTheirDocumentedForm(t *testing.T) {
	s := start(t, testConfig())
	callID := regexp.MustCompile(`^\d{12}\^\d{12}$`)
	request := regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[0-9A-F]{4}-[0-9A-F]{12}$`)
	calls := make(map[string]bool)
	requests := make(map[string]bool)
	for i := range 100 {
		got := place(t, s, orderOf(i))
		if !callID.MatchString(got.CallId) || !request.MatchString(got.RequestId) {
			t.Fatalf("CallId %q, RequestId %q", got.CallId, got.RequestId)
		}
		calls[got.CallId], requests[got.RequestId] = true, true
	}
	if len(calls) != 100 || len(requests) != 100 {
		t.Errorf("%d CallIds and %d RequestIds for 100 calls", len(calls), len(requests))
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no account":              func(c *Config) { c.Accounts = nil },
		"no secret":               func(c *Config) { c.Accounts[testID] = Account{} },
		"limit negative":          func(c *Config) { c.Accounts[testID] = Account{Secret: "x", Limit: -1} },
		"keys disagree":           func(c *Config) { c.Accounts["2"] = Account{Name: "main", Secret: "x", Limit: 7} },
		"address":                 func(c *Config) { c.PushURL = "localhost:80" },
		"callback address":        func(c *Config) { c.CallbackURL = "ftp://localhost/" },
		"scale":                   func(c *Config) { c.TimeScale = -1 },
		"range upside down":       func(c *Config) { c.Ring = Range{2, 1} },
		"share above 1":           func(c *Config) { c.Duplicate = 1.5 },
		"retry negative":          func(c *Config) { c.PushRetry = []time.Duration{-1} },
		"outcome unknown":         func(c *Config) { c.Outcomes = map[string]float64{"voicemail": 1} },
		"outcome negative":        func(c *Config) { c.Outcomes = map[string]float64{"busy": -1, "answered": 2} },
		"outcomes all 0":          func(c *Config) { c.Outcomes = map[string]float64{"busy": 0} },
		"fault negative":          func(c *Config) { c.Faults.Cut = -0.1 },
		"faults above 1":          func(c *Config) { c.Faults.Cut, c.Faults.HTML = 0.6, 0.6 },
		"fault code above 1":      func(c *Config) { c.Faults.Business = map[string]float64{"isp.UNKNOWN": 2} },
		"fault code that is none": func(c *Config) { c.Faults.Business = map[string]float64{"OK": 1} },
		"fault delay negative":    func(c *Config) { c.Faults.Delay = Range{-1, 1} },
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.Accounts = maps.Clone(config.Accounts)
			change(&config)
			s, err := New(config)
			if err == nil {
				s.Close()
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), testSecret) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}
