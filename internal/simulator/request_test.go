package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	testID     = "testid"
	testSecret = "testsecret"
	testHost   = "dyvmsapi.aliyuncs.com"
	testShown  = "057100000000"
)

// testConfig is one account with a limit that does not matter.
func testConfig() Config {
	return Config{Accounts: map[string]Account{testID: {Name: "main", Secret: testSecret, Limit: 1_000_000}}}
}

// start makes a simulator that is closed at the end of the test.
func start(t testing.TB, config Config) *Simulator {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// phoneNumber makes up a mobile number.
func phoneNumber(n int) string { return fmt.Sprintf("138%08d", n) }

// orderOf returns a good SmartCall, another one for every n.
func orderOf(n int) map[string]string {
	return map[string]string{
		"CalledNumber": phoneNumber(n), "CalledShowNumber": testShown,
		"VoiceCode": "open.wav", "OutId": fmt.Sprintf("A%06d", n),
	}
}

var lastNonce atomic.Int64

func nextNonce() string { return fmt.Sprintf("nonce-%d", lastNonce.Add(1)) }

// request3 is a request signed with V3, everything in the query.
func request3(action string, values map[string]string) *http.Request {
	query := url.Values{}
	for name, value := range values {
		query.Set(name, value)
	}
	r := httptest.NewRequest(http.MethodPost, "http://"+testHost+"/?"+query.Encode(), nil)
	r.Header.Set("x-acs-action", action)
	r.Header.Set("x-acs-version", apiVersion)
	r.Header.Set("x-acs-date", time.Now().UTC().Format("2006-01-02T15:04:05Z"))
	r.Header.Set("x-acs-signature-nonce", nextNonce())
	sign3Request(r, testID, testSecret)
	return r
}

func sign3Request(r *http.Request, id, secret string) {
	signed := []string{"host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"}
	query, err := parseParams(r.URL.RawQuery)
	if err != nil {
		panic(err)
	}
	_, signature := sign3(&envelope{method: r.Method, host: r.Host, header: r.Header, query: query}, signed, secret)
	r.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential="+id+",SignedHeaders="+strings.Join(signed, ";")+",Signature="+signature)
}

// request1 is a request signed with V1, in the query or in a form body.
func request1(method, action string, values map[string]string, inBody bool) *http.Request {
	query := url.Values{}
	for name, value := range values {
		query.Set(name, value)
	}
	for name, value := range map[string]string{
		"Action": action, "Version": apiVersion, "Format": "JSON", "AccessKeyId": testID, "SignatureMethod": "HMAC-SHA1",
		"SignatureVersion": "1.0", "SignatureNonce": nextNonce(), "Timestamp": time.Now().UTC().Format("2006-01-02T15:04:05Z"),
	} {
		if !query.Has(name) {
			query.Set(name, value)
		}
	}
	all, err := parseParams(query.Encode())
	if err != nil {
		panic(err)
	}
	query.Set("Signature", sign1(method, all, testSecret))
	if inBody {
		r := httptest.NewRequest(method, "http://"+testHost+"/", strings.NewReader(query.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		return r
	}
	return httptest.NewRequest(method, "http://"+testHost+"/?"+query.Encode(), nil)
}

// reply is any answer of the gateway.
type reply struct {
	Status                                         int `json:"-"`
	Code, Message, RequestId, HostId, CallId, Data string
}

// send has the simulator answer a request in the test's goroutine.
func send(t testing.TB, s *Simulator, r *http.Request) reply {
	t.Helper()
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	var got reply
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatalf("answer with status %d is not JSON: %v", rec.Code, err)
	}
	got.Status = rec.Code
	return got
}

// place sends a SmartCall and wants it accepted.
func place(t testing.TB, s *Simulator, values map[string]string) reply {
	t.Helper()
	got := send(t, s, request3("SmartCall", values))
	if got.Status != 200 || got.Code != "OK" || got.CallId == "" {
		t.Fatalf("SmartCall: got status %d, code %q, CallId %q, want an accepted call", got.Status, got.Code, got.CallId)
	}
	return got
}

func waitQuiet(t testing.TB, s *Simulator) {
	t.Helper()
	if err := s.WaitQuiet(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// entries reads a ledger; kinds picks some of it, none = all.
func entries(t testing.TB, ledger *bytes.Buffer, kinds ...string) []Entry {
	t.Helper()
	var all []Entry
	for e, err := range ReadLedger(bytes.NewReader(ledger.Bytes())) {
		if err != nil {
			t.Fatal(err)
		}
		if len(kinds) == 0 {
			all = append(all, e)
		}
		for _, kind := range kinds {
			if e.Kind == kind {
				all = append(all, e)
			}
		}
	}
	return all
}
