package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
	"tidemark/walstream"
)

// watched is what the archiver notes of its source in the catalog, so that the next START sees what changed
// while nobody looked.
type watched struct {
	Publication *walstream.PublicationState `json:"publication,omitempty"`
}

// text is how the catalog keeps it.
func (w watched) text() (string, error) {
	if w.Publication != nil {
		w.Publication = w.Publication.Recorded()
	}
	data, err := json.Marshal(w)
	return string(data), err
}

// watch looks at what the stream can't tell of a session's source: whether the publication withheld rows (rule
// 6). What it finds stands in the catalog before the segments that lack them: the publisher asks before it
// appends an entry. It has a connection of its own.
type watch struct {
	cfg     *Config
	catalog *catalog.Log
	log     *slog.Logger
	history catalog.HistoryPoint
	found   func(reason string) // told of each inexact range that was recorded

	mu   sync.Mutex
	conn *pgx.Conn // nil: not connected
	seen watched
	good segment.LSN // nothing was withheld before
}

// lookTimeout bounds one look at the source, which the publisher may be waiting for.
const lookTimeout = 2 * time.Second

// watchSource begins a session's watch by comparing the source with what the catalog noted last.
func (r *runner) watchSource(ctx context.Context, view *catalog.View, h catalog.HistoryPoint) (*watch, error) {
	w := &watch{cfg: &r.cfg, catalog: r.catalog, log: r.log, history: h, good: h.End, found: r.inexactFound}
	if claim := view.Epoch(); claim.Seq > h.Seq && claim.Writer.Source != "" {
		if err := json.Unmarshal([]byte(claim.Writer.Source), &w.seen); err != nil {
			return nil, fault.Wrap(err, fault.Damage, "restorer verify names everything that is wrong", "the catalog's note of the source can't be read")
		}
		var err error
		if w.good, err = verifiedBefore(ctx, view, h); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.look(ctx); err != nil {
		w.disconnect()
		return nil, err
	}
	return w, nil
}

// unverified is how old an entry must be, compared to the newest, that the archiver which appended it certainly
// looked at the source afterwards. It looks every second, and before it appends if it can.
const unverified = time.Minute

// verifiedBefore returns the position up to which an earlier run knew that nothing was withheld.
func verifiedBefore(ctx context.Context, view *catalog.View, h catalog.HistoryPoint) (segment.LSN, error) {
	if h.End == h.From {
		return h.From, nil
	}
	newest, _, err := view.FindLSN(ctx, h.Number, h.End-1)
	if err != nil {
		return 0, err
	}
	since := newest.At.Add(-unverified)
	for back := segment.LSN(1 << 24); ; back *= 8 {
		from := h.From
		if h.End-h.From > back {
			from = h.End - back
		}
		good := h.End
		for e, err := range view.Entries(ctx, catalog.Range{History: h.Number, From: from, To: h.End}) {
			if err != nil {
				return 0, err
			}
			if !e.At.Before(since) {
				good = max(e.From, h.From)
				break
			}
			from = h.From // one of the entries is old enough: what follows it is all that counts
		}
		if from == h.From {
			return good, nil
		}
	}
}

// recorded returns what the next START is to compare with.
func (w *watch) recorded() (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.text()
}

// run looks every second until ctx ends. Its error ends the session.
func (w *watch) run(ctx context.Context) error {
	for {
		if !wait(ctx, monitorTick) {
			return nil
		}
		w.mu.Lock()
		err := w.tolerantLook(ctx)
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// verify makes sure, if the source answers, that nothing was withheld before a position: what was stands in the
// catalog when it returns.
func (w *watch) verify(ctx context.Context, to segment.LSN) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.good >= to {
		return nil
	}
	return w.tolerantLook(ctx)
}

// tolerantLook is look that leaves a source that doesn't answer for the next time: the archive must go on while
// a primary shuts down, and what changed is found at the next START too.
func (w *watch) tolerantLook(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := w.look(limited)
	var bad *sourceError
	if err == nil || !errors.As(err, &bad) {
		return err
	}
	w.disconnect()
	if ctx.Err() == nil {
		w.log.Debug("the source could not be looked at", "err", err)
	}
	return nil
}

// sourceError is an error of the source, not of the archive.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

func (w *watch) disconnect() {
	if w.conn != nil {
		closeConn(w.conn)
		w.conn = nil
	}
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disconnect()
}

// look compares the source with what was seen last and records what may have been withheld since.
func (w *watch) look(ctx context.Context) error {
	if w.conn == nil {
		conn, err := walstream.Connect(ctx, w.cfg.DSN)
		if err != nil {
			return &sourceError{err}
		}
		w.conn = conn
	}
	// The position first: a change that commits before it is seen after it, or is pending then.
	flush, err := flushLSN(ctx, w.conn)
	if err != nil {
		return &sourceError{err}
	}
	now, err := walstream.ReadPublicationState(ctx, w.conn, w.cfg.Publication, w.seen.Publication)
	if err != nil {
		return &sourceError{err}
	}
	if now == nil {
		return nil // the stream itself fails at what is written without it: that is a gap
	}
	ranges, err := w.compare(ctx, now)
	if err != nil {
		return err
	}
	if len(ranges) > 0 {
		if err := w.record(ctx, watched{Publication: now}, ranges); err != nil {
			return err
		}
		w.good = ranges[0].To
	}
	w.seen.Publication = now
	if !now.Pending {
		w.good = max(w.good, flush)
	}
	return w.usable(now)
}

// compare returns the ranges in which rows were withheld.
func (w *watch) compare(ctx context.Context, now *walstream.PublicationState) ([]catalog.Inexact, error) {
	if w.seen.Publication == nil || w.seen.Publication.Same(now) {
		return nil, nil
	}
	changes, err := walstream.PublicationChanges(ctx, w.conn, w.seen.Publication, now)
	if err != nil || len(changes) == 0 {
		return nil, errAs(err)
	}
	var to segment.LSN
	if err := w.conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(lsnScanner{&to}); err != nil {
		return nil, &sourceError{err}
	}
	from := max(min(w.good, to-1), w.history.From)
	ranges := make([]catalog.Inexact, len(changes))
	for i, c := range changes {
		ranges[i] = catalog.Inexact{From: from, To: max(to, from+1), Tables: c.Tables, Reason: c.Reason}
	}
	return ranges, nil
}

// errAs marks an error of the source, if there is one.
func errAs(err error) error {
	if err == nil {
		return nil
	}
	return &sourceError{err}
}

// usable refuses to go on with a publication that sends less than everything: the slot keeps what is written
// from now on until somebody mends it, and then the rows that it withheld are known.
func (w *watch) usable(now *walstream.PublicationState) error {
	missing := now.MissingOperations()
	if missing == "" {
		return nil
	}
	name := pgx.Identifier{w.cfg.Publication}.Sanitize()
	return fault.New(fault.Usage, "ALTER PUBLICATION "+name+" SET (publish = 'insert, update, delete, truncate'), then run the archiver again",
		"publication %s was changed and no longer sends %s: what is written so meanwhile is missing in the archive", w.cfg.Publication, missing)
}

// record appends an inexact entry. now is what the source is like since.
func (w *watch) record(ctx context.Context, now watched, ranges []catalog.Inexact) error {
	text, err := now.text()
	if err != nil {
		return fmt.Errorf("encoding what was seen of the source: %w", err)
	}
	reasons := make([]string, len(ranges))
	for i, g := range ranges {
		reasons[i] = g.Reason
	}
	_, err = w.catalog.Append(ctx, func(*catalog.View) (catalog.Entry, error) {
		return catalog.Entry{Kind: catalog.KindInexact, History: w.history.Number, From: ranges[0].From, To: ranges[0].To,
			Inexact: ranges, Source: text}, nil
	})
	if err != nil {
		return err
	}
	w.log.Warn("what is archived of a range is not all", "history", w.history.Number, "from", ranges[0].From, "to", ranges[0].To,
		"reason", strings.Join(reasons, "; "))
	w.found(reasons[0])
	return nil
}
