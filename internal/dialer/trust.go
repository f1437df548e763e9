package dialer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dialer/internal/campaign"
)

// errUnwitnessed: nobody has vouched for the database server since it was started, and
// this node remembers nothing of the account by which it could.
var errUnwitnessed = errors.New("the database server was started since the account was dialled last, and this node has no journal of the account: " +
	"a node that has one may go on, or a person says with 'dialer recover' that it is the right database")

// trust decides whether the database remembers every intent of an account, as far as
// anybody can tell, and returns its newest batch. If not, the account is paused for a
// person: whom the forgotten intents called looks as if nobody had called.
func (d *Dialer) trust(ctx context.Context, a *account, lease campaign.Lease, log *slog.Logger) (campaign.LastBatch, error) {
	// The journals first: a batch is in the database before it is in a journal, so what
	// they know now the database must have later. The other way round, a node that slept
	// in between and has lost its lease would miss what its successor wrote meanwhile.
	known, err := d.memory.of(a.id)
	if err != nil {
		return campaign.LastBatch{}, err
	}
	last, err := d.DB.LastBatch(ctx, a.id)
	if err != nil {
		return last, err
	}
	switch campaign.Judge(last.Seq, known, lease.Server, lease.Vouched, lease.Synchronous && d.TrustStandby) {
	case campaign.MayVouch:
		what := "the database server was started again"
		if campaign.Promoted(lease.Server, lease.Vouched) {
			what = "a standby for which every commit had waited has taken over from the database server"
		}
		log.Info(what+": every intent this node remembers is there", "batch", last.Seq)
		if err := d.DB.Vouch(ctx, lease); err != nil {
			return last, err
		}
	case campaign.Unwitnessed:
		return last, errUnwitnessed
	case campaign.Replaced:
		return last, d.distrust(ctx, a, fmt.Sprintf("the database is another server, timeline or database than the one on which the account was dialled last "+
			"(it has batch %d of %s): it was restored, cloned, moved or failed over, and intents may be missing; see 'dialer recover'", last.Seq, clock(last.At)))
	case campaign.Forgotten:
		return last, d.distrust(ctx, a, forgotten(last, known))
	}
	return last, d.memory.begin(a.id, d.node, last)
}

func forgotten(last campaign.LastBatch, known int64) string {
	return fmt.Sprintf("the database has forgotten intents (it has batch %d of %s, this node remembers %d): it was restored, or failed over with a loss; see 'dialer recover'",
		last.Seq, clock(last.At), known)
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "no time"
	}
	return t.Format(time.DateTime + " Z07:00")
}

// errDistrusted wraps the reason for which an account waits for a person.
var errDistrusted = errors.New("not dialling")

// distrust pauses an account and returns the reason as an error.
func (d *Dialer) distrust(ctx context.Context, a *account, reason string) error {
	return errors.Join(fmt.Errorf("%w: %s", errDistrusted, reason), d.DB.PauseAccount(ctx, a.id, reason, time.Now()))
}
