package pipeline

import (
	"context"
	"errors"
	"strings"
	"time"

	"tidemark/catalog"
	"tidemark/internal/ddl"
	"tidemark/objectstore"
	"tidemark/segment"
	"tidemark/walstream"
)

// States of an archive.
const (
	StateProtected   = "protected"
	StateSnapshot    = "snapshotting"
	StateCatchingUp  = "catching_up"
	StateUnprotected = "unprotected"
)

// Status is the answer of archiver status. Pointers are null in JSON where nothing is known.
type Status struct {
	State             string             `json:"state"`
	Reason            string             `json:"reason,omitempty"` // why it is not protected
	UnprotectedSince  *segment.Timestamp `json:"unprotected_since"`
	History           uint32             `json:"history"`
	RecoverableToLSN  *segment.LSN       `json:"recoverable_to_lsn"`
	RecoverableToTime *segment.Timestamp `json:"recoverable_to_time"`
	Slot              string             `json:"slot"`
	ConfirmedFlushLSN *segment.LSN       `json:"confirmed_flush_lsn"`
	RetainedBytes     *int64             `json:"retained_bytes"`
	LagBytes          *int64             `json:"lag_bytes"`
	LagSeconds        *float64           `json:"lag_seconds"`
	LastVerified      *segment.Timestamp `json:"last_verified"`
	SchemaCapture     string             `json:"schema_capture"`                  // on, off, or unknown where the source did not answer
	SchemaCaptureHint string             `json:"schema_capture_reason,omitempty"` // why it is off, and what mends it
	Inexact           int                `json:"inexact"`                         // ranges of the newest history whose replay is not exact
	Refused           int64              `json:"refused_messages"`                // of the newest history, that claimed to be schema changes and were none
	SourceError       string             `json:"source_error,omitempty"`          // why the source did not answer
}

// sourceState is what the source says of the slot.
type sourceState struct {
	flush   segment.LSN
	now     time.Time            // by its clock, as commit times are
	slot    *walstream.SlotState // nil when it is gone
	capture ddl.Status
}

// Thresholds of the state: how far behind is still protected, and how old the archive's newest word may be
// when the source can't be asked.
const (
	catchingUpBytes   = 64 << 20
	catchingUpSeconds = 120
	silentAfter       = 3 * time.Minute
)

// ReadStatus answers from the archive and, where it can be reached, the source. Damage and an unreachable store are
// errors, an unreachable source is not.
func ReadStatus(ctx context.Context, dsn string, store objectstore.Store, now time.Time) (*Status, error) {
	return readStatus(ctx, func(h *catalog.History) (*sourceState, error) { return readSourceState(ctx, dsn, h) }, store, now)
}

// ReadArchiveStatus is ReadStatus of the archive alone.
func ReadArchiveStatus(ctx context.Context, store objectstore.Store, now time.Time) (*Status, error) {
	return readStatus(ctx, func(*catalog.History) (*sourceState, error) { return nil, nil }, store, now)
}

func readStatus(ctx context.Context, source func(*catalog.History) (*sourceState, error), store objectstore.Store, now time.Time) (*Status, error) {
	log, err := catalog.Open(ctx, store)
	if err != nil {
		return nil, err
	}
	view := log.View()
	history, ok := view.Newest()
	s := &Status{History: history.Number}
	if !ok {
		s.State, s.Reason = StateUnprotected, "the archive holds no history yet"
		return s, nil
	}
	s.Slot = history.Begins.Slot
	s.fillWindow(view)
	sums, err := view.Sums(ctx, catalog.Range{History: history.Number, From: history.From, To: history.End})
	if err != nil {
		return nil, err
	}
	s.Refused = sums.Refused
	src, err := source(&history.Begins)
	if err != nil {
		s.SourceError = err.Error()
	}
	if err := s.fillSource(ctx, src, view, now); err != nil {
		return nil, err
	}
	s.fillCapture(src, view)
	s.judge(src, view, now)
	return s, nil
}

// IsNoArchive reports whether err says that there is no archive yet.
func IsNoArchive(err error) bool { return errors.Is(err, catalog.ErrNoArchive) }

func (s *Status) fillWindow(view *catalog.View) {
	for _, w := range view.Windows() {
		if w.History != s.History {
			continue
		}
		s.RecoverableToLSN, s.RecoverableToTime = &w.To, nil
		if !w.ToTime.IsZero() {
			s.RecoverableToTime = &w.ToTime
		}
	}
}

