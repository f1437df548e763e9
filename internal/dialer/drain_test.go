package dialer_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/simulator"
)

// A node that was told to stop takes receipts for as long as requests are in hand, and
// asks the platform to come again when it has ended.
func TestReceiptsAreTakenWhileStopping(t *testing.T) {
	t.Parallel()
	const contacts = 5
	n := newNight(t, simulator.Config{Faults: simulator.Faults{Delay: simulator.Range{Min: 2 * time.Second, Max: 2 * time.Second}}})
	stop := n.node(t)
	c := n.campaign(t, "stopping", contacts, nil)
	handler := n.receipts.Config.Handler
	push := func() int {
		body := fmt.Sprintf(`[{"call_id":"%d","out_id":"somebody's","status_code":"200002"}]`, time.Now().UnixNano())
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/receipts/main/"+receiptSecret, strings.NewReader(body)))
		return answer.Code
	}
	n.until(t, c.ID, "every request is in hand", func(p campaign.Progress) bool { return p.Attempts == contacts })
	began := time.Now()
	var stopping sync.WaitGroup
	stopping.Go(stop)
	var last time.Duration // when a receipt was taken last
	for status := http.StatusOK; status != http.StatusServiceUnavailable; {
		if status = push(); status == http.StatusOK {
			last = time.Since(began)
		}
	}
	stopping.Wait()
	if p, err := n.db.Progress(t.Context(), c.ID); err != nil || p.Accepted != contacts {
		t.Errorf("progress %+v, %v: want %d accepted", p, err, contacts)
	}
	if last < time.Second {
		t.Errorf("the last receipt was taken %s after the signal, requests were in hand for two seconds", last)
	}
	if status := push(); status != http.StatusServiceUnavailable {
		t.Errorf("a receipt after the end was answered with %d", status)
	}
}
