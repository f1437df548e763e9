// Package sdktest has the official SDK's generic client make calls to the simulator,
// beside this repository's own client: the platform's own code is the witness that
// both speak its protocol. It is a module of its own, so that the SDK and all that it
// needs stay out of the dialer.
package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"

	"dialer/internal/simulator"
	"dialer/internal/smartcall"
)

const (
	keyID  = "testid"
	secret = "testsecret"
	caller = "057100000000"
)

// platform starts a simulated platform and returns its URL.
func platform(t *testing.T) (*simulator.Simulator, string) {
	t.Helper()
	s, err := simulator.New(simulator.Config{
		Accounts:  map[string]simulator.Account{keyID: {Secret: secret, Limit: 1000}},
		TimeScale: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, server.URL
}

// parameters are those of a call, with characters that encodings differ about.
func parameters(n int) map[string]string {
	return map[string]string{
		"CalledShowNumber": caller,
		"CalledNumber":     fmt.Sprintf("138%08d", n),
		"VoiceCode":        "open.wav,$name$",
		"VoiceCodeParam":   `{"name":"喂 ~*+/%=&'()!"}`,
		"OutId":            fmt.Sprintf("SDK%d", n),
		"RecordFlag":       "true",
		"SessionTimeout":   "120",
	}
}

// callSDK makes a SmartCall with the official client. algorithm "v2" is the V1
// signature, "" is V3.
func callSDK(t *testing.T, endpoint, algorithm, secret string, query map[string]string) (map[string]any, error) {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	client, err := openapi.NewClient(&utils.Config{
		AccessKeyId: new(keyID), AccessKeySecret: new(secret),
		Endpoint: new(u.Host), Protocol: new("http"), SignatureAlgorithm: new(algorithm),
	})
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]*string, len(query))
	for name, value := range query {
		values[name] = new(value)
	}
	got, err := client.CallApiWithCtx(t.Context(), &utils.Params{
		Action: new("SmartCall"), Version: new("2017-05-25"), Protocol: new("HTTP"),
		Pathname: new("/"), Method: new("POST"), AuthType: new("AK"), Style: new("RPC"),
		ReqBodyType: new("formData"), BodyType: new("json"),
	}, &utils.OpenApiRequest{Query: values}, &dara.RuntimeOptions{ConnectTimeout: new(5000), ReadTimeout: new(5000)})
	if err != nil {
		return nil, err
	}
	// The SDK's numbers and maps take several forms; JSON has one.
	text, err := json.Marshal(got["body"])
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(text, &body); err != nil {
		t.Fatal(err)
	}
	return body, nil
}

func TestOfficialClientIsAccepted(t *testing.T) {
	s, endpoint := platform(t)
	for n, algorithm := range []string{"", "v2"} {
		body, err := callSDK(t, endpoint, algorithm, secret, parameters(n))
		if err != nil {
			t.Fatalf("algorithm %q: %v", algorithm, err)
		}
		if callID, _ := body["CallId"].(string); body["Code"] != "OK" || !strings.Contains(callID, "^") {
			t.Errorf("algorithm %q: got %v", algorithm, body)
		}
	}
	if got := s.Stats(); got.Requests != 2 || got.Accepted != 2 {
		t.Errorf("got %d requests, %d accepted", got.Requests, got.Accepted)
	}
}

func TestWrongSecretIsRefused(t *testing.T) {
	s, endpoint := platform(t)
	for n, algorithm := range []string{"", "v2"} {
		if body, err := callSDK(t, endpoint, algorithm, "wrong", parameters(n)); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
			t.Errorf("algorithm %q: got %v, %v, want SignatureDoesNotMatch", algorithm, body, err)
		}
	}
	_, err := callOwn(t.Context(), t, endpoint, "wrong", 9)
	if e, ok := errors.AsType[*smartcall.Error](err); !ok || e.Class != smartcall.ClassAccountFault || e.Code != "SignatureDoesNotMatch" {
		t.Errorf("own client: got %v, want SignatureDoesNotMatch", err)
	}
	if got := s.Stats(); got.Accepted != 0 {
		t.Errorf("%d calls were accepted", got.Accepted)
	}
}

// callOwn makes the n-th call with the dialer's client.
func callOwn(ctx context.Context, t *testing.T, endpoint, secret string, n int) (*smartcall.Response, error) {
	t.Helper()
	client, err := smartcall.New(smartcall.Config{Endpoint: endpoint, Credentials: smartcall.StaticCredentials(keyID, secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p := parameters(n)
	return client.SmartCall(ctx, &smartcall.Request{
		CalledShowNumber: p["CalledShowNumber"], CalledNumber: p["CalledNumber"], VoiceCode: p["VoiceCode"],
		VoiceCodeParam: p["VoiceCodeParam"], OutID: p["OutId"], RecordFlag: new(true), SessionTimeout: new(120),
	}, time.Now().Add(5*time.Second))
}

func TestOwnClientIsAccepted(t *testing.T) {
	s, endpoint := platform(t)
	resp, err := callOwn(t.Context(), t, endpoint, secret, 1)
	if err != nil || !strings.Contains(resp.CallID, "^") {
		t.Fatalf("got %v, %v", resp, err)
	}
	if got := s.Stats(); got.Requests != 1 || got.Accepted != 1 {
		t.Errorf("got %d requests, %d accepted", got.Requests, got.Accepted)
	}
}

// Both clients must put the same parameters on the wire, byte for byte once decoded.
func TestBothClientsSendTheSame(t *testing.T) {
	var seen []url.Values
	server := recordQueries(t, &seen)
	if _, err := callSDK(t, server, "", secret, parameters(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := callOwn(t.Context(), t, server, secret, 1); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0].Encode() != seen[1].Encode() {
		t.Errorf("the SDK sent %v\nwe sent      %v", seen[0], seen[1])
	}
}
