package smartcall

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const pushed = `[{"call_id":"116300000001^102800000001","out_id":"k9x-000123","caller":"057100000000","callee":"13800000000","originate_time":"2026-03-02 10:00:01","ring_time":"2026-03-02 10:00:04","start_time":"2026-03-02 10:00:12","end_time":"2026-03-02 10:00:40","duration":"28","status_code":"200000","smart_status_code":"ANSWERED","status_msg":"执行完成","hangup_direction":"用户","toll_type":"UNKNOWN","voice_type":"asr","dtmf":"1"},
 {"call_id":"116300000002^102800000002","out_id":"k9x-000124","caller":"057100000000","callee":"13800000001","originate_time":"2026-03-02 10:00:02","start_time":"","end_time":"2026-03-02 10:00:30","duration":"0","status_code":"200005","early_media_code":"200010","smart_status_code":"POWERED_OFF","status_msg":"执行完成","hangup_direction":"机器","toll_type":"UNKNOWN","voice_type":"asr"}]`

// at is a time of 2 March 2026, Beijing time.
func at(clock string) time.Time {
	t, err := time.ParseInLocation(time.DateTime, "2026-03-02 "+clock, time.FixedZone("", 8*3600))
	if err != nil {
		panic(err)
	}
	return t
}

// same compares what a test can want of an item.
func same(a, b Item) bool {
	if !a.StartTime.Equal(b.StartTime) || !a.EndTime.Equal(b.EndTime) || !a.RingTime.Equal(b.RingTime) || !a.StatusTime.Equal(b.StatusTime) {
		return false
	}
	for _, i := range []*Item{&a, &b} {
		i.StartTime, i.EndTime, i.RingTime, i.StatusTime = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		i.Raw, i.moment = nil, ""
	}
	return fmt.Sprintf("%+v", fields(a)) == fmt.Sprintf("%+v", fields(b))
}

// fields is an Item that prints.
type fields Item

func TestDecodePush(t *testing.T) {
	items, test, err := DecodePush([]byte(pushed))
	if err != nil || test || len(items) != 2 {
		t.Fatalf("got %d items, test %v, %v", len(items), test, err)
	}
	for i, want := range []Item{
		{
			Kind: VoiceReport, CallID: "116300000001^102800000001", OutID: "k9x-000123", StatusCode: "200000", StatusMsg: "执行完成",
			SmartStatusCode: "ANSWERED", VoiceType: "asr", HangupDirection: "用户", Caller: "057100000000", Callee: "13800000000",
			Duration: 28, RingTime: at("10:00:04"), StartTime: at("10:00:12"), EndTime: at("10:00:40"), Final: true,
		},
		{
			Kind: VoiceReport, CallID: "116300000002^102800000002", OutID: "k9x-000124", StatusCode: "200005", StatusMsg: "执行完成",
			SmartStatusCode: "POWERED_OFF", EarlyMediaCode: "200010", VoiceType: "asr", HangupDirection: "机器",
			Caller: "057100000000", Callee: "13800000001", EndTime: at("10:00:30"), Final: true,
		},
	} {
		if !same(items[i], want) {
			t.Errorf("item %d\ngot  %+v\nwant %+v", i, fields(items[i]), fields(want))
		}
		var raw map[string]any
		if err := json.Unmarshal(items[i].Raw, &raw); err != nil || raw["out_id"] != want.OutID {
			t.Errorf("item %d: raw %s", i, items[i].Raw)
		}
	}

	// The queue has the same objects one at a time.
	alone, _, err := DecodePush(items[0].Raw)
	if err != nil || len(alone) != 1 || !same(alone[0], items[0]) || alone[0].Key() != items[0].Key() {
		t.Errorf("alone: got %+v, %v", alone, err)
	}
}

func TestConsoleTest(t *testing.T) {
	for body, want := range map[string]bool{
		`{"json":"test-content"}`:                 true,
		" { \"json\" : \"test-content\" }\n":      true,
		`[{"json":"test-content"}]`:               false,
		`{"json":"test-content","call_id":"1^2"}`: false,
		`{"JSON":"test-content"}`:                 false,
	} {
		items, test, err := DecodePush([]byte(body))
		if err != nil || test != want || test == (len(items) > 0) {
			t.Errorf("%s: got %d items, test %v, %v", body, len(items), test, err)
		}
	}
}

