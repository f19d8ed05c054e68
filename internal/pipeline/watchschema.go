package pipeline

import (
	"context"
	"time"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/ddl"
	"tidemark/segment"
)

const (
	schemaInterval = 2 * time.Second
	schemaShare    = 20 // of the time at most one part in so many goes into reading the catalogs
)

// replacedCapture stands for the identity of a capture that this process put another in place of.
const replacedCapture = "replaced"

// lookAtSchema fills in what captures schema changes and, if nothing does, what the schema is like. It returns why
// the schema may have changed since the last look without a message in the stream, "" if it has not.
func (w *watch) lookAtSchema(ctx context.Context, now *watched, flush segment.LSN, thorough bool) (reason string, err error) {
	first := w.seen.Publication == nil // nothing was seen before
	if w.version == 0 {
		facts, err := readFacts(ctx, w.conn)
		if err != nil {
			return "", err
		}
		w.version = facts.version
	}
	capture, err := readCapture(ctx, w.conn, w.capture)
	if err != nil {
		return "", err
	}
	w.capture, now.Capture, now.Unseen = capture, capture.Identity, capture.Unseen
	now.Key, now.KeySince = ddl.KeyID(capture.key), w.seen.KeySince
	if now.Key != w.seen.Key && !first {
		// A key is replaced only once every transaction that used it has ended.
		if err := w.conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(lsnScanner{&now.KeySince}); err != nil {
			return "", err
		}
	}
	before := w.seen
	switch {
	case first, before.Capture == now.Capture && now.Capture != "":
	case before.Capture == replacedCapture && now.Capture != "":
	case before.Capture != "" && now.Capture == "":
		reason = "schema capture was switched off or removed"
	case before.Capture != "":
		reason = "schema capture was interrupted or changed"
	default:
		if err := w.awaitOlder(ctx, now); err != nil {
			return "", err
		}
		return w.lookUncaptured(ctx, now, flush, thorough)
	}
	if now.Capture == "" {
		if now.Schema, err = basesnapshot.SchemaFingerprint(ctx, w.conn, w.version); err != nil {
			return "", err
		}
	}
	if reason == "" && now.Capture != "" {
		var since segment.LSN
		if reason, since, err = w.lookForUncaptured(ctx, flush, thorough); err != nil {
			return "", err
		}
		if reason != "" {
			w.schema.before = min(w.schema.before, max(since, w.history.From))
		}
	}
	if reason == "" {
		w.schema.before, w.schema.good = w.schema.good, max(w.schema.good, flush)
	}
	return reason, nil
}

// awaitOlder makes a new capture count only once every transaction has ended that was under way when it was first
// seen: one may have changed the schema before, and commits the change unseen.
func (w *watch) awaitOlder(ctx context.Context, now *watched) error {
	if now.Capture == "" {
		return nil
	}
	var oldest, next int64
	err := w.conn.QueryRow(ctx, "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint FROM pg_current_snapshot() s").Scan(&oldest, &next)
	if err != nil {
		return err
	}
	if w.schema.capture != now.Capture {
		w.schema.capture, w.schema.since = now.Capture, next
	}
	if oldest < w.schema.since {
		now.Capture = ""
	}
	return nil
}

// lookUncaptured compares the schema itself: nothing captured its changes since the last look.
func (w *watch) lookUncaptured(ctx context.Context, now *watched, flush segment.LSN, thorough bool) (reason string, err error) {
	started := time.Now()
	if now.Capture == "" && (!thorough || started.Before(w.schema.next)) {
		now.Schema = w.seen.Schema
		return "", nil
	}
	fingerprint, err := basesnapshot.SchemaFingerprint(ctx, w.conn, w.version)
	if err != nil {
		return "", err
	}
	w.schema.next = started.Add(max(schemaInterval, schemaShare*time.Since(started)))
	if now.Capture == "" {
		now.Schema = fingerprint
	}
	if w.seen.Schema != fingerprint {
		return "the schema was changed while schema capture was off", nil
	}
	w.schema.before, w.schema.good = w.schema.good, max(w.schema.good, flush)
	return "", nil
}
