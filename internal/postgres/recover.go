package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
	"dialer/internal/journal"
)

// Memory is what the database remembers of an account's intents, and whether it may be
// dialled on the server as it is.
type Memory struct {
	Account campaign.AccountID
	Name    string
	Last    campaign.LastBatch
	// Server is the server as it is, Vouched the one that somebody has vouched for.
	Server, Vouched string
	Active          bool
	Reason          string // why the account is paused
	// Forgotten is how many reports were put aside because the database has forgotten
	// their attempts.
	Forgotten int
}

// Memories returns what the database remembers, by account name.
func (db *DB) Memories(ctx context.Context) ([]Memory, error) {
	rows, _ := db.pool.Query(ctx, `
		SELECT a.account_id, a.name, coalesce(b.seq, 0), b.at, server_now(), l.server, a.state = 'active', a.reason,
		       (SELECT count(*) FROM stranger s WHERE s.account_id = a.account_id AND s.reason LIKE $1 || '%')
		  FROM account a
		  JOIN lease l USING (account_id)
		  LEFT JOIN LATERAL (SELECT seq, at FROM batch WHERE account_id = a.account_id ORDER BY seq DESC LIMIT 1) b ON true
		 ORDER BY a.name`, forgottenAttempt)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Memory, error) {
		var m Memory
		var at *time.Time
		err := row.Scan(&m.Account, &m.Name, &m.Last.Seq, &at, &m.Server, &m.Vouched, &m.Active, &m.Reason, &m.Forgotten)
		if at != nil {
			m.Last.At = *at
		}
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what the database remembers: %w", err)
	}
	return all, nil
}

// ErrOtherContacts: the contacts of a journal's batch are not those of the database.
var ErrOtherContacts = errors.New("its contacts are not in the database, or are other persons there: the campaign was imported after the backup")

// Reinsert writes a batch that the database has forgotten into it again, as a node's
// journal has it: its attempts without a response, so that only evidence or a person
// settles them, and its other contacts as waiting, to be judged anew. The batch must be
// the one after the account's last. It returns ErrOtherContacts, and has written
// nothing, if contacts are missing or are not the same persons.
func (db *DB) Reinsert(ctx context.Context, e journal.Entry) error {
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var last int64
		// Intents of a node would be refused by the server's guard, and wait for this lock.
		if err := tx.QueryRow(ctx, `
			SELECT (SELECT coalesce(max(seq), 0) FROM batch WHERE account_id = $1) FROM lease WHERE account_id = $1 FOR UPDATE`, e.Account).Scan(&last); err != nil {
			return notFound(err, "account %d", e.Account)
		}
		if last != e.Seq-1 {
			return fmt.Errorf("the account's last batch is %d", last)
		}
		n, try, chance := contactColumns(e.Attempts)
		heldN, heldTry, heldChance := contactColumns(e.Held)
		phones, err := phonesOf(ctx, tx, e, append(append([]int32{}, n...), heldN...))
		if err != nil {
			return err
		}
		if journal.Sum(db.key, phones...) != e.Sum {
			return ErrOtherContacts
		}
		b := new(pgx.Batch)
		b.Queue(`
			INSERT INTO attempt (account_id, attempt_id, phone, intent_at, send_by, campaign_id, n, node_id, try, chance, caller_id)
			SELECT $1, ($2::bigint << 41) | (u.n::bigint << 10) | u.try, c.phone, $3, $4, $2, u.n, $5, u.try, u.chance, $6
			  FROM unnest($7::int[], $8::smallint[], $9::smallint[]) u (n, try, chance)
			  JOIN contact c ON c.account_id = $1 AND c.campaign_id = $2 AND c.n = u.n`,
			e.Account, e.Campaign, e.At.Truncate(time.Microsecond), e.SendBy.Truncate(time.Microsecond), e.Node, e.CallerID, n, try, chance)
		b.Queue(`
			DELETE FROM due d USING unnest($3::int[], $4::smallint[]) u (n, try)
			 WHERE d.account_id = $1 AND d.campaign_id = $2 AND d.n = u.n AND d.try <= u.try`, e.Account, e.Campaign, n, try)
		// Those that wait for a second try have their row already, or have an attempt of
		// which nobody knows: then they do not wait.
		b.Queue(`
			INSERT INTO due (account_id, campaign_id, n, try, chance, due_at, reason)
			SELECT $1, $2, u.n, u.try, u.chance, $3, 'hold'
			  FROM unnest($4::int[], $5::smallint[], $6::smallint[]) u (n, try, chance)
			 WHERE u.try = 1
			ON CONFLICT DO NOTHING`, e.Account, e.Campaign, e.At.Truncate(time.Microsecond), heldN, heldTry, heldChance)
		b.Queue(`
			INSERT INTO batch (account_id, seq, campaign_id, node_id, term, at, upto_n, intents, suppressed)
			SELECT $1, $2, $3, $4, $5, $6, greatest(coalesce(b.upto_n, 0), $7), coalesce(b.intents, 0) + $8, coalesce(b.suppressed, 0)
			  FROM (SELECT) one
			  LEFT JOIN LATERAL (
			       SELECT upto_n, intents, suppressed FROM batch
			        WHERE account_id = $1 AND campaign_id = $3
			        ORDER BY seq DESC LIMIT 1) b ON true`,
			e.Account, e.Seq, e.Campaign, e.Node, e.Term, e.At.Truncate(time.Microsecond), highest(n, heldN), len(n))
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("write batch %d of account %d again: %w", e.Seq, e.Account, err)
	}
	return nil
}