func TestReceiptValues(t *testing.T) {
	for body, want := range map[string]Item{
		`{"call_id":1,"status_code":200000,"duration":28,"end_time":null}`:                   {Kind: VoiceReport, CallID: "1", StatusCode: "200000", Duration: 28, Final: true},
		`{"call_id":"1","status_code":"200000","duration":"28.0"}`:                           {Kind: VoiceReport, CallID: "1", StatusCode: "200000", Duration: 28, Final: true},
		`{"status_code":"200001","duration":-1}`:                                             {Kind: VoiceReport, StatusCode: "200001", Final: true},
		`{"status_code":"200001","duration":"NaN"}`:                                          {Kind: VoiceReport, StatusCode: "200001", Final: true},
		`{"status_code":"200001","duration":1e300}`:                                          {Kind: VoiceReport, StatusCode: "200001", Final: true},
		`{"status_code":"200001","duration":"long"}`:                                         {Kind: VoiceReport, StatusCode: "200001", Final: true},
		`{"status_code":"200001","start_time":"yesterday","end_time":"1026-01-01 00:00:00"}`: {Kind: VoiceReport, StatusCode: "200001", Final: true},
		`{"status_code":"200001","b_ring_time":"2026-03-02 10:00:04"}`:                       {Kind: VoiceReport, StatusCode: "200001", RingTime: at("10:00:04"), Final: true},
		`{"status_code":"200001","ring_time":"","b_ring_time":"2026-03-02 10:00:04"}`:        {Kind: VoiceReport, StatusCode: "200001", Final: true},
		// The key must be exact: another spelling is another field.
		`{"out_id":"A","OUT_ID":"B","Out_id":{},"status_code":"200001"}`: {Kind: VoiceReport, OutID: "A", StatusCode: "200001", Final: true},
		// Foreign receipts.
		`{"out_id":"{\"json\":\"inside\"}","status_code":"200001"}`: {Kind: VoiceReport, OutID: `{"json":"inside"}`, StatusCode: "200001", Final: true},
		`{"role":"a","words":"hello","call_id":"1^2"}`:              {CallID: "1^2"},
		`{}`: {},
	} {
		items, _, err := DecodePush([]byte("[" + body + "]"))
		if err != nil || len(items) != 1 || items[0].Err != nil {
			t.Errorf("%s: got %v, %v", body, items, err)
		} else if !same(items[0], want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", body, fields(items[0]), fields(want))
		}
	}
}

func TestReceiptKinds(t *testing.T) {
	for body, want := range map[string]struct {
		kind  Kind
		final bool
	}{
		`{"status_code":"200000","duration":"5","end_time":"x"}`:                             {VoiceReport, true},
		`{"status_code":"200005","duration":"0"}`:                                            {VoiceReport, true},
		`{"status_code":"999999","duration":"0"}`:                                            {VoiceReport, true},
		`{"status_code":"200130"}`:                                                           {VoiceReport, true},
		`{"smart_status_code":"NO_ANSWER","end_time":"x"}`:                                   {VoiceReport, true},
		`{"duration":"5"}`:                                                                   {VoiceReport, false},
		`{"status_code":"200100","duration":"5"}`:                                            {VoiceReport, false},
		`{"status_code":"200","duration":"0"}`:                                               {VoiceReport, false},
		`{"status_code":"200000","duration":"5","voice_type":"smart_transfer"}`:              {VoiceReport, false},
		`{"status_code":"200000","duration":"5","voice_type":"voice"}`:                       {VoiceReport, true},
		`{"status_code":"200101","status_time":"2026-03-02 10:00:04"}`:                       {VoiceCallReport, false},
		`{"status_code":"200000","status_time":"2026-03-02 10:00:04"}`:                       {VoiceCallReport, false},
		`{"status_code":"200201"}`:                                                           {VoiceCallReport, false},
		`{"status_code":"300000","dtmf":"9"}`:                                                {VoiceCallReport, false},
		`{"status_code":"200000","duration":"28","record_file":"https://example.com/1.wav"}`: {VoiceRecordReport, false},
		`{"record_begin_time":"2026-03-02 10:00:04"}`:                                        {VoiceRecordReport, false},
		`{"words":"hello"}`:                                                                  {"", false},
	} {
		items, _, err := DecodePush([]byte(body))
		if err != nil || len(items) != 1 || items[0].Err != nil || items[0].Kind != want.kind || items[0].Final != want.final {
			t.Errorf("%s: got %v, final %v, %v; want %v", body, items, err == nil && items[0].Final, err, want)
		}
	}
}

