package dialer

import (
	"context"
	"time"

	"dialer/internal/campaign"
	"dialer/internal/failpoint"
	"dialer/internal/postgres"
)

const (
	recordMost  = 500
	recordEvery = 50 * time.Millisecond
	// recordAfterStop is how long a node that was told to stop waits for the database.
	recordAfterStop = 30 * time.Second
	// recordWithin is how long one try may take. A server that has stopped answering without
	// closing the connection must not hold up the results for ever: writing them twice
	// does no harm.
	recordWithin = 10 * time.Second
)

// record writes what came of requests, in batches, until there is nothing more to
// come. A batch is repeated until the database has it: it is the only record of a call
// that was accepted. Meanwhile the senders fill up, and nothing new is dialled.
func (h *holder) record(ctx context.Context) {
	batch := make([]campaign.Response, 0, recordMost)
	for {
		first, ok := <-h.results
		if !ok {
			return
		}
		batch = append(batch[:0], first)
		timer := time.NewTimer(recordEvery)
	gather:
		for len(batch) < recordMost {
			select {
			case r, ok := <-h.results:
				if !ok {
					break gather
				}
				batch = append(batch, r)
			case <-timer.C:
				break gather
			}
		}
		timer.Stop()
		h.writeResponses(ctx, batch)
	}
}

func (h *holder) writeResponses(ctx context.Context, batch []campaign.Response) {
	for tries := 0; ; tries++ {
		try, cancel := context.WithTimeout(ctx, recordWithin)
		err := h.DB.WriteResponses(try, h.account.id, h.node, batch, time.Now())
		cancel()
		if err == nil {
			failpoint.Hit(failpoint.AfterRecord)
			return
		}
		if (!postgres.IsTransient(err) || ctx.Err() != nil) && len(batch) > 1 {
			// One bad row must not hold up the others.
			for i := range batch {
				h.writeResponses(ctx, batch[i:i+1])
			}
			return
		}
		if !postgres.IsTransient(err) || ctx.Err() != nil {
			h.log.Error("a response cannot be stored: its attempt stays unknown", "attempt", batch[0].Attempt, "class", batch[0].State, "call_id", batch[0].CallID, "err", err)
			h.unrecorded.Add(1)
			return
		}
		h.log.Warn("write responses: trying again", "responses", len(batch), "err", err)
		sleep(ctx, min(50*time.Millisecond<<min(tries, 6), 2*time.Second))
	}
}
