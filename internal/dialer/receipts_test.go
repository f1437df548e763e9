package dialer_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"dialer/internal/simulator"
)

// A push is answered with 200 only when it is stored: a database that does not take it,
// on a node that has no disk for such cases, means that the platform is to come again.
func TestPushIsStoredBeforeItIsAnswered(t *testing.T) {
	t.Parallel()
	n := newNight(t, simulator.Config{})
	n.node(t)
	address := n.receipts.URL + "/receipts/main/" + receiptSecret
	push := func() int {
		t.Helper()
		resp, err := http.Post(address, "application/json", bytes.NewReader([]byte(`[{"call_id":"1","out_id":"2","status_code":"200000"}]`)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	stored := func() (count int) {
		t.Helper()
		if err := n.db.Pool().QueryRow(t.Context(), `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM stranger)`).Scan(&count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	taken := false
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for tries := 0; !taken; tries++ {
		if tries == 1000 {
			t.Fatal("the node takes no push")
		}
		<-tick.C
		taken = push() == http.StatusOK // until then it is starting
	}
	before := stored()
	if before == 0 {
		t.Error("a push was answered with 200 and is not stored")
	}
	// The table cannot be written for a moment.
	if _, err := n.db.Pool().Exec(t.Context(), `ALTER TABLE inbox ADD CONSTRAINT closed CHECK (false) NOT VALID`); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if status := push(); status != http.StatusServiceUnavailable {
			t.Fatalf("a push that cannot be stored is answered with %d, want 503", status)
		}
	}
	if _, err := n.db.Pool().Exec(t.Context(), `ALTER TABLE inbox DROP CONSTRAINT closed`); err != nil {
		t.Fatal(err)
	}
	if status := push(); status != http.StatusOK {
		t.Errorf("the push that came again is answered with %d", status)
	}
	if got := stored(); got != before+1 {
		t.Errorf("%d pushes are stored, want %d", got, before+1)
	}
}