// A receipt that cannot be used does not take the others along.
func TestBadReceipts(t *testing.T) {
	const good = `{"call_id":"1^2","out_id":"A","status_code":"200000","duration":"5"}`
	for bad, want := range map[string]string{
		`null`:                        "not a JSON object",
		`17`:                          "not a JSON object",
		`"text"`:                      "not a JSON object",
		`[` + good + `]`:              "not a JSON object",
		`{"out_id":"A","out_id":"B"}`: "given twice",
		`{"out_id":"A\u0000"}`:        "NUL",
		`{"words":"A\u0000"}`:         "NUL",
		`{"out_id":"\\\u0000"}`:       "NUL",
		`{"out_id":"\ud800"}`:         "surrogate",
		`{"out_id":"\uD800\u0041"}`:   "surrogate",
		`{"out_id":"\udc00\ud800"}`:   "surrogate",
		`{"out_id":["A"]}`:            "out_id is neither a text nor a number",
		`{"call_id":{}}`:              "call_id is neither",
		`{"status_code":true}`:        "status_code is neither",
		"{\"out_id\":\"\xff\"}":       "not valid UTF-8",
		`{"call_id":"` + strings.Repeat("1", maxText+1) + `"}`: "call_id has 1025 bytes",
		`{"duration":` + strings.Repeat("1", maxText+1) + `}`:  "duration has 1025 digits",
	} {
		items, _, err := DecodePush([]byte("[" + good + "," + bad + "," + good + "]"))
		if err != nil || len(items) != 3 {
			t.Errorf("%q: got %d items, %v", bad, len(items), err)
			continue
		}
		if got := items[1]; got.Err == nil || !strings.Contains(got.Err.Error(), want) || string(got.Raw) != bad || got.OutID != "" || got.Final {
			t.Errorf("%q: got %+v, want %q", bad, fields(got), want)
		}
		for _, i := range []int{0, 2} {
			if items[i].Err != nil || items[i].OutID != "A" || items[i].Key() == items[1].Key() {
				t.Errorf("%q: its neighbour is %+v", bad, fields(items[i]))
			}
		}
	}
	for _, fine := range []string{`{"words":"\\u0000"}`, `{"words":"\ud83d\ude00"}`, `{"words":"\\\\ud800"}`} {
		if items, _, err := DecodePush([]byte(fine)); err != nil || items[0].Err != nil {
			t.Errorf("%s: got %v, %v", fine, items[0].Err, err)
		}
	}
}

func TestPushRefused(t *testing.T) {
	gbk := "[{\"out_id\":\"A\",\"status_msg\":\"\xd6\xb4\xd0\xd0\xcd\xea\xb3\xc9\"}]"
	item := `{"out_id":"A","status_code":"200000"}`
	for name, c := range map[string]struct{ body, want string }{
		"empty":            {"", "not one whole JSON value"},
		"blank":            {"  ", "not one whole JSON value"},
		"html":             {"<html>", "not one whole JSON value"},
		"form":             {"a=b", "not one whole JSON value"},
		"cut short":        {pushed[:len(pushed)-1], "not one whole JSON value"},
		"garbage after":    {pushed + "x", "not one whole JSON value"},
		"two arrays":       {pushed + pushed, "not one whole JSON value"},
		"NUL byte":         {"[{\"out_id\":\"\x00\"}]", "not one whole JSON value"},
		"gzip":             {"\x1f\x8b\x08\x00\x00", "not one whole JSON value"},
		"text":             {`"text"`, "neither a JSON array nor an object"},
		"null":             {`null`, "neither a JSON array nor an object"},
		"GBK":              {gbk, "GBK"},
		"too deep":         {"[" + strings.Repeat(`{"a":`, 16) + "1" + strings.Repeat("}", 16) + "]", "brackets within brackets"},
		"bottomless":       {strings.Repeat("[", 1<<20), "brackets within brackets"},
		"too many":         {"[" + strings.Repeat(item+",", maxItems) + item + "]", "more than 10000 receipts"},
		"number in number": {`[13800000000x]`, "not one whole JSON value"},
	} {
		items, test, err := DecodePush([]byte(c.body))
		if err == nil || items != nil || test || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %d items, test %v, %v; want %q", name, len(items), test, err, c.want)
		} else if strings.Contains(err.Error(), "138") {
			t.Errorf("%s: the error quotes the push: %v", name, err)
		}
	}
	// Brackets in a text are no depth, and just as many receipts as are permitted are fine.
	deep := `[{"out_id":"` + strings.Repeat(`[{\"`, 20) + `"}]`
	if items, _, err := DecodePush([]byte(deep)); err != nil || items[0].Err != nil {
		t.Errorf("brackets in a text: %v", err)
	}
	if items, _, err := DecodePush([]byte("[" + strings.Repeat(item+",", maxItems-1) + item + "]")); err != nil || len(items) != maxItems {
		t.Errorf("%d items: got %d, %v", maxItems, len(items), err)
	}
	if items, _, err := DecodePush([]byte("[]")); err != nil || len(items) != 0 {
		t.Errorf("an empty array: got %d items, %v", len(items), err)
	}
}

