package simulator

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func mustParse(t *testing.T, raw string) params {
	t.Helper()
	ps, err := parseParams(raw)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func TestSign1PublishedVector(t *testing.T) {
	all := mustParse(t, "Timestamp=2016-02-23T12:46:24Z&Format=XML&AccessKeyId=testid&Action=DescribeRegions&SignatureMethod=HMAC-SHA1"+
		"&SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&Version=2014-05-26&SignatureVersion=1.0")
	if got, want := sign1("GET", all, testSecret), "OLeaidS1JvxuMvnyHOwuJ+uX5qY="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSign3PublishedVector(t *testing.T) {
	e := &envelope{method: "POST", host: "ecs.cn-shanghai.aliyuncs.com", header: http.Header{}}
	e.query = mustParse(t, "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai")
	e.header.Set("x-acs-action", "RunInstances")
	e.header.Set("x-acs-version", "2014-05-26")
	e.header.Set("x-acs-date", "2023-10-26T10:22:32Z")
	e.header.Set("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d")
	e.header.Set("x-acs-content-sha256", emptySum)
	hash, signature := sign3(e, strings.Split(own3Signed, ";"), "YourAccessKeySecret")
	if want := "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"; hash != want {
		t.Errorf("canonical hash: got %s, want %s", hash, want)
	}
	if want := "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"; signature != want {
		t.Errorf("signature: got %s, want %s", signature, want)
	}
}

const (
	emptySum   = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	own3Signed = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
	// As the official Go SDK writes it: a space is +.
	ownBusiness = "CalledNumber=13800000000&CalledShowNumber=057100000000&OutId=b1-000001&VoiceCode=%24name%24&VoiceCodeParam=%7B%22name%22%3A%22%E5%96%82+~%2A%22%7D"
	own1Common  = "&Action=SmartCall&Format=JSON&SignatureMethod=HMAC-SHA1&SignatureNonce=nonce-0001&SignatureVersion=1.0" +
		"&Timestamp=2026-01-02T03:04:05Z&Version=2017-05-25&AccessKeyId=testid"
)

// The vectors of our own, sent at the moment they were signed for.
func TestOwnVectorsAreAccepted(t *testing.T) {
	v1 := func(method, signature string) *http.Request {
		return httptest.NewRequest(method, "http://"+testHost+"/?"+ownBusiness+own1Common+"&Signature="+url.QueryEscape(signature), nil)
	}
	v3 := httptest.NewRequest("POST", "http://"+testHost+"/?"+ownBusiness, nil)
	v3.Header.Set("x-acs-action", "SmartCall")
	v3.Header.Set("x-acs-version", "2017-05-25")
	v3.Header.Set("x-acs-date", "2026-01-02T03:04:05Z")
	v3.Header.Set("x-acs-signature-nonce", "nonce-0001")
	v3.Header.Set("x-acs-content-sha256", emptySum)
	v3.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential=testid,SignedHeaders="+own3Signed+
		",Signature=99a8a2ce2d6dc4fd5b5ce77ab71debd2111dc8fdc89d477c6e6859a3cda79bdc")
	for name, r := range map[string]*http.Request{
		"V1 POST": v1("POST", "vvy98JaHZ0VngStaWmxJIASkJLs="),
		"V1 GET":  v1("GET", "aI3U5s5uaxlEqW1vTm5o+1mbNhU="),
		"V3 POST": v3,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				<-time.After(time.Until(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
				got := send(t, start(t, testConfig()), r)
				if got.Status != 200 || got.Code != "OK" || got.CallId == "" {
					t.Errorf("got status %d, code %q, want OK", got.Status, got.Code)
				}
			})
		})
	}
}

