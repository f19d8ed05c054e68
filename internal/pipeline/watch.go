package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
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
	Capture     string                      `json:"capture,omitempty"` // captureState.Identity; "": schema changes are not captured
	Schema      string                      `json:"schema,omitempty"`  // basesnapshot.SchemaFingerprint, where they are not
	Unseen      string                      `json:"unseen,omitempty"`  // captureState.Unseen
	Key         string                      `json:"key,omitempty"`     // ddl.KeyID; "": there is no key, or none for this role
	KeySince    segment.LSN                 `json:"key_since,omitzero"`
	Outside     []outsideTable              `json:"outside,omitempty"` // tables that the archive is to hold and that are not published
}

// text is how the catalog keeps it.
func (w watched) text() (string, error) {
	if w.Publication != nil {
		w.Publication = w.Publication.Recorded()
	}
	if len(w.Outside) > maxOutside {
		w.Outside = nil // the next START finds them anew
	}
	data, err := json.Marshal(w)
	return string(data), err
}

// watch looks at what the stream can't tell of a session's source: whether the publication withheld rows (rule
// 6), and whether the schema changed without a message. What it finds stands in the catalog before the segments
// that lack rows: the publisher asks before it appends an entry. It has a connection of its own.
type watch struct {
	cfg      *Config
	catalog  *catalog.Log
	log      *slog.Logger
	history  catalog.HistoryPoint
	found    func(reason string) // told of each inexact range that was recorded
	snapshot func(reason string) // asks for a base snapshot

	capturing atomic.Bool // schema changes are written into the stream
	keys      keyring     // that they are verified with

	mu      sync.Mutex
	conn    *pgx.Conn // nil: not connected
	version int       // server_version_num
	seen    watched
	capture captureState
	good    segment.LSN // nothing was withheld before
	schema  schemaWatch

	lasting lastingWatch
	passage passage
	joining joinWatch

	// narrowSince is since when the publication sends less than everything; zero: it doesn't.
	narrowSince time.Time
}

// schemaWatch is the watch over a schema whose changes are not captured.
type schemaWatch struct {
	good   segment.LSN // the schema was as seen before
	before segment.LSN // good as of the look before: a change may commit in the WAL well before others see it
	next   time.Time   // when to look again

	capture string // identity of a capture that is new, and the first transaction that certainly began after it
	since   int64
}

// Bounds of one look at the source. The publisher waits for it no longer than that, and leaves out the schema's
// fingerprint, which takes long where there are very many tables.
const (
	lookTimeout     = 20 * time.Second
	publisherAwaits = 2 * time.Second
)

