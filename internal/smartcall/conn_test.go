package smartcall

import (
	"context"
	"net"
	"testing"
	"time"
)

// Once an answer went to the wrong request, every later one on the connection did,
// also to a request that had the connection before it could be closed.
func TestShiftTaintsWhatFollows(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close(); _ = far.Close() }()
	c := &conn{Conn: near}
	var flights []*flight
	for range 4 {
		ctx, abandon := context.WithCancelCause(t.Context())
		defer abandon(nil)
		f := newFlight(ctx, abandon, time.Now().Add(time.Second))
		attach(f, c)
		f.conn = c
		flights = append(flights, f)
	}
	for i, want := range []struct {
		requestID string
		doubled   bool
	}{{"a", false}, {"b", false}, {"b", true}, {"c", true}} {
		f := flights[i]
		if got := f.doubled(want.requestID); got != want.doubled {
			t.Errorf("answer %d with request id %s: doubled %v", i, want.requestID, got)
		}
		f.judge(want.requestID)
		if f.previous != nil {
			t.Errorf("request %d keeps the one before alive", i)
		}
	}
	// Answers without a request id cannot be told apart, which proves nothing.
	first, second := &flight{judged: make(chan struct{})}, &flight{}
	first.judge("")
	second.previous = first
	if second.doubled("") {
		t.Error("two answers without a request id count as doubled")
	}
}
