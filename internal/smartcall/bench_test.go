package smartcall

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func BenchmarkSign(b *testing.B) {
	request := newRequest("OUT1")
	key := Key{ID: "id", Secret: newSecret(testSecret)}
	b.ReportAllocs()
	for b.Loop() {
		query, err := request.query()
		if err != nil {
			b.Fatal(err)
		}
		newSignable("dyvmsapi.aliyuncs.com", "SmartCall", query, "").header(key)
	}
}

// BenchmarkSmartCall is a call to a server in the same process. BenchmarkHandSigned is
// the same request with nothing around it: signed, sent by an http.Client, answer into
// a struct. The difference is the price of knowing what may have rung.
func BenchmarkSmartCall(b *testing.B) {
	server := acceptingServer(b)
	client := newClient(b, server.URL)
	sendBy := time.Now().Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.SmartCall(b.Context(), newRequest("OUT1"), sendBy); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandSigned(b *testing.B) {
	server := acceptingServer(b)
	client := server.Client()
	client.Timeout = 10 * time.Second
	key := Key{ID: "id", Secret: newSecret(testSecret)}
	b.ReportAllocs()
	for b.Loop() {
		query, err := newRequest("OUT1").query()
		if err != nil {
			b.Fatal(err)
		}
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, server.URL+"/?"+query, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header = newSignable(req.Host, "SmartCall", query, "").header(key)
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var answer struct{ Code, CallId, Message, RequestId string }
		if err := errors.Join(err, json.Unmarshal(body, &answer)); err != nil || answer.CallId == "" {
			b.Fatal(err)
		}
	}
}

func acceptingServer(b *testing.B) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, acceptedBody("OUT1"))
	}))
	b.Cleanup(server.Close)
	return server
}

func BenchmarkDecodePush(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodePush([]byte(pushed)); err != nil {
			b.Fatal(err)
		}
	}
}