// watchSource begins a session's watch by comparing the source with what the catalog noted last.
func (r *runner) watchSource(ctx context.Context, view *catalog.View, h catalog.HistoryPoint) (*watch, error) {
	w := &watch{cfg: &r.cfg, catalog: r.catalog, log: r.log, history: h, good: h.End, found: r.inexactFound, snapshot: r.needs.request}
	// What a promoted standby differs in from the old primary was changed before the fork, unseen, or after it; a feed goes on
	// across the fork.
	if claim := view.Epoch(); (claim.Seq > h.Seq || h.Begins.Fork != 0) && claim.Writer.Source != "" {
		if err := json.Unmarshal([]byte(claim.Writer.Source), &w.seen); err != nil {
			return nil, fault.Wrap(err, fault.Damage, "restorer verify names everything that is wrong", "the catalog's note of the source can't be read")
		}
		var err error
		if w.good, err = verifiedBefore(ctx, view, h); err != nil {
			return nil, err
		}
	}
	w.schema.good, w.schema.before = w.good, w.good
	if w.seen.Capture != "" && w.seen.Capture == r.replaced {
		w.seen.Capture = replacedCapture // by ourselves, in one transaction
	}
	for {
		w.mu.Lock()
		err := w.look(ctx, true)
		w.mu.Unlock()
		if err == nil {
			return w, nil
		}
		if !errors.Is(err, errHold) || !wait(ctx, 100*time.Millisecond) {
			w.close()
			return nil, err
		}
	}
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

// errHold says that the publication sends less than everything, and may be mended in a moment: until then nothing
// is known to be good.
var errHold = errors.New("the publication does not send everything")

// narrowPatience is how long a publication may send less than everything before the session ends.
const narrowPatience = 3 * time.Second

// run looks every second until ctx ends. Its error ends the session.
func (w *watch) run(ctx context.Context) error {
	for {
		if !wait(ctx, monitorTick) {
			return nil
		}
		w.mu.Lock()
		err := w.tolerantLook(ctx, lookTimeout)
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// verify makes sure, if the source answers, that nothing was withheld before a position: what was stands in the
// catalog when it returns.
func (w *watch) verify(ctx context.Context, to segment.LSN) error {
	for {
		w.mu.Lock()
		var err error
		if w.good < to {
			err = w.tolerantLook(ctx, publisherAwaits)
		}
		holds := !w.narrowSince.IsZero()
		w.mu.Unlock()
		if err != nil || !holds {
			return err
		}
		if !wait(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// tolerantLook is look that leaves a source that doesn't answer for the next time: the archive must go on while
// a primary shuts down, and what changed is found at the next START too.
func (w *watch) tolerantLook(ctx context.Context, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := w.look(limited, limit > publisherAwaits)
	var bad *sourceError
	if errors.Is(err, errHold) {
		return nil
	}
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

// look compares the source with what was seen last and records what may have been withheld since; thorough, also
// the schema where its changes are not captured.
func (w *watch) look(ctx context.Context, thorough bool) error {
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
	pub, err := walstream.ReadPublicationState(ctx, w.conn, w.cfg.Publication, w.seen.Publication)
	if err != nil {
		return &sourceError{err}
	}
	if pub == nil {
		return nil // the stream itself fails at what is written without it: that is a gap
	}
	if w.holds(pub) {
		return errHold
	}
	now := watched{Publication: pub}
	var ranges []catalog.Inexact
	if w.seen.Publication != nil && !w.seen.Publication.Same(pub) {
		changes, err := walstream.PublicationChanges(ctx, w.conn, w.seen.Publication, pub)
		if err != nil {
			return &sourceError{err}
		}
		for _, c := range changes {
			ranges = append(ranges, catalog.Inexact{From: w.good, Tables: c.Tables, Reason: c.Reason})
		}
	}
	joined, err := w.join(ctx, &now, thorough)
	if err != nil {
		return err
	}
	ranges = append(ranges, joined...)
	reason, err := w.lookAtSchema(ctx, &now, flush, thorough)
	if err != nil {
		return &sourceError{err}
	}
	if reason != "" {
		ranges = append(ranges, catalog.Inexact{From: w.schema.before, Reason: reason})
	}
	if err := w.settle(ctx, now, ranges); err != nil {
		return err
	}
	w.keys.learn(w.capture.key, now.KeySince, flush)
	if !now.Publication.Pending {
		w.good = max(w.good, flush)
	}
	return w.usable(now.Publication)
}

// holds reports whether the publication sends less than everything since a moment ago: it is not judged yet.
func (w *watch) holds(pub *walstream.PublicationState) bool {
	if pub.MissingOperations() == "" {
		w.narrowSince = time.Time{}
		return false
	}
	if w.narrowSince.IsZero() {
		w.narrowSince = time.Now()
		w.log.Warn("the publication no longer sends everything", "publication", w.cfg.Publication, "missing", pub.MissingOperations())
	}
	return time.Since(w.narrowSince) < narrowPatience
}

// settle records the ranges, which end now, and takes over what was seen.
func (w *watch) settle(ctx context.Context, now watched, ranges []catalog.Inexact) error {
	if len(ranges) > 0 {
		var to segment.LSN
		if err := w.conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(lsnScanner{&to}); err != nil {
			return &sourceError{err}
		}
		for i := range ranges {
			ranges[i].From = max(min(ranges[i].From, to-1), w.history.From)
			ranges[i].To = max(to, ranges[i].From+1)
		}
		if err := w.record(ctx, now, ranges); err != nil {
			return err
		}
		w.good = max(w.good, to)
		w.schema.good, w.schema.before = max(w.schema.good, to), max(w.schema.good, to)
	}
	if w.seen.Unseen != "" && w.seen.Unseen != now.Unseen {
		const reason = "event triggers, settings or privileges of the database changed"
		w.log.Info("another base snapshot is needed", "reason", reason)
		w.snapshot(reason)
	}
	w.seen = now
	w.capturing.Store(now.Capture != "")
	return nil
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
	e := catalog.Entry{Kind: catalog.KindInexact, History: w.history.Number, From: ranges[0].From, To: ranges[0].To, Inexact: ranges, Source: text}
	for _, g := range ranges {
		e.From, e.To = min(e.From, g.From), max(e.To, g.To)
	}
	_, err = w.catalog.Append(ctx, func(*catalog.View) (catalog.Entry, error) { return e, nil })
	if err != nil {
		return err
	}
	w.log.Warn("what is archived of a range is not all", "history", w.history.Number, "from", e.From, "to", e.To,
		"reason", strings.Join(reasons, "; "))
	w.found(reasons[0])
	return nil
}
