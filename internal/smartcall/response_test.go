package smartcall

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestDecodeAnswer(t *testing.T) {
	for body, want := range map[string]answer{
		`{"Code":"OK","CallId":"1^2","RequestId":"R","Message":"OK"}`: {code: "OK", callID: "1^2", requestID: "R", message: "OK"},
		" {\"Code\":\"OK\"}\r\n":                                               {code: "OK"},
		`{"code":"no","Code":"OK","CODE":"no"}`:                                {code: "OK"},
		`{"Code":"OK","CallId":null,"Message":null}`:                           {code: "OK"},
		`{"Code":"A","Extra":{"Code":"B","Code":"C"},"Data":"{}"}`:             {code: "A", data: "{}"},
		`{"Code":"A","Message":"a\u0000b\nc` + strings.Repeat("喂", 500) + `"}`: {code: "A", message: "abc" + strings.Repeat("喂", (maxMessage-3)/3)},
		`{"Code":"A","RequestId":"` + strings.Repeat("r", 100) + `"}`:          {code: "A", requestID: strings.Repeat("r", maxRequestID)},
	} {
		got, err := decodeAnswer([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if *got != want {
			t.Errorf("%s: got %+v, want %+v", body, *got, want)
		}
	}
	for body, want := range map[string]string{
		``:                                "not one whole JSON value",
		`{"Code":"OK"`:                    "not one whole JSON value",
		`{"Code":"OK"}}`:                  "not one whole JSON value",
		`{"Code" "OK"}`:                   "not one whole JSON value",
		`{"Code":"OK",}`:                  "not one whole JSON value",
		`"OK"`:                            "not a JSON object",
		`[]`:                              "not a JSON object",
		`{}`:                              "no Code",
		`{"Code":""}`:                     "no Code",
		`{"Code":1}`:                      "Code is not a text",
		`{"Code":"OK","Code":"OK"}`:       "given twice",
		`{"Code":"A","\u0043ode":"B"}`:    "given twice",
		`{"Code":"OK","Message":[]}`:      "Message is not a text",
		`{"Code":"OK","CallId":"\u0085"}`: "CallId holds control characters",
		"{\"Code\":\"\xff\"}":             "not valid UTF-8",
	} {
		if got, err := decodeAnswer([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want %q", body, got, err, want)
		}
	}
}

// Whatever comes, an answer is understood only if it says without doubt what the
// plain decoder of the standard library reads in it.
func FuzzResponse(f *testing.F) {
	for _, body := range []string{
		acceptedBody("OUT1"), `{"Code":"OK","CallId":"1^2"}`, `{"Code":"Throttling.User"}`, `{"Code":"OK","code":"x","CallId":""}`,
		`{"Code":"OK","CallId":"\u0000"}`, `{"Code":"OK","Data":"` + quoted(detail) + `"}`, `<html>`, `{"Code":"OK"}{}`, "", "null", `[1]`,
	} {
		f.Add(200, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a, err := decodeAnswer(body)
		if err != nil {
			if a != nil {
				t.Fatalf("both %+v and %v", a, err)
			}
			return
		}
		var plain map[string]any
		if err := json.Unmarshal(body, &plain); err != nil {
			t.Fatalf("understood what is not JSON: %v", err)
		}
		if plain["Code"] != a.code || a.callID != "" && plain["CallId"] != a.callID {
			t.Fatalf("got %+v of %v", a, plain)
		}
		if a.code == "" || len(a.callID) > maxCallID || strings.ContainsFunc(a.callID+a.message+a.requestID, unicode.IsControl) || !utf8.ValidString(a.message) {
			t.Fatalf("understood %+v", a)
		}
		if class := Classify(status, a.code); (class == ClassAccepted) != (status == 200 && a.code == "OK") {
			t.Fatalf("%d %s is %s", status, a.code, class)
		}
		split, err := decodeObject(body)
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(body, &want); err != nil || len(split) != len(want) {
			t.Fatalf("split into %v, want %v, %v", split, want, err)
		}
		for name, value := range want {
			if !bytes.Equal(split[name], value) {
				t.Fatalf("%q: split into %q, want %q", name, split[name], value)
			}
		}
		if a.data != "" {
			_, _ = decodeDetail([]byte(a.data))
		}
	})
}
