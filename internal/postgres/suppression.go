package postgres

import (
	"context"
	"fmt"
	"time"

	"dialer/internal/campaign"
)

// Suppress puts a number on the list of those that must not be called, until the
// given time or, if that is zero, for ever. It takes effect for every intent after it
// has returned. A suppression never becomes shorter by adding another.
func (db *DB) Suppress(ctx context.Context, phone campaign.Phone, until time.Time, reason, source string, at time.Time) error {
	_, err := db.pool.Exec(ctx, `
		INSERT INTO suppression (phone, until, reason, source, added_at)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (phone) DO UPDATE
		   SET until = CASE WHEN suppression.until IS NULL OR excluded.until IS NULL THEN NULL ELSE greatest(suppression.until, excluded.until) END,
		       reason = excluded.reason, source = excluded.source, added_at = excluded.added_at`,
		int64(phone), null(until), reason, source, at)
	if err != nil {
		return fmt.Errorf("suppress %s: %w", phone, err)
	}
	return nil
}

// Unsuppress takes a number off the list, and tells whether it was on it.
func (db *DB) Unsuppress(ctx context.Context, phone campaign.Phone) (bool, error) {
	tag, err := db.pool.Exec(ctx, `DELETE FROM suppression WHERE phone = $1`, int64(phone))
	if err != nil {
		return false, fmt.Errorf("take %s off the list: %w", phone, err)
	}
	return tag.RowsAffected() > 0, nil
}
