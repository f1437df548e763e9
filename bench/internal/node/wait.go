package node

import (
	"context"
	"errors"
	"time"

	"dialer/bench/internal/lab"
	"dialer/bench/internal/platform"
)

// Patience bounds every wait for something to happen.
const Patience = 30 * time.Second

// Until waits until the platform's report is as it should be.
func (s *Site) Until(ctx context.Context, what string, ok func(platform.Report) bool) error {
	for deadline := time.Now().Add(Patience); ; {
		r, err := s.Platform.Report()
		if err != nil {
			return err
		}
		if ok(r) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("waited in vain for " + what)
		}
		if err := lab.Rest(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// Dialling waits until a node has made calls at a pace for half a second.
func (s *Site) Dialling(ctx context.Context, perSecond float64) error {
	return s.Until(ctx, "calls at full pace", func(r platform.Report) bool {
		now := time.Now()
		return r.Between(now.Add(-500*time.Millisecond), now).PerSecond() >= perSecond
	})
}
