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
	"dialer/internal/postgres"
	"dialer/internal/smartcall"
)

const (
	// maxPush bounds a pushed body. The largest batch of the platform is not documented.
	maxPush = 2 << 20
	// pushAnswer is how long a push may wait for its answer: the platform waits 700 ms,
	// its network included, and comes again after a 503 (help document 112503).
	pushAnswer = 600 * time.Millisecond
	// pushStore is how long after its arrival a push may wait for the database. What is
	// left of pushAnswer then is for the disk.
	pushStore = 300 * time.Millisecond
	// pushesAtOnce bounds the pushes that wait for a commit; more are asked to come again.
	pushesAtOnce = 256
	// replayMost is how long the database may take for a segment of the spool, for which
	// nobody waits.
	replayMost = 10 * time.Second
	// applyMost is how long it may take to apply some pushes. A server that has stopped
	// answering without closing the connection must not hold up the receipts for ever.
	applyMost = 30 * time.Second
)

// inbox gathers pushes so that many share a commit.
type inbox struct {
	pushes chan push
	// arrived is sent on when there is something to apply.
	arrived chan struct{}
}

type push struct {
	body   []byte
	came   time.Time
	stored chan error
}

func newInbox() *inbox {
	return &inbox{pushes: make(chan push, pushesAtOnce), arrived: make(chan struct{}, 1)}
}

// Receipts returns the handler of the path /receipts/{account}/{secret}, to which the
// platform pushes its reports. A push is answered with {"code":0} only when it is
// committed to the database or, while that is away, synced to this machine's disk. It
// may be served before and after Run, but only while Run works are pushes stored.
func (d *Dialer) Receipts() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /receipts/{account}/{secret}", d.receive)
	return mux
}

func (d *Dialer) receive(w http.ResponseWriter, r *http.Request) {
	came := time.Now()
	a, ready := d.addressee(r.PathValue("account"), r.PathValue("secret"))
	if !ready {
		answer(w, http.StatusServiceUnavailable, "starting or stopping, come again")
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
	p := push{body, came, make(chan error, 1)}
	late := time.NewTimer(time.Until(came.Add(pushAnswer)))
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
		err = errors.New("database and disk are slow")
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

// addressee returns the account of a path, if the secret is right, and whether pushes
// are taken at all: the accounts are known, and the node has not stopped. The
// comparison takes as long for a wrong secret.
func (d *Dialer) addressee(name, secret string) (a *account, ready bool) {
	d.mu.Lock()
	ready = len(d.accounts) > 0 && !d.stopped
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

// storePushes makes pushes durable, as many together as have come. It goes on after the
// node was told to stop, for as long as requests are in hand.
func (d *Dialer) storePushes(a *account) {
	for {
		var batch []push
		select {
		case p := <-a.inbox.pushes:
			batch = append(batch, p)
		case <-d.taking.Done():
		}
		for more := true; more && len(batch) < pushesAtOnce; {
			select {
			case p := <-a.inbox.pushes:
				batch = append(batch, p)
			default:
				more = false
			}
		}
		if len(batch) == 0 {
			return // stopped, and nothing waits
		}
		err := d.keep(a, batch)
		if err != nil {
			d.Log.Warn("pushes not stored: the platform will send them again", "pushes", len(batch), "err", err)
		}
		for _, p := range batch {
			p.stored <- err
		}
	}
}

// keep puts pushes into the database or, if it does not take them in time, into the
// spool. While the spool is being emptied, pushes of the same account go into the
// database beside it: receipts come in any order anyway, because the platform repeats
// what was not answered minutes later, and of two that end an attempt the first one
// applied stands, whichever it is. Waiting for the spool would only make it longer.
func (d *Dialer) keep(a *account, batch []push) error {
	// The first failure costs its pushes half of their time. Those after it do not try:
	// it is the replay that finds out when the database is back. There is nothing to
	// replay if the disk did not take the pushes, so then each batch tries.
	if d.spool == nil || !d.away.Load() || d.spool.empty() {
		err := d.commit(a, batch)
		if err == nil || d.spool == nil {
			return err
		}
		if !d.away.Swap(true) {
			d.Log.Warn("the database does not take receipts: they are kept on disk until it does", "err", err)
		}
	}
	pushes := make([]spooled, len(batch))
	for i, p := range batch {
		pushes[i] = spooled{Account: a.id, ReceivedAt: p.came, Body: p.body}
	}
	if err := d.spool.append(pushes); err != nil {
		return err
	}
	failpoint.Hit(failpoint.AfterSpool)
	return nil
}

// commit puts pushes into the database, if it takes them in time for an answer.
func (d *Dialer) commit(a *account, batch []push) error {
	pushes := make([]postgres.Push, len(batch))
	for i, p := range batch {
		pushes[i] = postgres.Push{ReceivedAt: p.came, Body: p.body}
	}
	store, cancel := context.WithDeadline(context.Background(), batch[0].came.Add(pushStore))
	defer cancel()
	if err := d.DB.StorePushes(store, a.id, pushes); err != nil {
		return err
	}
	failpoint.Hit(failpoint.AfterStore)
	a.inbox.tell()
	return nil
}

// tell says that there is something to apply.
func (i *inbox) tell() {
	select {
	case i.arrived <- struct{}{}:
	default:
	}
}

// replay brings what is in the spool into the database: this process's own pushes, and
// now and then those of processes that have ended.
func (d *Dialer) replay(ctx context.Context) {
	const (
		look    = 250 * time.Millisecond
		longest = time.Second // between two tries; calling goes on within 5 s of the database
		others  = 3 * time.Second
	)
	store := func(pushes []spooled) error { return d.unspool(ctx, pushes) }
	wait, looked := look, time.Time{}
	for ctx.Err() == nil {
		taken, err := d.spool.drain(store)
		if err == nil && time.Since(looked) > others {
			var left int
			left, err = d.spool.leftSpools(store)
			taken += left
			looked = time.Now()
		}
		if taken > 0 {
			d.Log.Info("receipts that were kept on disk are in the database", "pushes", taken)
		}
		switch {
		case err == nil:
			wait = look
		case ctx.Err() == nil:
			d.Log.Debug("receipts stay on disk for now", "err", err)
			wait = min(2*wait, longest)
		}
		sleep(ctx, wait)
	}
}

// unspool puts pushes from the spool into the database. It keeps the order of each
// account. There is no push that the database refuses for what it says, so one that
// fails holds up the others only until the database is well again.
func (d *Dialer) unspool(ctx context.Context, pushes []spooled) error {
	ctx, cancel := context.WithTimeout(ctx, replayMost)
	defer cancel()
	byAccount := make(map[campaign.AccountID][]postgres.Push)
	for _, p := range pushes {
		byAccount[p.Account] = append(byAccount[p.Account], postgres.Push{ReceivedAt: p.ReceivedAt, Body: p.Body})
	}
	for id, pushes := range byAccount {
		if err := d.DB.StorePushes(ctx, id, pushes); err != nil {
			return err
		}
		d.away.Store(false)
		d.mu.Lock()
		if a := d.accounts[id]; a != nil {
			a.inbox.tell()
		}
		d.mu.Unlock()
	}
	return nil
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
			try, cancel := context.WithTimeout(ctx, applyMost)
			settled, pushes, err := d.DB.ApplyInbox(try, a.id, d.node, 100, time.Now(), parse)
			cancel()
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
