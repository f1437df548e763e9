package smartcall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// wire is the name of a field on the wire, where it is not the field's own.
var wire = map[string]string{"AsrModelID": "AsrModelId", "AsrBaseID": "AsrBaseId", "OutID": "OutId", "DynamicID": "DynamicId"}

func TestRequestSendsEveryParameterSorted(t *testing.T) {
	var r Request
	want := url.Values{}
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if w, ok := wire[name]; ok {
			name = w
		}
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString(fmt.Sprintf("喂 %d~*+/&=%%$\"", i))
			want.Set(name, f.String())
		case *int:
			f.Set(reflect.ValueOf(new(i - 3)))
			want.Set(name, fmt.Sprint(i-3))
		case *bool:
			f.Set(reflect.ValueOf(new(i%2 == 0)))
			want.Set(name, fmt.Sprint(i%2 == 0))
		}
	}
	query, err := r.query()
	if err != nil {
		t.Fatal(err)
	}
	got, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sent %v\nwant %v", got, want)
	}
	var names []string
	for p := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(p, "=")
		names = append(names, name)
		decoded, _ := url.QueryUnescape(value)
		if again := strings.ReplaceAll(url.QueryEscape(decoded), "+", "%20"); value != again {
			t.Errorf("%s is written %s, and signed as %s by the rule of the page", name, value, again)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("the parameters are not in byte order: %v", names)
	}
}

func TestRequestSendsOnlyWhatIsSet(t *testing.T) {
	query, err := (&Request{CalledShowNumber: "057100000000", CalledNumber: "13800000000", VoiceCode: "open.wav", Volume: new(0)}).query()
	if want := "CalledNumber=13800000000&CalledShowNumber=057100000000&VoiceCode=open.wav&Volume=0"; err != nil || query != want {
		t.Errorf("got %q, %v\nwant %q", query, err, want)
	}
}

func TestRequestNotSent(t *testing.T) {
	p := newPlatform(t, acceptAll)
	client := newClient(t, p.endpoint)
	for _, c := range []struct {
		change func(*Request)
		class  Class
		want   string
	}{
		{func(r *Request) { r.CalledShowNumber = "" }, ClassBug, "CalledShowNumber is empty"},
		{func(r *Request) { r.CalledNumber = "" }, ClassBug, "CalledNumber is empty"},
		{func(r *Request) { r.VoiceCode = "" }, ClassBug, "VoiceCode is empty"},
		{func(r *Request) { r.OutID = "\xff" }, ClassRefused, "OutId is not valid UTF-8"},
		{func(r *Request) { r.VoiceCodeParam = "\xc4\xa3\x81" }, ClassRefused, "VoiceCodeParam is not valid UTF-8"},
		{func(r *Request) { r.VoiceCodeParam = strings.Repeat("x", maxQuery) }, ClassRefused, "shorten VoiceCodeParam"},
	} {
		r := newRequest("OUT1")
		c.change(r)
		_, err := client.SmartCall(t.Context(), r, time.Now().Add(time.Minute))
		if e, ok := errors.AsType[*Error](err); !ok || e.Class != c.class || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s: %s", err, c.class, c.want)
		}
	}
	if n := p.conns.Load(); n != 0 {
		t.Errorf("%d connections were opened in vain", n)
	}
}

func TestNumbersDoNotPrint(t *testing.T) {
	request := Request{CalledNumber: "13800000000", OutID: "OUT1"}
	detail := CallDetail{Callee: "13800000000", CallID: "1^2", Raw: json.RawMessage(`"13800000000"`)}
	item := Item{Callee: "13800000000", CallID: "1^2", OutID: "OUT1", Raw: json.RawMessage(`"13800000000"`)}
	for _, value := range []any{request, &request, detail, &detail, item, &item, struct{ R Request }{request}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			if got := fmt.Sprintf(verb, value); strings.Contains(got, "138") || strings.Contains(got, fmt.Sprintf("%x", "138")) {
				t.Errorf("%s of %T prints %s", verb, value, got)
			}
		}
	}
	var log bytes.Buffer
	for _, logger := range []*slog.Logger{slog.New(slog.NewJSONHandler(&log, nil)), slog.New(slog.NewTextHandler(&log, nil))} {
		logger.Info("values", "request", request, "request p", &request, "detail", &detail, "item", item)
	}
	if strings.Contains(log.String(), "138") {
		t.Errorf("the log has the number: %s", &log)
	}
}
