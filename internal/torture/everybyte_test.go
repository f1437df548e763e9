package torture

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// Number 3 of the tests with most harm per hour (faults C2 and C4): the connection to
// the platform is cut after byte k of the request, and after byte k of the response,
// for every k. Whatever was written and not answered in full is unknown, and is not
// made again; the receipt settles it where the platform had accepted it. When not one
// byte could be written, and only then, the contact is called later.
func TestCutAtEveryByte(t *testing.T) {
	step, within := 16, 2*time.Minute
	if Long() {
		step, within = 1, 5*time.Minute
	}
	// A connection for each request, so that the n-th connection is the n-th request.
	night := NewNight(t, NightOptions{Platform: func(platform http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			platform.ServeHTTP(w, r)
		})
	}})
	proxy := NewProxy(t, "tcp", night.Endpoint[len("http://"):])
	night.Endpoint = "http://" + proxy.Addr()
	night.Account()
	db := night.DB()
	night.StartNode(t, NodeOptions{Name: "one", Args: []string{"--timeout", "5s"}})

	night.Campaign("whole", 13700000000, 1)
	night.Dialer("campaign", "start", "whole")
	night.settle(t, db, within)
	whole := proxy.Stats()
	if whole.Connections != 1 || whole.Request < 500 || whole.Response < 200 {
		t.Fatalf("a whole exchange: %+v", whole)
	}

	// One request is cut, the next is whole: many in a row would pause the campaign.
	var cuts []Plan
	for k := int64(0); k < whole.Request; k += int64(step) {
		cuts = append(cuts, Plan{Request: Way{Cut: &Cut{After: k, How: How(len(cuts) % 3)}}})
	}
	requests := len(cuts)
	for k := int64(0); k < whole.Response; k += int64(step) {
		cuts = append(cuts, Plan{Response: Way{Cut: &Cut{After: k, How: How(len(cuts) % 3)}}})
	}
	proxy.Plan(func(conn int) Plan {
		conn -= whole.Connections
		if conn%2 == 0 && conn/2 <= len(cuts) {
			return cuts[conn/2-1]
		}
		return Plan{}
	})
	night.Campaign("cut", 13800000000, 2*len(cuts), "pace: 200")
	night.Dialer("campaign", "start", "cut")
	night.settle(t, db, within)
	v := night.judge(t, db)
	t.Logf("%d cuts of a request of %d bytes, %d of a response of %d: %+v", requests, whole.Request, len(cuts)-requests, whole.Response, v)
	// An answer may be a byte shorter than the one that was measured.
	if v.doubted < len(cuts)-2 || v.doubted > len(cuts) || v.unsent != 0 {
		t.Errorf("%+v, want the %d cut requests in doubt and none unsent", v, len(cuts))
	}
	if v.unknown != requests || v.neverSent != 0 || v.called != 1+2*len(cuts)-requests {
		t.Errorf("%+v, want the %d cut requests unknown and everybody else called", v, requests)
	}
	if got, want := proxy.Stats().Connections, 1+2*len(cuts); got != want {
		t.Errorf("%d connections for %d requests", got, want)
	}

	// Refused connections: not one byte was written.
	proxy.Plan(func(int) Plan { return Plan{} })
	proxy.Refuse()
	before := v
	const refused = 20
	night.Campaign("refused", 13900000000, refused)
	night.Dialer("campaign", "start", "refused")
	Eventually(t, within, "attempts that could not be sent", func() (bool, string) {
		var n int
		must(t, db.Pool().QueryRow(t.Context(), `SELECT count(*) FROM response WHERE class = 'unsent'`).Scan(&n))
		return n > 0, fmt.Sprint(n)
	})
	must(t, proxy.Heal())
	night.settle(t, db, within)
	v = night.judge(t, db)
	if v.unsent == 0 || v.called != before.called+refused || v.unknown != before.unknown || v.doubted != before.doubted {
		t.Errorf("%+v after %+v, want %d more called, and nothing else in doubt", v, before, refused)
	}
}
