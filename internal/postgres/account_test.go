package postgres_test

import (
	"testing"
	"time"

	"dialer/internal/campaign"
)

func TestAccountAndCampaignFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	again, err := w.db.ApplyAccount(t.Context(), accountFile("acme"), w.now)
	if err != nil || again != w.account {
		t.Errorf("applied again: %d, %v", again, err)
	}
	if all, err := w.db.Accounts(t.Context()); err != nil || len(all) != 1 || !all[0].Active || all[0].Spec.Limit != 100 {
		t.Errorf("accounts %+v, %v", all, err)
	}
	_, err = w.db.Account(t.Context(), "nobody")
	wantErr(t, err, campaign.ErrNotFound)
	wantErr(t, w.db.ResumeAccount(t.Context(), "nobody", w.now), campaign.ErrNotFound)
	for _, want := range []struct {
		changed bool
		version int
		chances int
	}{{true, 1, 1}, {false, 1, 1}, {true, 2, 3}} {
		c, changed, err := w.db.ApplyCampaign(t.Context(), campaignFile("c", func(c *campaign.Campaign) { c.MaxAttempts = want.chances }), time.Time{}, w.now)
		if err != nil || changed != want.changed || c.Version != want.version || c.Spec.MaxAttempts != want.chances {
			t.Errorf("%+v, %t, %v; want %+v", c, changed, err, want)
		}
	}
	_, _, err = w.db.ApplyCampaign(t.Context(), campaignFile("d", func(c *campaign.Campaign) { c.Account = "nobody" }), time.Time{}, w.now)
	wantErr(t, err, campaign.ErrNotFound)
	if all, err := w.db.Campaigns(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("campaigns %+v, %v", all, err)
	}
	_, err = w.db.Campaign(t.Context(), "d")
	wantErr(t, err, campaign.ErrNotFound)
}
