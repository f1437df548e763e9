package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// Run is an open run and what its node needs to know to dial it.
type Run struct {
	ID        campaign.RunID
	Campaign  campaign.ID
	AccountID campaign.AccountID
	Spec      campaign.Campaign // as it was when the run began
	Running   bool              // false: paused
	StartedAt time.Time
	// UptoN is the campaign's cursor, Contacts its last contact's number.
	UptoN, Contacts int32
}

// Start opens a run of the campaign, as a person wants it, and returns it. If one
// is open already it returns that one and false: starting twice is starting once.
func (db *DB) Start(ctx context.Context, id campaign.ID, at time.Time) (run campaign.RunID, started bool, err error) {
	err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		run, started = 0, false
		var state campaign.State
		err := tx.QueryRow(ctx, `SELECT state FROM campaign WHERE campaign_id = $1 FOR UPDATE`, id).Scan(&state)
		if err != nil {
			return notFound(err, "campaign %d", id)
		}
		if state == campaign.Cancelled {
			return errors.New("it is cancelled: a cancelled campaign is never dialled again")
		}
		err = tx.QueryRow(ctx, `SELECT run_id FROM run WHERE campaign_id = $1 AND ended_at IS NULL`, id).Scan(&run)
		if err == nil {
			return nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		run, err = openRun(ctx, tx, id, time.Time{}, at)
		started = true
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("start campaign: %w", err)
	}
	return run, started, nil
}

// openRun inserts a run and sets its campaign running. The campaign's row is locked.
func openRun(ctx context.Context, tx pgx.Tx, id campaign.ID, planned, at time.Time) (campaign.RunID, error) {
	var run campaign.RunID
	err := tx.QueryRow(ctx, `
		INSERT INTO run (account_id, campaign_id, version, planned_at, started_at)
		SELECT account_id, campaign_id, version, $2, $3 FROM campaign WHERE campaign_id = $1
		RETURNING run_id`, id, null(planned), at).Scan(&run)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `UPDATE campaign SET state = 'running', reason = '', changed_at = $2 WHERE campaign_id = $1`, id, at)
	return run, err
}

// EndRun closes a run and leaves its campaign idle.
func (db *DB) EndRun(ctx context.Context, run campaign.RunID, reason string, at time.Time) error {
	_, err := db.pool.Exec(ctx, `
		WITH ended AS (
			UPDATE run SET ended_at = greatest(started_at, $3), end_reason = $2::run_end
			 WHERE run_id = $1 AND ended_at IS NULL
			RETURNING campaign_id
		)
		UPDATE campaign c SET state = 'idle', reason = '', changed_at = $3
		  FROM ended
		 WHERE c.campaign_id = ended.campaign_id AND c.state IN ('running', 'paused')`, run, reason, at)
	if err != nil {
		return fmt.Errorf("end run %d: %w", run, err)
	}
	return nil
}

// OpenRuns returns the open runs of an account.
func (db *DB) OpenRuns(ctx context.Context, account campaign.AccountID) ([]Run, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT r.run_id, r.campaign_id, r.account_id, v.spec, c.state = 'running', r.started_at,
		       coalesce((SELECT upto_n FROM batch b WHERE b.account_id = $1 AND b.campaign_id = r.campaign_id ORDER BY seq DESC LIMIT 1), 0),
		       coalesce((SELECT max(last_n) FROM import i WHERE i.account_id = $1 AND i.campaign_id = r.campaign_id), 0)
		  FROM run r
		  JOIN campaign c USING (campaign_id)
		  JOIN campaign_version v ON v.campaign_id = r.campaign_id AND v.version = r.version
		 WHERE r.account_id = $1 AND r.ended_at IS NULL
		 ORDER BY r.run_id`, account)
	runs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Run, error) {
		var r Run
		var spec []byte
		if err := row.Scan(&r.ID, &r.Campaign, &r.AccountID, &spec, &r.Running, &r.StartedAt, &r.UptoN, &r.Contacts); err != nil {
			return r, err
		}
		return r, json.Unmarshal(spec, &r.Spec)
	})
	if err != nil {
		return nil, fmt.Errorf("open runs of account %d: %w", account, err)
	}
	return runs, nil
}

// FireSchedules opens a run for every campaign whose next firing is due, advances
// next_run_at by next in the same transaction, and returns how many runs it opened.
// A firing while the campaign's last run is still open is recorded as skipped, and
// so is one that comes more than grace late: nobody is called at three in the morning
// because a machine was down at eight in the evening. Any number of nodes may call
// it: each firing has one row.
func (db *DB) FireSchedules(ctx context.Context, at time.Time, grace time.Duration, next func(campaign.Schedule, time.Time) (time.Time, error)) (int, error) {
	opened := 0
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		opened = 0
		rows, _ := tx.Query(ctx, selectCampaign+`
			 WHERE c.next_run_at <= $1 AND c.state <> 'cancelled'
			   FOR UPDATE OF c SKIP LOCKED`, at)
		due, err := pgx.CollectRows(rows, scanCampaign)
		if err != nil {
			return err
		}
		for _, c := range due {
			planned := c.NextRunAt
			var note string
			switch late := at.Sub(planned); {
			case c.State == campaign.Running || c.State == campaign.Paused:
				note = "the run before it is still open"
			case late > grace:
				note = fmt.Sprintf("no node was there at the time: %s late", late.Round(time.Second))
			}
			if note == "" {
				if _, err := openRun(ctx, tx, c.ID, planned, at); err != nil {
					return err
				}
				opened++
			} else if _, err := tx.Exec(ctx, `
				INSERT INTO run (account_id, campaign_id, version, planned_at, ended_at, end_reason, note)
				VALUES ($1, $2, $3, $4, $5, 'skipped', $6)`, c.AccountID, c.ID, c.Version, planned, at, note); err != nil {
				return err
			}
			var following time.Time
			if c.Spec.Schedule != nil {
				// From now, not from the planned time: firings that were missed are not made up for.
				if following, err = next(*c.Spec.Schedule, at); err != nil {
					return fmt.Errorf("campaign %s: %w", c.Spec.Name, err)
				}
			}
			if _, err := tx.Exec(ctx, `UPDATE campaign SET next_run_at = $2 WHERE campaign_id = $1`, c.ID, null(following)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("fire schedules: %w", err)
	}
	return opened, nil
}

// RunState tells whether a run is open, and if not, why it ended.
func (db *DB) RunState(ctx context.Context, run campaign.RunID) (open bool, reason string, err error) {
	var end *string
	err = db.pool.QueryRow(ctx, `SELECT end_reason::text FROM run WHERE run_id = $1`, run).Scan(&end)
	if err != nil {
		return false, "", fmt.Errorf("run: %w", notFound(err, "no run has the number %d", run))
	}
	if end == nil {
		return true, "", nil
	}
	return false, *end, nil
}
