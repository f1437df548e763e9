package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/postgres"
)

type resolveCommand struct {
	OutIDs   []string `arg:"" optional:"" name:"out-id" help:"The OutIds of the attempts, as 'dialer audit' and the platform's console show them."`
	Campaign string   `help:"Instead of OutIds: the attempts in doubt of one contact of this campaign." placeholder:"NAME"`
	Contact  int32    `help:"The number of that contact." placeholder:"N"`
	As       string   `required:"" help:"not_called, or the outcome in the platform's records: answered, busy, no_answer, ..." placeholder:"VERDICT"`
	Reason   string   `required:"" help:"How you know. It is written down." placeholder:"TEXT"`
	By       string   `help:"Who you are; default: the user of this machine." placeholder:"NAME"`
	Second   string   `help:"Who looked at it, too: needed for more than 50 at once." placeholder:"NAME"`
	Redial   bool     `help:"Call the contacts again, within max_attempts. Otherwise they are done."`
	JSON     bool     `name:"json" help:"For machines."`
}

func (c resolveCommand) Run(ctx context.Context, a *app) error {
	s, err := c.settlement()
	if err != nil {
		return usageError{err}
	}
	return a.withDB(ctx, func(db *postgres.DB) error {
		if c.Campaign != "" {
			stored, err := db.Campaign(ctx, c.Campaign)
			if err != nil {
				return err
			}
			if s.OutIDs, err = db.Doubtful(ctx, stored.ID, c.Contact); err != nil {
				return err
			}
			if len(s.OutIDs) == 0 {
				return fmt.Errorf("contact %d of campaign %s has no attempt in doubt: nothing was settled", c.Contact, c.Campaign)
			}
		}
		settled, err := db.Settle(ctx, s, time.Now())
		if refused, ok := errors.AsType[postgres.Refusals](err); ok && c.JSON {
			return errors.Join(json.NewEncoder(a.stdout).Encode(map[string]any{"settled": []postgres.Settled{}, "refused": refused}), err)
		}
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(a.stdout).Encode(map[string]any{"settled": settled, "refused": postgres.Refusals{}})
		}
		for _, one := range settled {
			then := "its contact is done"
			if one.Redial {
				then = "its contact is called again"
			}
			fmt.Fprintf(a.stdout, "%s  %s  contact %d of %s: was %s, settled as %s by %s; %s\n", one.OutID, one.Phone, one.Contact, one.Campaign, one.Was, one.Verdict, s.Person, then)
		}
		return nil
	})
}

// settlement checks what can be checked without a database.
func (c resolveCommand) settlement() (postgres.Settlement, error) {
	s := postgres.Settlement{OutIDs: c.OutIDs, Verdict: c.As, Redial: c.Redial, Reason: strings.TrimSpace(c.Reason), Person: strings.TrimSpace(c.By), Second: strings.TrimSpace(c.Second)}
	verdicts := []string{postgres.NotCalled}
	for _, o := range campaign.Outcomes {
		verdicts = append(verdicts, string(o))
	}
	switch named, byContact := len(c.OutIDs) > 0, c.Campaign != "" || c.Contact != 0; {
	case named == byContact:
		return s, errors.New("name the attempts by their OutIds, or by --campaign and --contact")
	case byContact && (c.Campaign == "" || c.Contact < 1):
		return s, errors.New("--campaign NAME and --contact N go together")
	case !slices.Contains(verdicts, c.As):
		return s, fmt.Errorf("--as %s: a verdict is one of %s", c.As, strings.Join(verdicts, ", "))
	case s.Reason == "":
		return s, errors.New("--reason is empty: say how you know, it is written down")
	}
	for i, id := range s.OutIDs {
		s.OutIDs[i] = strings.ToUpper(id)
	}
	if s.Person == "" {
		u, err := user.Current()
		if err != nil {
			return s, fmt.Errorf("who are you? give --by NAME: %w", err)
		}
		s.Person = u.Username
	}
	if s.Second == s.Person || len(s.OutIDs) > postgres.SettleAlone && s.Second == "" {
		return s, fmt.Errorf("--second NAME: %w", postgres.ErrSecondPerson)
	}
	return s, nil
}
