package dialer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/failpoint"
	"dialer/internal/smartcall"
)

const (
	// maxPush bounds a pushed body. The largest batch of the platform is not documented.
	maxPush = 2 << 20
	// pushAnswer is how long a push may wait for its commit: the platform waits 700 ms,
	// its network included, and comes again after a 503 (help document 112503).
	pushAnswer = 500 * time.Millisecond
	// pushesAtOnce bounds the pushes that wait for a commit; more are asked to come again.
	pushesAtOnce = 256
)

// inbox gathers pushes so that many share a commit.
type inbox struct {
	pushes chan push
	// arrived is sent on when there is something to apply.
	arrived chan struct{}
}

type push struct {
	body   []byte
	stored chan error
}

func newInbox() *inbox {
	return &inbox{pushes: make(chan push, pushesAtOnce), arrived: make(chan struct{}, 1)}
}

// Receipts returns the handler of the path /receipts/{account}/{secret}, to which the
// platform pushes its reports. A push is answered with {"code":0} only when it is
// committed to the database. It may be served before and after Run, but only while Run
// works are pushes stored.
func (d *Dialer) Receipts() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /receipts/{account}/{secret}", d.receive)
	return mux
}

func (d *Dialer) receive(w http.ResponseWriter, r *http.Request) {
	a, ready := d.addressee(r.PathValue("account"), r.PathValue("secret"))
	if !ready {
		answer(w, http.StatusServiceUnavailable, "starting, come again")
		return
	}
	if a == nil {
		answer(w, http.StatusNotFound, "unknown address")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
	if err != nil {
		if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
			answer(w, http.StatusRequestEntityTooLarge, "too big")
		} else {
			answer(w, http.StatusBadRequest, "not read")
		}
		return
	}
	_, test, err := smartcall.DecodePush(body)
	if err != nil {
		d.Log.Warn("a push cannot be read", "account", r.PathValue("account"), "bytes", len(body), "err", err)
		answer(w, http.StatusBadRequest, "not a JSON array of reports")
		return
	}
	if test {
		answer(w, http.StatusOK, "ok")
		return
	}
	p := push{body, make(chan error, 1)}
	late := time.NewTimer(pushAnswer)
	defer late.Stop()
	select {
	case a.inbox.pushes <- p:
	default:
		answer(w, http.StatusServiceUnavailable, "too many at once, come again")
		return
	}
	select {
	case err = <-p.stored:
	case <-late.C:
		err = errors.New("the database is slow")
	}
	if err != nil {
		// It may be stored all the same; then it comes twice, and counts once.
		answer(w, http.StatusServiceUnavailable, "not stored, come again")
		return
	}
	answer(w, http.StatusOK, "ok")
}

// answer writes what the platform looks at: the status and a numeric code.
func answer(w http.ResponseWriter, status int, msg string) {
	code := status
	if status == http.StatusOK {
		code = 0
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"code":%d,"msg":%q}`, code, msg)
}

// addressee returns the account of a path, if the secret is right, and whether the
// accounts are known at all yet. The comparison takes as long for a wrong secret.
func (d *Dialer) addressee(name, secret string) (a *account, ready bool) {
	d.mu.Lock()
	ready = len(d.accounts) > 0
	var found *account
	var ref string
	for _, a := range d.accounts {
		if a.spec.Name == name {
			found, ref = a, a.spec.ReceiptSecret
		}
	}
	d.mu.Unlock()
	want := ""
	if ref != "" {
		var err error
		if want, err = d.Secret(ref); err != nil {
			d.Log.Error("receipts are refused", "account", name, "err", err)
		}
	}
	x, y := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(x[:], y[:]) != 1 || want == "" {
		return nil, ready
	}
	return found, ready
}

// storePushes commits pushes, as many together as have come.
func (d *Dialer) storePushes(ctx context.Context, a *account) {
	for {
		var batch []push
		select {
		case p := <-a.inbox.pushes:
			batch = append(batch, p)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(batch) < pushesAtOnce; {
			select {
			case p := <-a.inbox.pushes:
				batch = append(batch, p)
			default:
				more = false
			}
		}
		bodies := make([][]byte, len(batch))
		for i, p := range batch {
			bodies[i] = p.body
		}
		store, cancel := context.WithTimeout(context.WithoutCancel(ctx), pushAnswer)
		err := d.DB.StorePushes(store, a.id, bodies, time.Now())
		cancel()
		if err != nil {
			d.Log.Warn("pushes not stored: the platform will send them again", "pushes", len(batch), "err", err)
		}
		failpoint.Hit(failpoint.AfterStore)
		for _, p := range batch {
			p.stored <- err
		}
		select {
		case a.inbox.arrived <- struct{}{}:
		default:
		}
	}
}

// applyPushes applies what is in the account's inbox, whichever node stored it.
func (d *Dialer) applyPushes(ctx context.Context, a *account) {
	key := d.DB.OutIDKey()
	parse := func(body []byte) []campaign.Receipt { return read(key, body) }
	// One that finds nothing looks again after a while: a node may have died between
	// storing and applying.
	const lookAgain = time.Second
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-a.inbox.arrived:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			failpoint.Hit(failpoint.BeforeApply)
			settled, pushes, err := d.DB.ApplyInbox(ctx, a.id, d.node, 100, time.Now(), parse)
			if err != nil {
				if ctx.Err() == nil {
					d.Log.Warn("apply receipts: trying again", "err", err)
					sleep(ctx, lookAgain)
				}
				break
			}
			a.lines.free(settled...)
			if pushes == 0 {
				break
			}
		}
		timer.Reset(lookAgain)
	}
}
