package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// Import is what became of a contact file.
type Import struct {
	File                                string
	SHA256                              [32]byte
	Rows, Contacts, Duplicates, Rejects int
	At                                  time.Time
}

// Imported returns the import by which a campaign got exactly this file, if there was
// one that added contacts.
func (db *DB) Imported(ctx context.Context, id campaign.ID, sum [32]byte) (Import, bool, error) {
	imp := Import{SHA256: sum}
	err := db.pool.QueryRow(ctx, `
		SELECT i.file, i.rows, i.contacts, i.duplicates, i.rejects, i.imported_at
		  FROM import i
		 WHERE i.account_id = (SELECT account_id FROM campaign WHERE campaign_id = $1) AND i.campaign_id = $1 AND i.sha256 = $2 AND i.contacts > 0
		 ORDER BY i.import_id
		 LIMIT 1`, id, sum[:]).Scan(&imp.File, &imp.Rows, &imp.Contacts, &imp.Duplicates, &imp.Rejects, &imp.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return imp, false, nil
	}
	if err != nil {
		return imp, false, fmt.Errorf("look for the file among the imports: %w", err)
	}
	return imp, true, nil
}

// ContactSource is where ImportContacts takes contacts from.
type ContactSource interface {
	// Next returns the next contact, or the line of the record that was refused, or
	// io.EOF after the last.
	Next() (c campaign.Contact, rejected bool, err error)
	// Duplicate is told of each contact whose number the campaign has already.
	Duplicate(campaign.Contact) error
	// SHA256 returns the hash of the whole file, after io.EOF.
	SHA256() [32]byte
}

// ImportContacts adds the contacts of a file to the end of a campaign, all of them
// or, after any error, none; dialling sees them when it returns. A number that the
// campaign has already, from this file or an earlier one, is a duplicate. Imports
// into one campaign wait for each other.
func (db *DB) ImportContacts(ctx context.Context, id campaign.ID, file string, src ContactSource, at time.Time) (Import, error) {
	imp := Import{File: file, At: at}
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var account campaign.AccountID
		var state campaign.State
		// Not the campaign's row: the intents lock that, and an import may take minutes.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('import', $1))`, int64(id)); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT account_id, state FROM campaign WHERE campaign_id = $1`, id).Scan(&account, &state); err != nil {
			return notFound(err, "campaign %d", id)
		}
		if state == campaign.Cancelled {
			return errors.New("the campaign is cancelled: nothing is added to it")
		}
		var first int32
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(last_n), 0) + 1 FROM import WHERE account_id = $1 AND campaign_id = $2`, account, id).Scan(&first); err != nil {
			return err
		}
		seen := make(map[campaign.Phone]struct{})
		rows, _ := tx.Query(ctx, `SELECT phone FROM contact WHERE account_id = $1 AND campaign_id = $2`, account, id)
		var phone campaign.Phone
		if _, err := pgx.ForEachRow(rows, []any{(*int64)(&phone)}, func() error { seen[phone] = struct{}{}; return nil }); err != nil {
			return err
		}
		n := first
		row := make([]any, 6)
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"contact"}, []string{"account_id", "campaign_id", "n", "phone", "vars", "line"},
			pgx.CopyFromFunc(func() ([]any, error) {
				for {
					c, rejected, err := src.Next()
					switch {
					case errors.Is(err, io.EOF):
						return nil, nil
					case err != nil:
						return nil, err
					}
					imp.Rows++
					if rejected {
						imp.Rejects++
						continue
					}
					if _, again := seen[c.Phone]; again {
						imp.Duplicates++
						if err := src.Duplicate(c); err != nil {
							return nil, err
						}
						continue
					}
					if int(n) == campaign.MaxContacts {
						return nil, fmt.Errorf("a campaign holds at most %d contacts", campaign.MaxContacts)
					}
					seen[c.Phone] = struct{}{}
					vars, err := json.Marshal(c.Vars)
					if err != nil {
						return nil, err
					}
					row[0], row[1], row[2], row[3], row[4], row[5] = int32(account), int32(id), n, int64(c.Phone), vars, int32(c.Line)
					n++
					imp.Contacts++
					return row, nil
				}
			}))
		if err != nil {
			return err
		}
		imp.SHA256 = src.SHA256()
		var firstN, lastN *int32
		if imp.Contacts > 0 {
			firstN, lastN = new(first), new(n-1)
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO import (account_id, campaign_id, file, sha256, rows, contacts, duplicates, rejects, first_n, last_n, imported_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			account, id, file, imp.SHA256[:], imp.Rows, imp.Contacts, imp.Duplicates, imp.Rejects, firstN, lastN, at)
		return err
	})
	if err != nil {
		return Import{}, fmt.Errorf("import %s: %w", file, err)
	}
	return imp, nil
}

// Fresh returns up to limit contacts of a campaign after contact n, in order: those
// that were never dialled, if n is the campaign's cursor.
func (db *DB) Fresh(ctx context.Context, account campaign.AccountID, id campaign.ID, n int32, limit int) ([]campaign.Pending, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT n, phone, vars
		  FROM contact
		 WHERE account_id = $1 AND campaign_id = $2 AND n > $3
		 ORDER BY n
		 LIMIT $4`, account, id, n, limit)
	contacts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (campaign.Pending, error) {
		p := campaign.Pending{Try: 1, Chance: 1}
		var vars []byte
		if err := row.Scan(&p.N, (*int64)(&p.Phone), &vars); err != nil {
			return p, err
		}
		return p, json.Unmarshal(vars, &p.Vars)
	})
	if err != nil {
		return nil, fmt.Errorf("fresh contacts of campaign %d: %w", id, err)
	}
	return contacts, nil
}

// Due returns up to limit contacts of a campaign that wait and are due at the given
// time, the longest due first.
func (db *DB) Due(ctx context.Context, account campaign.AccountID, id campaign.ID, at time.Time, limit int) ([]campaign.Pending, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT d.n, c.phone, c.vars, d.try, d.chance
		  FROM (SELECT n, try, chance, due_at FROM due
		         WHERE account_id = $1 AND campaign_id = $2 AND due_at <= $3
		         ORDER BY due_at
		         LIMIT $4) d
		  JOIN contact c ON c.account_id = $1 AND c.campaign_id = $2 AND c.n = d.n
		 ORDER BY d.due_at`, account, id, at, limit)
	contacts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (campaign.Pending, error) {
		p := campaign.Pending{Due: true}
		var vars []byte
		if err := row.Scan(&p.N, (*int64)(&p.Phone), &vars, &p.Try, &p.Chance); err != nil {
			return p, err
		}
		return p, json.Unmarshal(vars, &p.Vars)
	})
	if err != nil {
		return nil, fmt.Errorf("due contacts of campaign %d: %w", id, err)
	}
	return contacts, nil
}

// Waiting tells how many contacts of a campaign wait in the due table, and when the
// first of them is due.
func (db *DB) Waiting(ctx context.Context, account campaign.AccountID, id campaign.ID) (n int64, first time.Time, err error) {
	var at *time.Time
	err = db.pool.QueryRow(ctx, `
		SELECT count(*), min(due_at) FROM due WHERE account_id = $1 AND campaign_id = $2`, account, id).Scan(&n, &at)
	if err != nil {
		return 0, first, fmt.Errorf("waiting contacts of campaign %d: %w", id, err)
	}
	if at != nil {
		first = *at
	}
	return n, first, nil
}