func contactColumns(contacts journal.Contacts) (n []int32, try, chance []int16) {
	n, try, chance = make([]int32, len(contacts)), make([]int16, len(contacts)), make([]int16, len(contacts))
	for i, c := range contacts {
		n[i], try[i], chance[i] = c.N, int16(c.Try), int16(c.Chance)
	}
	return n, try, chance
}

func highest(lists ...[]int32) int32 {
	var most int32
	for _, list := range lists {
		for _, n := range list {
			most = max(most, n)
		}
	}
	return most
}

// phonesOf returns the numbers of contacts in the given order.
func phonesOf(ctx context.Context, tx pgx.Tx, e journal.Entry, n []int32) ([]campaign.Phone, error) {
	rows, _ := tx.Query(ctx, `
		SELECT c.phone
		  FROM unnest($3::int[]) WITH ORDINALITY u (n, i)
		  JOIN contact c ON c.account_id = $1 AND c.campaign_id = $2 AND c.n = u.n
		 ORDER BY u.i`, e.Account, e.Campaign, n)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	if len(numbers) != len(n) {
		return nil, ErrOtherContacts
	}
	phones := make([]campaign.Phone, len(numbers))
	for i, number := range numbers {
		phones[i] = campaign.Phone(number)
	}
	return phones, nil
}

// Recover says for a person that an account may be dialled on this server, whatever it
// was before: reason and person are kept as an incident. Reports that were put aside
// because their attempts had been forgotten are applied again. after is the newest batch that
// a journal remembers: the account goes on behind it, so that nobody takes its batches
// for forgotten again. An account that was paused by the guard is active again.
func (db *DB) Recover(ctx context.Context, account campaign.AccountID, after int64, reason, person string, at time.Time) error {
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var last int64
		if err := tx.QueryRow(ctx, `
			SELECT (SELECT coalesce(max(seq), 0) FROM batch WHERE account_id = $1) FROM lease WHERE account_id = $1 FOR UPDATE`, account).Scan(&last); err != nil {
			return notFound(err, "account %d", account)
		}
		if last < after {
			var any campaign.ID
			err := tx.QueryRow(ctx, `SELECT campaign_id FROM campaign WHERE account_id = $1 ORDER BY campaign_id LIMIT 1`, account).Scan(&any)
			if errors.Is(err, pgx.ErrNoRows) {
				return errors.New("it has no campaign yet: apply one first")
			}
			if err == nil {
				_, err = tx.Exec(ctx, takeNumber, pgx.StrictNamedArgs{
					"account": account, "term": 0, "node": 0, "campaign": any, "seq": after, "at": at.Truncate(time.Microsecond),
				})
			}
			if err != nil {
				return err
			}
		}
		b := new(pgx.Batch)
		b.Queue(`UPDATE lease SET server = server_now(), synchronous = false WHERE account_id = $1`, account)
		b.Queue(`UPDATE account SET state = 'active', reason = '', changed_at = $2 WHERE account_id = $1 AND reason LIKE 'the database %'`, account, at)
		b.Queue(`
			WITH aside AS (
				DELETE FROM stranger s
				 WHERE account_id = $1 AND reason LIKE $2 || '%'
				   AND EXISTS (SELECT FROM attempt a WHERE a.account_id = $1 AND a.attempt_id = substring(s.reason FROM '[0-9]+$')::bigint)
				RETURNING stranger_id, received_at, raw
			)
			INSERT INTO inbox (account_id, received_at, body)
			SELECT $1, received_at, '['::bytea || raw || ']'::bytea FROM aside ORDER BY stranger_id`, account, forgottenAttempt)
		b.Queue(`UPDATE stranger SET reason = 'a person accepted that it is lost: ' || reason WHERE account_id = $1 AND reason LIKE $2 || '%'`, account, forgottenAttempt)
		b.Queue(`INSERT INTO incident (at, account_id, kind, detail) VALUES ($2, $1, 'recovered', $3)`, account, at, person+": "+reason)
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("recover account %d: %w", account, err)
	}
	return nil
}
