package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// Account is an account as stored.
type Account struct {
	ID     campaign.AccountID
	Spec   campaign.Account
	Active bool
	Reason string // why it is paused
}

const selectAccount = `
	SELECT account_id, spec, state = 'active', reason
	  FROM account `

func scanAccount(row pgx.CollectableRow) (Account, error) {
	var a Account
	var spec []byte
	if err := row.Scan(&a.ID, &spec, &a.Active, &a.Reason); err != nil {
		return a, err
	}
	if err := json.Unmarshal(spec, &a.Spec); err != nil {
		return a, fmt.Errorf("account %d: stored file: %w", a.ID, err)
	}
	return a, nil
}

// ApplyAccount creates the account or replaces its file.
func (db *DB) ApplyAccount(ctx context.Context, a *campaign.Account, at time.Time) (campaign.AccountID, error) {
	spec, err := json.Marshal(a)
	if err != nil {
		return 0, fmt.Errorf("account %s: %w", a.Name, err)
	}
	var id campaign.AccountID
	err = db.pool.QueryRow(ctx, `
		WITH a AS (
			INSERT INTO account (name, spec, changed_at)
			VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, changed_at = excluded.changed_at
			RETURNING account_id
		), l AS (
			INSERT INTO lease (account_id) SELECT account_id FROM a ON CONFLICT DO NOTHING
		)
		SELECT account_id FROM a`, a.Name, spec, at).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("apply account %s: %w", a.Name, err)
	}
	return id, nil
}

// Accounts returns all accounts by name.
func (db *DB) Accounts(ctx context.Context) ([]Account, error) {
	rows, _ := db.pool.Query(ctx, selectAccount+`ORDER BY name`)
	all, err := pgx.CollectRows(rows, scanAccount)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return all, nil
}

// Account returns one account, or an error that wraps campaign.ErrNotFound.
func (db *DB) Account(ctx context.Context, name string) (Account, error) {
	rows, _ := db.pool.Query(ctx, selectAccount+`WHERE name = $1`, name)
	a, err := pgx.CollectExactlyOneRow(rows, scanAccount)
	if err != nil {
		return a, fmt.Errorf("account: %w", notFound(err, "no account is called %q", name))
	}
	return a, nil
}

// PauseAccount holds every campaign of the account; reason says why. After it has
// returned no intent of the account is written until ResumeAccount.
func (db *DB) PauseAccount(ctx context.Context, id campaign.AccountID, reason string, at time.Time) error {
	_, err := db.pool.Exec(ctx, `
		WITH paused AS (
			UPDATE account SET state = 'paused', reason = $2, changed_at = $3
			 WHERE account_id = $1 AND state = 'active'
			RETURNING account_id
		)
		INSERT INTO incident (at, account_id, kind, detail)
		SELECT $3, account_id, 'account_paused', $2 FROM paused`, id, reason, at)
	if err != nil {
		return fmt.Errorf("pause account %d: %w", id, err)
	}
	return nil
}

// ResumeAccount lets the account's campaigns dial again.
func (db *DB) ResumeAccount(ctx context.Context, name string, at time.Time) error {
	tag, err := db.pool.Exec(ctx, `UPDATE account SET state = 'active', reason = '', changed_at = $2 WHERE name = $1`, name, at)
	if err != nil {
		return fmt.Errorf("resume account %s: %w", name, err)
	}
	if tag.RowsAffected() == 0 {
		return notFound(pgx.ErrNoRows, "no account is called %q", name)
	}
	return nil
}
