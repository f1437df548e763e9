package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// pushLimit is the time within which a push must be answered (help document 112503).
	pushLimit = 700 * time.Millisecond
	// pushesInFlight is enough for 5,000 reports/s in arrays of 50 to a listener that
	// needs the whole time limit.
	pushesInFlight = 128
)

// pusher gathers reports into arrays and delivers them, several at a time.
type pusher struct {
	s    *Simulator
	crew crew

	mu      sync.Mutex
	pending map[batchKey]*push
	lastID  int64
}

// batchKey tells which reports may share an array: addresses are configured per
// account and message type.
type batchKey struct {
	account *account
	report  string
}

// push is one array on its way.
type push struct {
	key   batchKey
	id    int64
	try   int
	items []Item
	body  []byte
}

func newPusher(s *Simulator) *pusher {
	return &pusher{s: s, crew: crew{limit: pushesInFlight}, pending: make(map[batchKey]*push)}
}

// add puts a report into the array that is being filled. A full one goes at once, the
// others PushEvery after their first report.
func (p *pusher) add(key batchKey, item Item, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.pending[key]
	if b == nil {
		p.lastID++
		b = &push{key: key, id: p.lastID}
		p.pending[key] = b
		p.s.agenda.at(time.Now().Add(p.s.config.PushEvery), func() { p.flush(b) })
	}
	b.items = append(b.items, item)
	b.body = append(append(b.body, ','), body...)
	if len(b.items) == p.s.config.PushBatch {
		p.send(b)
	}
}

func (p *pusher) flush(b *push) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending[b.key] == b {
		p.send(b)
	}
}

// send is called with the lock held.
func (p *pusher) send(b *push) {
	delete(p.pending, b.key)
	b.body[0] = '['
	b.body = append(b.body, ']')
	p.crew.do(func() { p.deliver(b) })
}

// deliver makes one try and plans the next, or is done with the array.
func (p *pusher) deliver(b *push) {
	s := p.s
	address := b.key.account.pushURL
	if address == "" {
		address = *s.pushURL.Load()
	}
	if address == "" {
		s.tally.unaddressed(len(b.items))
		s.busy.end(len(b.items))
		return
	}
	b.try++
	began := time.Now()
	status, err := s.post(address, b.body)
	if s.lifetime.Err() != nil {
		return // Close cut it short: it says nothing about the receiver
	}
	e := s.entry(KindPush, began)
	e.Account, e.PushID, e.Try, e.Report, e.Items = b.key.account.name, b.id, b.try, b.key.report, b.items
	e.Status, e.Acked, e.TookUS = status, err == nil, time.Since(began).Microseconds()
	e.GivenUp = !e.Acked && b.try > len(s.config.PushRetry)
	final := e.Acked || e.GivenUp
	s.record(e)
	if final {
		s.busy.end(len(b.items))
		return
	}
	wait := s.scaled(s.config.PushRetry[b.try-1])
	s.agenda.at(time.Now().Add(wait), func() { p.crew.do(func() { p.deliver(b) }) })
}

// post delivers an array. The documented check of the answer: status 200, and a JSON
// object with a numeric code, whatever its value ("HTTP batch push").
func (s *Simulator) post(address string, body []byte) (status int, err error) {
	ctx, cancel := context.WithTimeout(s.lifetime, pushLimit)
	defer cancel()
	status, answer, err := s.exchangeHTTP(ctx, address, "application/json;charset=UTF-8", body)
	if err != nil {
		return status, err
	}
	if status != http.StatusOK {
		return status, fmt.Errorf("push: status %d", status)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(answer, &fields); err != nil {
		return status, fmt.Errorf("push: answer is not a JSON object: %w", err)
	}
	if code := fields["code"]; len(code) == 0 || (code[0] != '-' && !digits(string(code[:1]))) {
		return status, fmt.Errorf("push: answer has no numeric code")
	}
	return status, nil
}

// exchangeHTTP sends a POST and reads at most 64 KiB of the answer. The status is 0
// when none came.
func (s *Simulator) exchangeHTTP(ctx context.Context, address, contentType string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, answer, err
}
