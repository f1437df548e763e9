package simulator

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLedgerRoundTrip(t *testing.T) {
	var buffer bytes.Buffer
	l := newLedger(&buffer)
	at := time.Date(2026, 3, 2, 2, 0, 1, 123456789, time.UTC)
	want := []Entry{
		{Kind: KindRequest, Wall: at, MonoUS: 5, Account: "main", OutID: "A<&>\"", Verdict: VerdictAccepted, Code: "OK", CallID: "1^2", Answered: true, Status: 200, Overlap: true, Repeat: true},
		{Kind: KindCall, Wall: at, Outcome: "answered", StatusCode: "200000", DurationS: 28, AcceptedAt: at, EndedAt: at.Add(time.Minute), Lost: true},
		{Kind: KindPush, Wall: at, PushID: 7, Try: 2, Report: voiceReport, Items: []Item{{"1^2", "A"}, {"3^4", ""}}, Acked: true, Status: 200, TookUS: 12},
		{Kind: KindCallback, Wall: at, Reply: "hangup"},
	}
	for _, e := range want {
		l.put(&e)
	}
	l.sync()
	if got := entries(t, &buffer); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}

	torn := buffer.Bytes()[:buffer.Len()-3]
	n, last := 0, error(nil)
	for _, err := range ReadLedger(bytes.NewReader(torn)) {
		if last = err; err == nil {
			n++
		}
	}
	if n != 3 || !errors.Is(last, io.ErrUnexpectedEOF) {
		t.Errorf("torn ledger: %d entries and error %v, want 3 and an unexpected end", n, last)
	}
	for _, err := range ReadLedger(strings.NewReader("{}\nnonsense\n")) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "line 2") {
		t.Errorf("got error %v, want one that names line 2", last)
	}
}

// The ledger reaches its file by itself, within its 100 ms.
func TestLedgerIsFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written atomic.Int64
		l := newLedger(writerFunc(func(b []byte) (int, error) {
			written.Add(int64(bytes.Count(b, []byte("\n"))))
			return len(b), nil
		}))
		l.put(&Entry{Kind: KindCall})
		<-time.After(flushEvery - 1)
		synctest.Wait()
		if written.Load() != 0 {
			t.Error("written before its time: the test proves nothing")
		}
		<-time.After(1)
		synctest.Wait()
		if written.Load() != 1 {
			t.Error("not flushed after 100 ms")
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLedgerErrorIsReported(t *testing.T) {
	full := errors.New("no space left")
	config := testConfig()
	config.Ledger = writerFunc(func([]byte) (int, error) { return 0, full })
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	place(t, s, orderOf(1))
	if err := s.Close(); !errors.Is(err, full) {
		t.Errorf("Close: got %v, want %v", err, full)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
