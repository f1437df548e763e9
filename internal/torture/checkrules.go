package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/campaign"
)

// loadRules puts what the run allows into tables: the rules given, and those that
// the campaigns' own files hold.
func (c *check) loadRules(ctx context.Context) error {
	r := c.rules
	var deadline *time.Time
	if !r.Deadline.IsZero() {
		deadline = &r.Deadline
	}
	_, err := c.tx.Exec(ctx, `INSERT INTO witness.rules VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		r.Quiescent, r.TornLedger, r.Clock, r.Transit, r.Commit, r.LostAfter, append([]string{}, r.Incidents...), deadline, r.MostDoubt)
	if err != nil {
		return fmt.Errorf("write the rules: %w", err)
	}
	// The simulator has its own names for accounts; the attempts tell which is which.
	_, err = c.tx.Exec(ctx, `
		INSERT INTO witness.rate
		SELECT r.account, min((a.spec->>'limit')::int)
		  FROM (SELECT DISTINCT r.account, t.account_id FROM witness.request r JOIN attempt t USING (attempt_id)) r
		  JOIN account a USING (account_id)
		 GROUP BY r.account`)
	if err != nil {
		return fmt.Errorf("write the limits: %w", err)
	}
	for account, most := range r.Limits {
		if _, err := c.tx.Exec(ctx, `
			INSERT INTO witness.rate VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET most = excluded.most`, account, most); err != nil {
			return fmt.Errorf("write the limits: %w", err)
		}
	}
	for _, p := range r.Pauses {
		var resumed *time.Time
		if !p.ResumedAt.IsZero() {
			resumed = &p.ResumedAt
		}
		tag, err := c.tx.Exec(ctx, `
			INSERT INTO witness.pause
			SELECT account_id, campaign_id, $3::timestamptz, $4::timestamptz FROM campaign WHERE name = $1
			UNION ALL
			SELECT account_id, NULL::int, $3, $4 FROM account WHERE $1 = '' AND name = $2`, p.Campaign, p.Account, p.At, resumed)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("there is no campaign %q and no account %q", p.Campaign, p.Account)
		}
		if err != nil {
			return fmt.Errorf("write the pauses: %w", err)
		}
	}
	return c.loadSpecs(ctx)
}

// loadSpecs turns every campaign file that was applied into columns.
func (c *check) loadSpecs(ctx context.Context) error {
	type version struct {
		campaign, version int32
		spec              campaign.Campaign
	}
	rows, _ := c.tx.Query(ctx, `SELECT campaign_id, version, spec FROM campaign_version`)
	versions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v version, err error) {
		var spec []byte
		if err := row.Scan(&v.campaign, &v.version, &spec); err != nil {
			return v, err
		}
		return v, json.Unmarshal(spec, &v.spec)
	})
	if err != nil {
		return fmt.Errorf("read the campaigns' files: %w", err)
	}
	specs := c.copier("spec", "campaign_id", "version", "max_attempts", "redial", "zone", "per_minute", "per_day", "per_30_days")
	open := c.copier("open", "campaign_id", "version", "from_minute", "to_minute")
	retry := c.copier("retry", "campaign_id", "version", "outcome", "chance", "delay")
	for _, v := range versions {
		s := v.spec
		if err := specs.add(ctx, v.campaign, v.version, s.MaxAttempts, s.Lost == campaign.LostRedial, s.Zone,
			s.Caps.PerMinute, s.Caps.PerDay, s.Caps.Per30Days); err != nil {
			return err
		}
		for _, w := range s.Windows {
			if err := open.add(ctx, v.campaign, v.version, w.From, w.To); err != nil {
				return err
			}
		}
		for outcome, ladder := range s.Retry {
			for i, delay := range ladder {
				if i+1 >= s.MaxAttempts {
					break
				}
				if err := retry.add(ctx, v.campaign, v.version, string(outcome), i+1, time.Duration(delay)); err != nil {
					return err
				}
			}
		}
	}
	for _, table := range []*copier{specs, open, retry} {
		if err := table.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// scheduled is a campaign's history as its schedule sees it.
type scheduled struct {
	id        int32
	cancelled bool
	next      *time.Time
	versions  []appliedSchedule
	runs      map[int64]time.Time // when each planned firing was dealt with, by its planned microsecond
}

type appliedSchedule struct {
	at       time.Time
	schedule *campaign.Schedule
}

// loadFirings computes from the schedules which firings there must have been. A
// firing that comes late or during a run is a row as well; those that nobody was there
// to see at all are not made up for: the next follows from the moment at which the
// last was dealt with, or from that at which the file was applied.
func (c *check) loadFirings(ctx context.Context) error {
	all, err := c.scheduled(ctx)
	if err != nil {
		return fmt.Errorf("read schedules and runs: %w", err)
	}
	firings := c.copier("firing", "campaign_id", "planned_at", "said")
	for _, s := range all {
		var planned time.Time // the firing that is awaited
		versions := s.versions
		for v := 0; ; {
			// A file that is applied before the firing plans anew.
			if v < len(versions) && (planned.IsZero() || versions[v].at.Before(planned)) {
				if planned, err = nextFiring(versions[v].schedule, versions[v].at); err != nil {
					return fmt.Errorf("campaign %d, version %d: %w", s.id, v+1, err)
				}
				v++
				continue
			}
			if planned.IsZero() {
				break
			}
			at, dealt := s.runs[planned.UnixMicro()]
			if !dealt && v < len(versions) {
				planned = time.Time{} // the next file came before anybody saw that it was due
				continue
			}
			if !dealt {
				break
			}
			if err := firings.add(ctx, s.id, planned, "planned"); err != nil {
				return err
			}
			if planned, err = nextFiring(versions[v-1].schedule, at); err != nil {
				return fmt.Errorf("campaign %d, version %d: %w", s.id, v, err)
			}
		}
		// What is awaited now must be what the campaign waits for; a cancelled one waits
		// for nothing.
		if !s.cancelled && (s.next == nil) != planned.IsZero() || s.next != nil && !planned.IsZero() && !s.next.Equal(planned) {
			if err := firings.add(ctx, s.id, planned, "awaited"); err != nil {
				return err
			}
		}
	}
	return firings.flush(ctx)
}

func nextFiring(s *campaign.Schedule, after time.Time) (time.Time, error) {
	if s == nil {
		return time.Time{}, nil
	}
	return s.Next(after)
}

func (c *check) scheduled(ctx context.Context) ([]scheduled, error) {
	rows, _ := c.tx.Query(ctx, `SELECT campaign_id, state = 'cancelled', next_run_at FROM campaign ORDER BY campaign_id`)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (scheduled, error) {
		s := scheduled{runs: make(map[int64]time.Time)}
		return s, row.Scan(&s.id, &s.cancelled, &s.next)
	})
	if err != nil {
		return nil, err
	}
	index := make(map[int32]int, len(all))
	for i, s := range all {
		index[s.id] = i
	}
	var id int32
	var spec []byte
	var at time.Time
	rows, _ = c.tx.Query(ctx, `SELECT campaign_id, spec, applied_at FROM campaign_version ORDER BY campaign_id, version`)
	if _, err := pgx.ForEachRow(rows, []any{&id, &spec, &at}, func() error {
		var file campaign.Campaign
		if err := json.Unmarshal(spec, &file); err != nil {
			return err
		}
		s := &all[index[id]]
		s.versions = append(s.versions, appliedSchedule{at, file.Schedule})
		return nil
	}); err != nil {
		return nil, err
	}
	var planned time.Time
	rows, _ = c.tx.Query(ctx, `SELECT campaign_id, planned_at, coalesce(started_at, ended_at) FROM run WHERE planned_at IS NOT NULL`)
	_, err = pgx.ForEachRow(rows, []any{&id, &planned, &at}, func() error {
		all[index[id]].runs[planned.UnixMicro()] = at
		return nil
	})
	return all, err
}
