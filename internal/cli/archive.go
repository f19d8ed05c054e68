package cli

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/objectstore"
)

// OpenStore opens the archive's store: an operation that makes no progress is tried again for as long as
// patience, each failure is logged, and requests are counted if a registerer is given. It doesn't touch
// the store: an archive that isn't there is found out by the first request.
func (e *Env) OpenStore(ctx context.Context, patience time.Duration, reg prometheus.Registerer) (objectstore.Store, error) {
	url, err := e.ArchiveURL()
	if err != nil {
		return nil, err
	}
	store, err := objectstore.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	if reg != nil {
		store = objectstore.Metrics(store, reg)
	}
	return objectstore.Retry(store, objectstore.RetryOptions{MaxElapsed: patience, Notify: e.logRetry}), nil
}

func (e *Env) logRetry(r objectstore.RetryEvent) {
	e.Log.Warn("the store failed, trying again", "op", r.Op, "key", r.Key, "attempt", r.Attempt, "wait", r.Wait, "error", r.Err)
}
