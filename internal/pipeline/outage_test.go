package pipeline

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
	"tidemark/objectstore"
)

// deafStore is a file system whose server is gone: puts into the catalog wait in the kernel, whatever becomes of their context.
type deafStore struct {
	objectstore.Store
	once sync.Once
	hear chan struct{} // closed: it answers again
	on   chan struct{} // closed: it is gone
}

func (s *deafStore) Put(ctx context.Context, key string, data []byte) error {
	if strings.HasPrefix(key, "catalog/") { // the publisher's own puts; it waits for parts without being stuck
		select {
		case <-s.on:
			<-s.hear
		default:
		}
	}
	return s.Store.Put(ctx, key, data)
}

func (s *deafStore) heal() { s.once.Do(func() { close(s.hear) }) }

// TestStoreThatDoesNotEvenFail keeps neither the archiver from stopping nor the primary.
func TestStoreThatDoesNotEvenFail(t *testing.T) {
	for name, primaryStops := range map[string]bool{"the archiver stops": false, "the primary stops": true} {
		t.Run(name, func(t *testing.T) {
			var server *postgres.Server
			if primaryStops {
				server = postgres.Start(t, postgres.Options{})
			}
			w := newWorld(t, server)
			store := &deafStore{Store: w.store, hear: make(chan struct{}), on: make(chan struct{})}
			r := w.start(func(c *Config) {
				c.Store, c.closeTimeout, c.ShutdownGrace = store, 200*time.Millisecond, 500*time.Millisecond
			})
			t.Cleanup(store.heal) // before the run is waited for
			r.protected()
			close(store.on)
			xids := w.insert(1, 3)
			begin := time.Now()
			if primaryStops {
				require.NoError(t, w.server.Stop(postgres.Fast))
				require.Less(t, time.Since(begin), 20*time.Second)
				store.heal()
				require.NoError(t, w.server.Run())
				w.archivedPast(w.flush())
				require.NoError(t, r.end())
			} else {
				err := r.end()
				require.Equal(t, fault.Unreachable, fault.CodeOf(err), "%v", err)
				require.Less(t, time.Since(begin), 20*time.Second)
				store.heal()
			}
			w.acknowledgedIsDurable()
			w.catchUp()
			w.holdsOnce(1, xids)
			require.Len(t, w.view().Histories(), 1)
		})
	}
}

// TestSnapshotStuckInTheStoreDoesNotKeepTheArchiver from stopping.
func TestSnapshotStuckInTheStoreDoesNotKeepTheArchiver(t *testing.T) {
	w := newWorld(t, nil)
	stuck, release := w.holdSnapshots()
	r := w.start(func(c *Config) { c.backgroundPatience = 100 * time.Millisecond })
	t.Cleanup(release)
	<-stuck
	require.NoError(t, r.end())
}
