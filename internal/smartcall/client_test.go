package smartcall

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestNewRefuses(t *testing.T) {
	proxy := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, c := range []struct {
		want   string // "" when accepted
		change func(*Config)
	}{
		{"", func(c *Config) { c.Endpoint = "https://dyvmsapi.aliyuncs.com" }},
		{"", func(c *Config) { c.Endpoint = "https://dyvmsapi.aliyuncs.com/" }},
		{"", func(c *Config) { c.Endpoint = "http://127.0.0.1:8080" }},
		{"", func(c *Config) { c.Endpoint = "http://127.8.8.8:8080" }},
		{"", func(c *Config) { c.Endpoint = "http://[::1]:8080" }},
		{"", func(c *Config) { c.Endpoint = "http://localhost:8080" }},
		{"", func(c *Config) { c.Proxy = proxy("http://192.0.2.1:3128") }},
		{"", func(c *Config) { c.Proxy = proxy("socks5://192.0.2.1:1080") }},
		{"plain http to dyvmsapi.aliyuncs.com", func(c *Config) { c.Endpoint = "http://dyvmsapi.aliyuncs.com" }},
		{"plain http", func(c *Config) { c.Endpoint = "http://127.0.0.1.example.com" }},
		{"plain http", func(c *Config) { c.Endpoint = "http://0.0.0.0" }},
		{"want https", func(c *Config) { c.Endpoint = "ftp://dyvmsapi.aliyuncs.com" }},
		{"scheme and host alone", func(c *Config) { c.Endpoint = "" }},
		{"scheme and host alone", func(c *Config) { c.Endpoint = "dyvmsapi.aliyuncs.com" }},
		{"scheme and host alone", func(c *Config) { c.Endpoint = "https://" }},
		{"scheme and host alone", func(c *Config) { c.Endpoint = "https://dyvmsapi.aliyuncs.com/x" }},
		{"scheme and host alone", func(c *Config) { c.Endpoint = "https://dyvmsapi.aliyuncs.com/?x=1" }},
		{"scheme and host alone", func(c *Config) { c.Endpoint = "https://user:" + testSecret + "@dyvmsapi.aliyuncs.com" }},
		{"credentials", func(c *Config) { c.Credentials = nil }},
		{"negative", func(c *Config) { c.Timeout = -1 }},
		{"negative", func(c *Config) { c.Conns = -1 }},
		{"InsecureSkipVerify", func(c *Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }},
		{"proxy: scheme", func(c *Config) { c.Proxy = proxy("gopher://192.0.2.1") }},
		{"proxy: 192.0.2.1", func(c *Config) { c.Endpoint = "http://127.0.0.1"; c.Proxy = proxy("http://192.0.2.1:3128") }},
	} {
		cfg := Config{Endpoint: "https://dyvmsapi.aliyuncs.com", Credentials: StaticCredentials("id", testSecret, "")}
		c.change(&cfg)
		client, err := New(cfg)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", cfg.Endpoint, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", cfg.Endpoint, err, c.want)
		case err != nil && strings.Contains(err.Error(), testSecret):
			t.Errorf("the error has the secret: %v", err)
		case err == nil:
			client.Close()
		}
	}
}

func TestDefaults(t *testing.T) {
	c := newClient(t, "https://dyvmsapi.aliyuncs.com", func(c *Config) { c.Timeout, c.Conns = 0, 0 })
	if c.timeout != 10*time.Second || cap(c.pool.turn) != 64 {
		t.Errorf("time-out %v, %d connections", c.timeout, cap(c.pool.turn))
	}
}

func TestMissingKeyIsTheAccountsFault(t *testing.T) {
	p := newPlatform(t, acceptAll)
	mustClass(t, newClient(t, p.endpoint, func(c *Config) { c.Credentials = StaticCredentials("id", "", "") }), "OUT1", ClassAccountFault)
	if n := p.conns.Load(); n != 0 {
		t.Errorf("%d connections were opened in vain", n)
	}
}

