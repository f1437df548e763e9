package sdktest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// recordQueries serves a platform that accepts everything and notes the parameters.
func recordQueries(t *testing.T, seen *[]url.Values) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*seen = append(*seen, r.URL.Query())
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"Code":"OK","CallId":"1^2","RequestId":"5E0C6F9B-1F0A-4E6E-9A51-0C9B7A1D2E3F"}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
