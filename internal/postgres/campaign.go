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

// Campaign is a campaign as stored, with the version of its file in force.
type Campaign struct {
	ID        campaign.ID
	AccountID campaign.AccountID
	Version   int
	Spec      campaign.Campaign
	State     campaign.State
	Reason    string    // why it is paused
	NextRunAt time.Time // zero: no schedule
}

const selectCampaign = `
	SELECT c.campaign_id, c.account_id, c.version, v.spec, c.state, c.reason, c.next_run_at
	  FROM campaign c
	  JOIN campaign_version v USING (campaign_id, version) `

func scanCampaign(row pgx.CollectableRow) (Campaign, error) {
	var c Campaign
	var spec []byte
	var next *time.Time
	if err := row.Scan(&c.ID, &c.AccountID, &c.Version, &spec, &c.State, &c.Reason, &next); err != nil {
		return c, err
	}
	if next != nil {
		c.NextRunAt = *next
	}
	if err := json.Unmarshal(spec, &c.Spec); err != nil {
		return c, fmt.Errorf("campaign %d, version %d: stored file: %w", c.ID, c.Version, err)
	}
	return c, nil
}

// ApplyCampaign creates the campaign or gives it a new version of its file, and
// returns it and whether the file was a change. A campaign cannot move to another
// account. nextRun is the schedule's next firing, zero if it has none. A run that is
// open goes on with the version it began with.
func (db *DB) ApplyCampaign(ctx context.Context, spec *campaign.Campaign, nextRun, at time.Time) (Campaign, bool, error) {
	var c Campaign
	changed := false
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var account campaign.AccountID
		var accountSpec []byte
		err := tx.QueryRow(ctx, `SELECT account_id, spec FROM account WHERE name = $1 FOR SHARE`, spec.Account).Scan(&account, &accountSpec)
		if err != nil {
			return notFound(err, "no account is called %q: apply its file first, with 'dialer account apply FILE'", spec.Account)
		}
		var a campaign.Account
		if err := json.Unmarshal(accountSpec, &a); err != nil {
			return fmt.Errorf("account %s: stored file: %w", spec.Account, err)
		}
		if err := a.Allows(spec); err != nil {
			return err
		}
		var id campaign.ID
		var owner campaign.AccountID
		version := 0
		var stored []byte
		err = tx.QueryRow(ctx, `
			SELECT c.campaign_id, c.account_id, c.version, v.spec
			  FROM campaign c
			  JOIN campaign_version v USING (campaign_id, version)
			 WHERE c.name = $1
			   FOR UPDATE OF c`, spec.Name).Scan(&id, &owner, &version, &stored)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			err = tx.QueryRow(ctx, `
				INSERT INTO campaign (account_id, name, version, next_run_at, changed_at)
				VALUES ($1, $2, 1, $3, $4)
				RETURNING campaign_id`, account, spec.Name, null(nextRun), at).Scan(&id)
			if err != nil {
				return err
			}
		case err != nil:
			return err
		case owner != account:
			return fmt.Errorf("campaign %s belongs to another account: a campaign cannot move, use another name", spec.Name)
		}
		if version > 0 && sameJSON(stored, spec.JSON()) {
			return nil
		}
		changed = true
		version++
		if _, err := tx.Exec(ctx, `
			INSERT INTO campaign_version (campaign_id, version, spec, applied_at)
			VALUES ($1, $2, $3, $4)`, id, version, spec.JSON(), at); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE campaign SET version = $2, next_run_at = $3, changed_at = $4
			 WHERE campaign_id = $1`, id, version, null(nextRun), at)
		return err
	})
	if err != nil {
		return c, false, fmt.Errorf("apply campaign %s: %w", spec.Name, err)
	}
	c, err = db.Campaign(ctx, spec.Name)
	return c, changed, err
}

// sameJSON compares two JSON texts by value: Postgres stores them with its own
// order of keys.
func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	xs, _ := json.Marshal(x)
	ys, _ := json.Marshal(y)
	return string(xs) == string(ys)
}

// Campaigns returns all campaigns by name.
func (db *DB) Campaigns(ctx context.Context) ([]Campaign, error) {
	rows, _ := db.pool.Query(ctx, selectCampaign+`ORDER BY c.name`)
	all, err := pgx.CollectRows(rows, scanCampaign)
	if err != nil {
		return nil, fmt.Errorf("list campaigns: %w", err)
	}
	return all, nil
}

// Campaign returns one campaign, or an error that wraps campaign.ErrNotFound.
func (db *DB) Campaign(ctx context.Context, name string) (Campaign, error) {
	rows, _ := db.pool.Query(ctx, selectCampaign+`WHERE c.name = $1`, name)
	c, err := pgx.CollectExactlyOneRow(rows, scanCampaign)
	if err != nil {
		return c, fmt.Errorf("campaign: %w", notFound(err, "no campaign is called %q: see 'dialer campaign list'", name))
	}
	return c, nil
}

// Pause holds a running campaign; reason says who or what did. When it has
// returned, no later intent of the campaign exists until Resume.
func (db *DB) Pause(ctx context.Context, id campaign.ID, reason string, at time.Time) error {
	return db.setState(ctx, id, campaign.Paused, reason, at, campaign.Running)
}

// Resume lets a paused campaign dial again.
func (db *DB) Resume(ctx context.Context, id campaign.ID, at time.Time) error {
	return db.setState(ctx, id, campaign.Running, "", at, campaign.Paused)
}

func (db *DB) setState(ctx context.Context, id campaign.ID, to campaign.State, reason string, at time.Time, from campaign.State) error {
	tag, err := db.pool.Exec(ctx, `
		UPDATE campaign SET state = $2, reason = $3, changed_at = $4
		 WHERE campaign_id = $1 AND state IN ($5, $2)`, id, to, reason, at, from)
	if err != nil {
		return fmt.Errorf("campaign %d: %w", id, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("campaign %d is not %s: %w", id, from, campaign.ErrNotRunning)
	}
	return nil
}

// Cancel ends the campaign for good: its open run ends, and the contacts that were
// pending are cancelled. Calls that are under way go on.
func (db *DB) Cancel(ctx context.Context, id campaign.ID, at time.Time) error {
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `
			UPDATE campaign SET state = 'cancelled', reason = '', next_run_at = NULL, changed_at = $2
			 WHERE campaign_id = $1`, id, at); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			UPDATE run SET ended_at = greatest(started_at, $2), end_reason = 'cancelled'
			 WHERE campaign_id = $1 AND ended_at IS NULL`, id, at)
		return err
	})
	if err != nil {
		return fmt.Errorf("cancel campaign %d: %w", id, err)
	}
	return nil
}