const detail = `{"callId":"116300000001^102800000001","caller":"057100000000","callee":"13800000000","calleeShowNumber":"057100000000",` +
	`"gmtCreate":"2026-03-02 10:00:01","bRingTime":"2026-03-02 10:00:04","bStartTime":"2026-03-02 10:00:12","bEndTime":"2026-03-02 10:00:40",` +
	`"startDate":"2026-03-02 10:00:12","endDate":"2026-03-02 10:00:40","duration":28,"state":"200000","stateDesc":"用户接听","hangupDirection":0}`

func quoted(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }

func TestQueryCallDetail(t *testing.T) {
	var sent url.Values
	var action, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, action = r.URL.Query(), r.Header.Get("X-Acs-Action")
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	client := newClient(t, server.URL)

	body = `{"Code":"OK","RequestId":"` + requestID() + `","Data":"` + quoted(detail) + `"}`
	day := time.Date(2026, 3, 1, 16, 30, 0, 0, time.UTC) // half past midnight of the next day in Beijing
	got, err := client.QueryCallDetailByCallId(t.Context(), "116300000001^102800000001", day)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"CallId": {"116300000001^102800000001"}, "ProdId": {"11030000180001"},
		"QueryDate": {"1772380800000"}, // 2026-03-02 00:00 +08:00
	}
	if action != "QueryCallDetailByCallId" || sent.Encode() != want.Encode() {
		t.Errorf("sent %s %v\nwant %v", action, sent, want)
	}
	if got.CallID != "116300000001^102800000001" || got.State != "200000" || got.Duration != 28 || got.HangupDirection != "0" ||
		got.Callee != "13800000000" || got.StateDesc != "用户接听" || string(got.Raw) != detail ||
		!got.StartDate.Equal(time.Date(2026, 3, 2, 2, 0, 12, 0, time.UTC)) || !got.ARingTime.IsZero() {
		t.Errorf("got %#v with state %s", got, got.State)
	}

	for _, c := range []struct {
		body string
		want error
	}{
		{`{"Code":"OK","RequestId":"1"}`, ErrNoRecord},
		{`{"Code":"OK","RequestId":"2","Data":""}`, ErrNoRecord},
		{`{"Code":"OK","RequestId":"3","Data":null}`, ErrNoRecord},
		{`{"Code":"isv.QUERY_DATE_ILLEGAL","RequestId":"4"}`, ErrNoRecord},
		{`{"Code":"InvalidParameter.date","RequestId":"5"}`, ErrNoRecord},
		{`{"Code":"100008.0","RequestId":"6"}`, ErrNoRecord},
		{`{"Code":"OK","RequestId":"7","Data":"{\"state\":\"200\"}"}`, ErrNotReady},
		{`{"Code":"OK","RequestId":"8","Data":"{\"state\":200}"}`, ErrNotReady},
		{`{"Code":"OK","RequestId":"9","Data":"{}"}`, ErrNotReady},
		{`{"Code":"OK","RequestId":"10","Data":"{\"state\":"}`, nil},
		{`{"Code":"OK","RequestId":"11","Data":"{\"state\":{}}"}`, nil},
		{`{"Code":"OK","RequestId":"12","Data":{"state":"200000"}}`, nil}, // not a text that holds JSON
		{`{"Code":"isp.GATEWAY_ERROR","RequestId":"13"}`, nil},
	} {
		body = c.body
		got, err := client.QueryCallDetailByCallId(t.Context(), "1^2", day)
		e, ok := errors.AsType[*Error](err)
		if got != nil || !ok || c.want != nil && !errors.Is(err, c.want) || c.want == nil && (errors.Is(err, ErrNoRecord) || errors.Is(err, ErrNotReady)) {
			t.Errorf("%s: got %v, %v, want %v", c.body, got, err, c.want)
		} else if e.HTTPStatus != 200 {
			t.Errorf("%s: got %+v", c.body, *e)
		}
	}
	if _, err := client.QueryCallDetailByCallId(t.Context(), "", day); err == nil {
		t.Error("asked for a call without a name")
	}
}
