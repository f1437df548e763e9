package main

import (
	"context"
	"path/filepath"

	"dialer/internal/postgres"
)

func (a *app) stateFolder(_ context.Context, db *postgres.DB, dir string) (string, error) {
	if dir == "" {
		dir = filepath.Join(a.getenv("DIALER_DATA"), "state")
	}
	return filepath.Join(dir, db.InstanceID()), nil
}
