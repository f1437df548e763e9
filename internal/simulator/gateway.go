package simulator

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"time"
)

// apiVersion is the only version of the product Dyvmsapi (public metadata).
const apiVersion = "2017-05-25"

// answer is what the gateway does with a request.
type answer struct {
	status   int
	body     []byte
	html     bool
	location string
	silent   bool // keep the connection open and say nothing
	cut      bool // close the connection instead
	delay    time.Duration
}

// ServeHTTP answers one request as the platform's gateway would. Its arrival is the
// moment at which the whole request was read.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.busy.begin(1)
	defer s.busy.end(1)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
		}
		return // a request that never came whole is no request
	}
	arrival := time.Now()
	a, e := s.handle(r, body, arrival)
	answered := !a.silent && !a.cut
	if answered && a.delay > 0 {
		answered = s.pause(r, a.delay)
	}
	if e.Answered = answered; answered {
		e.Status = a.status
	}
	s.record(e)
	switch {
	case answered:
		a.write(w)
	case a.silent:
		select {
		case <-r.Context().Done():
		case <-s.lifetime.Done():
		}
		hangUp(w)
	default:
		hangUp(w)
	}
}

// pause returns false when the sender went away meanwhile.
func (s *Simulator) pause(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.lifetime.Done():
	}
	return false
}

// handle decides about a request and, if it comes to that, places its call.
func (s *Simulator) handle(r *http.Request, body []byte, arrival time.Time) (answer, *Entry) {
	e := s.entry(KindRequest, arrival)
	e.Verdict = VerdictRefused
	refuse := func(no *refusal) (answer, *Entry) {
		e.Code = no.code
		return no.answer(r.Host), e
	}
	if r.URL.Path != "/" {
		return refuse(gateway(404, "InvalidApi.NotFound", "Specified api is not found, please check your url and method."))
	}
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return refuse(gateway(403, "UnsupportedHTTPMethod", "This http method is not supported."))
	}
	env, no := open(r, body)
	if no != nil {
		return refuse(no)
	}
	who, no := s.verify(env, arrival)
	if who.account != nil {
		e.Account, e.Action = who.account.name, who.action
	}
	if no != nil {
		return refuse(no)
	}
	if who.version != apiVersion {
		return refuse(gateway(404, "InvalidVersion", "Specified parameter Version is not valid."))
	}
	switch who.action {
	case "SmartCall":
		return s.smartCall(env, who, arrival, e)
	case "QueryCallDetailByCallId":
		e.Kind = KindQuery
		return s.query(env, who, arrival, e)
	}
	return refuse(gateway(404, "InvalidAction.NotFound", "Specified action is not found."))
}

// open decodes the parameters of a request.
func open(r *http.Request, body []byte) (*envelope, *refusal) {
	env := &envelope{method: r.Method, host: r.Host, header: r.Header, body: body}
	var err error
	if env.query, err = parseParams(r.URL.RawQuery); err != nil {
		return nil, gateway(400, "InvalidParameter", err.Error())
	}
	env.all = env.query
	if len(body) > 0 {
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if kind == "application/x-www-form-urlencoded" {
			if env.all, err = parseParams(r.URL.RawQuery, string(body)); err != nil {
				return nil, gateway(400, "InvalidParameter", err.Error())
			}
		}
	}
	return env, nil
}

func (a answer) write(w http.ResponseWriter) {
	header := w.Header()
	switch {
	case a.html:
		header.Set("Content-Type", "text/html; charset=utf-8")
	case a.location != "":
		header.Set("Location", a.location)
	default:
		header.Set("Content-Type", "application/json;charset=utf-8")
	}
	w.WriteHeader(a.status)
	// A sender that went away is its own affair; what is true is in the ledger.
	_, _ = w.Write(a.body)
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // not HTTP/1: the server closes the stream instead
	}
	_ = conn.Close()
}

// answer renders the refusal: gateway errors carry HostId and Recommend, those of the
// service do not.
func (no *refusal) answer(host string) answer {
	body := struct {
		Code, Message, RequestId string
		HostId, Recommend        string `json:",omitempty"`
	}{Code: no.code, Message: no.message, RequestId: requestID()}
	if !no.business {
		body.HostId = host
		body.Recommend = "https://api.aliyun.com/troubleshoot?q=" + no.code
	}
	return answer{status: no.status, body: marshal(body)}
}

// accepted is the answer to a SmartCall that went well. Both ids are digits, ^ and
// letters only, so nothing needs escaping.
func accepted(callID string) answer {
	b := make([]byte, 0, 160)
	b = append(b, `{"Code":"OK","Message":"OK","RequestId":"`...)
	b = append(b, requestID()...)
	if callID != "" {
		b = append(b, `","CallId":"`...)
		b = append(b, callID...)
	}
	b = append(b, `"}`...)
	return answer{status: http.StatusOK, body: b}
}

// requestID is an upper-case UUID.
func requestID() string {
	const hex = "0123456789ABCDEF"
	var b [36]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range b {
		switch i {
		case 8, 13, 18, 23:
			b[i] = '-'
			continue
		}
		b[i] = hex[hi>>60]
		hi = hi<<4 | lo>>60
		lo <<= 4
	}
	b[14] = '4'
	return string(b[:])
}

// marshal encodes values whose types cannot fail.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("simulator: encode an answer: " + err.Error())
	}
	return b
}