func TestReceiptKey(t *testing.T) {
	decode := func(body string) Item {
		items, _, err := DecodePush([]byte(body))
		if err != nil || len(items) != 1 {
			t.Fatal(err)
		}
		return items[0]
	}
	base := `{"call_id":"1^2","out_id":"A","voice_type":"asr","status_code":"200000","end_time":"2026-03-02 10:00:40","duration":"28"}`
	key := decode(base).Key()
	// Neither the order nor the type of the values nor what is not in the key matters.
	for _, again := range []string{
		base,
		`{"duration":29,"end_time":"2026-03-02 10:00:40","status_code":200000,"voice_type":"asr","out_id":"A","call_id":"1^2","new":1}`,
	} {
		if decode(again).Key() != key {
			t.Errorf("%s has another key", again)
		}
	}
	seen := map[[16]byte]string{key: base}
	for _, other := range []string{
		strings.Replace(base, "1^2", "1^3", 1),
		strings.Replace(base, `"A"`, `"B"`, 1),
		strings.Replace(base, "asr", "voice", 1),
		strings.Replace(base, "200000", "200001", 1),
		strings.Replace(base, "10:00:40", "10:00:41", 1),
		strings.Replace(base, `"duration"`, `"record_file"`, 1),
		strings.Replace(base, `"1^2","out_id":"A"`, `"1^2A","out_id":""`, 1), // the same letters, divided otherwise
		`{"call_id":"1^2","out_id":"A","voice_type":"asr","status_code":"200000","status_time":"2026-03-02 10:00:40"}`,
		`{"call_id":"1^2","out_id":"A","voice_type":"asr","status_code":"200000","status_time":"2026-03-02 10:00:41"}`,
		`{"call_id":[1]}`,
		`{"call_id":[2]}`,
	} {
		k := decode(other).Key()
		if twin, ok := seen[k]; ok {
			t.Errorf("%s has the key of %s", other, twin)
		}
		seen[k] = other
	}
}

func TestIsGBK(t *testing.T) {
	for text, want := range map[string]bool{
		"执行完成":                             false,
		"ascii":                            false,
		"\xd6\xb4\xd0\xd0":                 true,
		"a \xb4\xed b":                     true,
		"\xd6\xb4\xd0":                     false, // cut in the middle
		"\xff\xff":                         false,
		"\x80\x40":                         false,
		"执行\xff":                           false,
		"\xd6\xb4\xd0\xd0 and 执行 in UTF-8": false, // one bad receipt among good ones
	} {
		if got := isGBK([]byte(text)); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

// Whatever is pushed, it is refused as a whole or taken apart without loss, and what
// was taken apart is the same when it comes again alone.
func FuzzDecodePush(f *testing.F) {
	for _, body := range []string{
		pushed, `{"json":"test-content"}`, `[]`, `[null,1,{}]`, `[{"out_id":"\ud800"}]`, "[{\"out_id\":\"\xb4\xed\"}]",
		`[{"record_file":"x"},{"status_time":1}]`, `[{"duration":1e99}]`, strings.Repeat("[", 20),
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		items, test, err := DecodePush(body)
		if (err != nil || test) && len(items) > 0 {
			t.Fatalf("%d items with test %v, %v", len(items), test, err)
		}
		for _, item := range items {
			if !json.Valid(item.Raw) || !bytes.Contains(body, item.Raw) {
				t.Fatalf("raw %q of %q", item.Raw, body)
			}
			if item.Duration < 0 || item.Duration > maxSeconds || item.Final && item.Kind != VoiceReport {
				t.Fatalf("got %+v", fields(item))
			}
			for _, text := range []string{item.CallID, item.OutID, item.StatusCode, item.Callee} {
				if len(text) > maxText || strings.Contains(text, "\x00") {
					t.Fatalf("text %q", text)
				}
			}
			again, _, err := DecodePush([]byte("[" + string(item.Raw) + "]"))
			if err != nil {
				continue // alone it may look like GBK
			}
			if len(again) != 1 || again[0].Key() != item.Key() {
				t.Fatalf("%q comes again as %v", item.Raw, again)
			}
		}
	})
}