func (s *Status) fillSource(ctx context.Context, src *sourceState, view *catalog.View, now time.Time) error {
	if src == nil {
		return nil
	}
	lag := max(0, int64(src.flush)-int64(view.End(s.History)))
	s.LagBytes = &lag
	var seconds float64
	if lag > 0 {
		age, err := oldestMissing(ctx, view, src.now, now)
		if err != nil {
			return err
		}
		seconds = max(0, age.Seconds())
	}
	s.LagSeconds = &seconds
	if src.slot != nil {
		s.ConfirmedFlushLSN, s.RetainedBytes = &src.slot.ConfirmedFlush, &src.slot.RetainedBytes
	}
	return nil
}

// oldestMissing returns the greatest age that a commit which is not archived can have. Behind a segment that is
// the age of its latest commit by the source's clock; when the segment was archived doesn't matter, since one who
// catches up archives old commits. Behind a watermark, which is written when there is nothing to archive, it is
// the watermark's own.
func oldestMissing(ctx context.Context, view *catalog.View, atSource, now time.Time) (time.Duration, error) {
	history, _ := view.Newest()
	age := now.Sub(history.At)
	for e, err := range view.Entries(ctx, catalog.Range{History: history.Number, From: history.End - 1, To: history.End}) {
		switch {
		case err != nil:
			return 0, err
		case e.To != history.End:
		case e.Kind == catalog.KindSegment && !history.RunningMax.IsZero():
			age = atSource.Sub(history.RunningMax.Time())
		case e.Kind == catalog.KindSegment, e.Kind == catalog.KindWatermark, e.Kind == catalog.KindGap:
			age = now.Sub(e.At)
		}
	}
	return age, nil
}

func (s *Status) fillCapture(src *sourceState, view *catalog.View) {
	s.SchemaCapture = "unknown"
	if src != nil {
		s.SchemaCapture = "on"
		if !src.capture.Current {
			s.SchemaCapture, s.SchemaCaptureHint = "off", strings.Join(src.capture.Missing, " ")
		}
	}
	for _, i := range view.Inexact() {
		if i.History == s.History {
			s.Inexact++
		}
	}
}

func (s *Status) judge(src *sourceState, view *catalog.View, now time.Time) {
	head := view.Head()
	stopped := view.Epoch().Writer.Stopped
	s.State = StateProtected
	unprotected := func(reason string) {
		since := segment.TimestampOf(head.At)
		s.State, s.Reason, s.UnprotectedSince = StateUnprotected, reason, &since
	}
	_, hasSnapshot := newestSnapshot(view)
	switch {
	case src == nil && (stopped || now.Sub(head.At) > silentAfter):
		unprotected("the source can't be asked and the archive has not grown since then")
	case src != nil && src.slot == nil:
		unprotected("the slot is gone")
	case src != nil && src.slot.Lost():
		unprotected("the slot lost its WAL")
	case src != nil && !src.slot.Active:
		unprotected("no archiver reads the slot")
	case !hasSnapshot:
		since := segment.TimestampOf(uncoveredSince(view))
		s.State, s.Reason, s.UnprotectedSince = StateSnapshot, "there is no finished base snapshot yet of what is archived now", &since
	case s.LagBytes != nil && (*s.LagBytes > catchingUpBytes || *s.LagSeconds > catchingUpSeconds):
		s.State, s.Reason = StateCatchingUp, "the archive is behind the source"
	}
}

// uncoveredSince returns when the newest history began, or its last gap or inexact range was found, behind which a
// base snapshot is missing.
func uncoveredSince(view *catalog.View) time.Time {
	history, _ := view.Newest()
	since := history.At
	for _, g := range view.Gaps() {
		if g.History == history.Number {
			since = g.At
		}
	}
	for _, i := range view.Inexact() {
		if i.History == history.Number && i.At.After(since) {
			since = i.At
		}
	}
	return since
}

// readSourceState asks the source.
func readSourceState(ctx context.Context, dsn string, h *catalog.History) (*sourceState, error) {
	conn, err := walstream.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	if err := requireArchivedSource(ctx, conn, h); err != nil {
		return nil, err
	}
	s := &sourceState{}
	if s.slot, err = walstream.ReadSlot(ctx, conn, h.Slot); err != nil {
		return nil, err
	}
	if s.flush, err = flushLSN(ctx, conn); err != nil {
		return nil, err
	}
	if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&s.now); err != nil {
		return nil, err
	}
	s.capture, err = ddl.Probe(ctx, conn)
	return s, err
}
