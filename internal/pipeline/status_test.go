package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
)

// TestLagIsTheAgeOfTheOldestMissingCommit, whatever was written to the archive after that commit.
func TestLagIsTheAgeOfTheOldestMissingCommit(t *testing.T) {
	w := newWorld(t, nil)
	lag := func() float64 {
		s, err := ReadStatus(context.Background(), w.cfg.DSN, w.store, time.Now())
		require.NoError(t, err)
		require.NotNil(t, s.LagSeconds)
		return *s.LagSeconds
	}
	w.catchUp()
	w.insert(1, 1)
	missing := time.Now()
	w.store.OnPut(func(key string) error {
		if strings.HasPrefix(key, "segments/") {
			return errors.New("no segment today")
		}
		return nil
	})
	before := w.view().Head().Seq
	r := w.start()
	w.eventually("the new writer's claim", func() bool { r.lives(); return w.active() && w.view().Head().Seq > before })
	require.True(t, w.view().Head().At.After(missing))
	since := time.Since(missing)
	require.GreaterOrEqual(t, lag(), since.Seconds(), "the claim archives no commit")
	w.store.OnPut(nil)
	w.archivedPast(w.flush())
	require.NoError(t, r.end())
}

// TestDetachSparesAnotherRun of the same database, which uses the same event triggers and publication.
func TestDetachSparesAnotherRun(t *testing.T) {
	w := newWorld(t, nil)
	r := w.start()
	r.protected()
	cfg := w.cfg
	cfg.Store, cfg.Slot = nil, "another_slot"
	for _, apply := range []bool{false, true} {
		_, err := Detach(context.Background(), cfg, apply)
		require.Equal(t, fault.Conflict, fault.CodeOf(err), "%v", err)
		require.ErrorContains(t, err, w.slot())
	}
	require.NotEqual(t, "0", w.query("SELECT count(*) FROM pg_event_trigger"))
	require.Equal(t, "1", w.query("SELECT count(*) FROM pg_publication"))
	require.NoError(t, r.end())
	plan, err := Detach(context.Background(), cfg, false)
	require.NoError(t, err)
	require.Empty(t, plan.Slot)
}

// TestCaptureOfAnEarlierProgramIsReplaced without calling what it captured inexact: it is as it was seen last.
func TestCaptureOfAnEarlierProgramIsReplaced(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.exec("UPDATE pg_proc SET prosrc = '1' WHERE proname = 'ddl_version' AND pronamespace = 'tidemark'::regnamespace")
	conn := w.server.Connect(t, w.db)
	defer conn.Close(context.Background())
	before, err := readCapture(t.Context(), conn, captureState{})
	require.NoError(t, err)
	require.Empty(t, before.Identity, "it is not current")
	r := &runner{cfg: w.cfg, log: slog.New(slog.DiscardHandler)}
	require.NoError(t, r.installCapture(t.Context(), conn))
	require.Equal(t, before.raw, r.replaced)
	after, err := readCapture(t.Context(), conn, captureState{})
	require.NoError(t, err)
	require.NotEmpty(t, after.Identity)
}