func TestSignedWaysIn(t *testing.T) {
	for name, r := range map[string]func() *http.Request{
		"V3 query":     func() *http.Request { return request3("SmartCall", orderOf(1)) },
		"V1 POST":      func() *http.Request { return request1("POST", "SmartCall", orderOf(1), false) },
		"V1 GET":       func() *http.Request { return request1("GET", "SmartCall", orderOf(1), false) },
		"V1 POST form": func() *http.Request { return request1("POST", "SmartCall", orderOf(1), true) },
		// Official V1 clients send this header too; the scheme is told by Authorization.
		"V1 with x-acs-action": func() *http.Request {
			r := request1("POST", "SmartCall", orderOf(1), false)
			r.Header.Set("x-acs-action", "SmartCall")
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := send(t, start(t, testConfig()), r()); got.Code != "OK" {
				t.Errorf("got code %q, want OK", got.Code)
			}
		})
	}
}

func TestGatewayRefusals(t *testing.T) {
	good := func() *http.Request { return request3("SmartCall", orderOf(1)) }
	at := func(off time.Duration) func() *http.Request {
		return func() *http.Request {
			r := good()
			r.Header.Set("x-acs-date", time.Now().Add(off).UTC().Format("2006-01-02T15:04:05Z"))
			sign3Request(r, testID, testSecret)
			return r
		}
	}
	unsigned := func(name string) func() *http.Request {
		return func() *http.Request {
			r := good()
			a := r.Header.Get("Authorization")
			a = strings.Replace(strings.Replace(a, name+";", "", 1), ";"+name, "", 1)
			r.Header.Set("Authorization", a)
			return r
		}
	}
	header := func(name, value string, resign bool) func() *http.Request {
		return func() *http.Request {
			r := good()
			r.Header.Set(name, value)
			if resign {
				sign3Request(r, testID, testSecret)
			}
			return r
		}
	}
	v1 := func(change map[string]string, remove string) func() *http.Request {
		return func() *http.Request {
			values := orderOf(1)
			maps.Copy(values, change)
			r := request1("POST", "SmartCall", values, false)
			if remove != "" {
				q := r.URL.Query()
				q.Del(remove)
				r.URL.RawQuery = q.Encode()
			}
			return r
		}
	}
	for _, test := range []struct {
		name   string
		r      func() *http.Request
		status int
		code   string
	}{
		{"secret wrong", func() *http.Request { r := good(); sign3Request(r, testID, "other"); return r }, 400, "SignatureDoesNotMatch"},
		{"key unknown", func() *http.Request { r := good(); sign3Request(r, "nobody", testSecret); return r }, 404, "InvalidAccessKeyId.NotFound"},
		{"query changed", func() *http.Request {
			r := good()
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, phoneNumber(1), phoneNumber(2), 1)
			return r
		}, 400, "SignatureDoesNotMatch"},
		{"method changed", func() *http.Request { r := good(); r.Method = "GET"; return r }, 400, "SignatureDoesNotMatch"},
		{"host changed", func() *http.Request { r := good(); r.Host = "elsewhere"; return r }, 400, "SignatureDoesNotMatch"},
		{"body sum wrong", header("x-acs-content-sha256", strings.Repeat("0", 64), true), 400, "SignatureDoesNotMatch"},
		{"host not signed", unsigned("host"), 400, "IncompleteSignature"},
		{"action not signed", unsigned("x-acs-action"), 400, "IncompleteSignature"},
		{"date not signed", unsigned("x-acs-date"), 400, "IncompleteSignature"},
		{"nonce not signed", unsigned("x-acs-signature-nonce"), 400, "IncompleteSignature"},
		{"signature missing", header("Authorization", "ACS3-HMAC-SHA256 Credential=testid", false), 400, "IncompleteSignature"},
		{"nonce empty", header("x-acs-signature-nonce", "", true), 400, "Missingx-acs-signature-nonce"},
		{"date odd", header("x-acs-date", "yesterday", true), 400, "InvalidTimeStamp.Format"},
		{"16 minutes old", at(-16 * time.Minute), 400, "InvalidTimeStamp.Expired"},
		{"16 minutes ahead", at(16 * time.Minute), 400, "InvalidTimeStamp.Expired"},
		{"14 minutes old", at(-14 * time.Minute), 200, "OK"},
		{"14 minutes ahead", at(14 * time.Minute), 200, "OK"},
		{"version", header("x-acs-version", "2016-01-01", true), 404, "InvalidVersion"},
		{"action", header("x-acs-action", "SmartCalls", true), 404, "InvalidAction.NotFound"},
		{"path", func() *http.Request { r := good(); r.URL.Path = "/api"; return r }, 404, "InvalidApi.NotFound"},
		{"method", func() *http.Request { r := good(); r.Method = "PUT"; return r }, 403, "UnsupportedHTTPMethod"},
		{"parameter twice", func() *http.Request { r := good(); r.URL.RawQuery += "&OutId=2"; return r }, 400, "InvalidParameter"},
		{"bad encoding", func() *http.Request { r := good(); r.URL.RawQuery += "&x=%zz"; return r }, 400, "InvalidParameter"},
		{"V1 nothing at all", func() *http.Request { return httptest.NewRequest("GET", "http://"+testHost+"/", nil) }, 400, "MissingAccessKeyId"},
		{"V1 without nonce", v1(nil, "SignatureNonce"), 400, "MissingSignatureNonce"},
		{"V1 wrong method name", v1(map[string]string{"SignatureMethod": "HMAC-MD5"}, ""), 400, "IncompleteSignature"},
		{"V1 key unknown", v1(map[string]string{"AccessKeyId": "nobody"}, ""), 404, "InvalidAccessKeyId.NotFound"},
		{"V1 parameter removed", v1(nil, "OutId"), 400, "SignatureDoesNotMatch"},
		{"V1 old", v1(map[string]string{"Timestamp": "2016-02-23T12:46:24Z"}, ""), 400, "InvalidTimeStamp.Expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, testConfig())
			got := send(t, s, test.r())
			if got.Status != test.status || got.Code != test.code {
				t.Errorf("got status %d, code %q, want %d, %q", got.Status, got.Code, test.status, test.code)
			}
			if got.RequestId == "" || (test.code != "OK" && (got.HostId == "" || got.CallId != "")) {
				t.Errorf("got %+v, want RequestId and HostId and no CallId", got)
			}
			if st := s.Stats(); test.code != "OK" && (st.Refused != 1 || st.Accepted != 0) {
				t.Errorf("got %d refused, %d accepted, want 1 and 0", st.Refused, st.Accepted)
			}
		})
	}
}

func TestNonceIsUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig()
		config.Accounts["second"] = Account{Name: "main", Secret: testSecret, Limit: 1_000_000}
		s := start(t, config)
		again := func(id string, n int) string {
			r := request3("SmartCall", orderOf(n))
			r.Header.Set("x-acs-signature-nonce", "the same")
			sign3Request(r, id, testSecret)
			return send(t, s, r).Code
		}
		badly := request3("SmartCall", orderOf(0))
		badly.Header.Set("x-acs-signature-nonce", "the same")
		sign3Request(badly, testID, "other")
		if got := send(t, s, badly).Code; got != "SignatureDoesNotMatch" {
			t.Fatalf("bad signature: got %s", got)
		}
		for _, step := range []struct {
			id   string
			wait time.Duration
			want string
		}{
			{testID, 0, "OK"}, // the bad one did not use it up
			{testID, 0, "SignatureNonceUsed"},
			{"second", 0, "OK"}, // another key
			{testID, 14*time.Minute + 59*time.Second, "SignatureNonceUsed"},
			{testID, 31 * time.Minute, "OK"},
			{testID, time.Second, "SignatureNonceUsed"},
		} {
			<-time.After(step.wait)
			if got := again(step.id, 1); got != step.want {
				t.Errorf("after %s: got %s, want %s", step.wait, got, step.want)
			}
		}
	})
}

func TestNonceMemoryIsBounded(t *testing.T) {
	n := newNonces(10)
	now := time.Unix(0, 0)
	for i := range 1000 {
		if !n.fresh(testID, phoneNumber(i), now) {
			t.Fatalf("nonce %d was not fresh", i)
		}
		if held := len(n.young) + len(n.old); held > 20 {
			t.Fatalf("%d nonces held, want at most 20", held)
		}
	}
	if n.fresh(testID, phoneNumber(999), now) || n.fresh(testID, phoneNumber(991), now) {
		t.Error("the newest nonces were forgotten")
	}
}
