package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"tidemark/catalog"
	"tidemark/segment"
	"tidemark/walstream"
)

// firstUserOID is where OIDs of user-defined objects begin (FirstNormalObjectId is 16384, those from
// 10000 on are made by initdb); the stream sends definitions only of types at or above 10000
// (FirstGenbkiObjectId, src/backend/replication/pgoutput/pgoutput.c).
const firstUserOID = 10000

// errFinished ends Receive in good order: the stream's end that was asked for is in the publisher's hands.
var errFinished = errors.New("finished")

// errPrimaryStopping ends a session whose primary is shutting down while the store doesn't take what it
// waits for.
var errPrimaryStopping = errors.New("the primary is shutting down and the store can't take what it waits for: the replication connection is closed so that it can stop")

// sink packs the stream into segments. All methods run on the goroutine of Stream.Receive.
type sink struct {
	cfg       *Config
	pub       *publisher
	upload    func(start segment.LSN, part segment.Part) (*upload, error) // publisher.upload in the session's context
	enqueue   func(job) error                                             // publisher.enqueue likewise
	newWriter func(start segment.LSN, emit func(segment.Part) error) (*segment.Writer, error)
	resent    *resent
	onCommit  func(received time.Time, heartbeat bool)
	onRel     func(*segment.Relation, segment.LSN)
	passage   *passage
	sample    func(at segment.LSN, last bool) // sequenceSampler.refresh in the session's context
	sequences *sequenceSampler
	stop      <-chan struct{}    // closed: finish at the next transaction's end
	until     func() segment.LSN // finish once everything up to here is archived; 0: not yet

	writer   *segment.Writer // the open segment, nil for none
	parts    []*upload       // its parts so far
	serial   uint64          // number of the open segment, to know which definitions it has
	openedAt time.Time
	end      segment.LSN // everything before it is in the publisher's hands
	last     segment.LSN // end of the newest transaction or message received, >= end
	walEnd   segment.LSN // the server's decoding has reached it

	inTx        bool
	confirmed   bool // what was sent again is what is archived
	skipping    bool // the open transaction or message is archived already
	begin       segment.Begin
	rows        bool // the open transaction has row operations
	message     *messageScan
	relations   map[uint32]*relationState
	types       map[uint32]*typeState
	shapes      map[uint32]shownShape
	unannounced *unannounced
	changes     int         // schema changes seen
	capturing   func() bool // whether schema changes are written into the stream
	judge       func(commit segment.LSN, made func(keys [][]byte) bool) (authenticity, error)
	keys        func() [][]byte
	inexact     []catalog.Inexact // of the open segment's schema changes
	refused     int64             // of the open segment's messages
	marks       int               // seen in the open segment
	warnedAt    time.Time         // of a refused message
	closeSoon   bool              // a mark was seen: close at the transaction's end
	now         time.Time
	watermarkAt time.Time
	urgentSince time.Time // since when a stopping primary waits; zero: it doesn't
	stopSince   time.Time
	finishing   bool // what is open is closed for good
}

type relationState struct {
	def segment.Relation
	fed uint64 // the segment that has this definition
}

// shownShape is a relation as the session's stream showed it last.
type shownShape struct {
	shape   string
	changes int // schema changes seen until then
}

type typeState struct {
	def segment.TypeDef
	fed uint64
}

func (s *sink) Begin(b segment.Begin) error {
	s.inTx, s.rows, s.begin = true, false, b
	s.message = nil
	if s.resent.covers(b.CommitLSN) {
		s.skipping = true
		return s.resent.seen(b)
	}
	if err := s.confirm(); err != nil {
		return err
	}
	if b.CommitLSN < s.last {
		return fmt.Errorf("the server sent a commit at %s after the stream had reached %s", b.CommitLSN, s.last)
	}
	if err := s.open(b.CommitTime.Time()); err != nil {
		return err
	}
	return s.writer.Begin(b)
}

func (s *sink) Commit(c segment.Commit) error {
	s.inTx = false
	s.passage.reach(c.CommitLSN)
	if s.skipping {
		s.skipping = false
		return nil
	}
	if c.CommitLSN != s.begin.CommitLSN || c.EndLSN <= c.CommitLSN {
		return fmt.Errorf("the server began a transaction with commit LSN %s and ended it with %s (end %s)", s.begin.CommitLSN, c.CommitLSN, c.EndLSN)
	}
	for _, table := range s.unannounced.commit() {
		s.notExact("table "+table+" was made and that was not captured (EXPLAIN ANALYZE CREATE TABLE AS, event_triggers = off?)", []string{table})
	}
	if err := s.writer.Commit(c); err != nil {
		return err
	}
	s.last = c.EndLSN
	s.onCommit(s.now, !s.rows && s.message != nil && s.message.isHeartbeat())
	if s.closeSoon || s.writer.StoredBytes() >= s.cfg.SegmentMaxSize {
		return s.close()
	}
	return nil
}

// Relation keeps a definition; the open segment gets it when a row needs it.
func (s *sink) Relation(r *segment.Relation) error {
	def := *r
	def.Columns = slices.Clone(r.Columns)
	s.relations[r.ID] = &relationState{def: def}
	s.shown(&def)
	return nil
}

// shown tells of a definition. Where schema changes are captured, one that differs from what was sent before
// without any such change in between was made behind the capture's back.
func (s *sink) shown(r *segment.Relation) {
	s.onRel(r, s.begin.CommitLSN)
	s.unannounced.shown(r, s.begin.XID, s.capturing() && !s.skipping)
	shape, before := relationShape(r), s.shapes[r.ID]
	if s.capturing() && before.shape != "" && before.shape != shape && before.changes == s.changes && !s.skipping {
		at := s.begin.CommitLSN
		s.inexact = append(s.inexact, catalog.Inexact{From: at, To: at + 1, Tables: []string{r.String()},
			Reason: "table " + r.String() + " was changed and the change was not captured (event_triggers = off?)"})
	}
	s.shapes[r.ID] = shownShape{shape: shape, changes: s.changes}
}

func (s *sink) Type(t segment.TypeDef) error {
	s.types[t.ID] = &typeState{def: t}
	return nil
}

func (s *sink) Origin(o segment.Origin) error {
	if s.skipping {
		return nil
	}
	return s.writer.Origin(o)
}

func (s *sink) Message(m segment.MessageHeader) error {
	if !m.Transactional {
		s.skipping = m.LSN <= s.resent.end
		if !s.skipping && s.writer == nil {
			if err := s.open(s.now); err != nil {
				return err
			}
		}
	}
	s.message = s.scan(m)
	if s.skipping {
		s.messagePassed()
		return nil
	}
	if !m.Transactional {
		s.last = max(s.last, m.LSN)
	}
	if s.message.held {
		return nil // until it is known what it is
	}
	return s.writer.Message(m)
}

func (s *sink) Truncate(t segment.Truncate) error {
	s.rows = true
	if s.skipping {
		return nil
	}
	for _, id := range t.Relations {
		if err := s.feed(id); err != nil {
			return err
		}
	}
	return s.writer.Truncate(t)
}

func (s *sink) Row(op segment.Op, relation uint32) error {
	s.rows = true
	if s.skipping {
		return nil
	}
	if err := s.feed(relation); err != nil {
		return err
	}
	return s.writer.Row(op, relation)
}

func (s *sink) Tuple(role segment.TupleRole, columns int) error {
	if s.skipping {
		return nil
	}
	return s.writer.Tuple(role, columns)
}

func (s *sink) Null() error {
	if s.skipping {
		return nil
	}
	return s.writer.Null()
}

func (s *sink) Unchanged() error {
	if s.skipping {
		return nil
	}
	return s.writer.Unchanged()
}

func (s *sink) Value(size int) error {
	if s.skipping {
		return nil
	}
	return s.writer.Value(size)
}

func (s *sink) Bytes(b []byte) error {
	if m := s.message; m != nil && m.left > 0 {
		m.pass(b)
		if m.left == 0 && m.isSchemaChange() {
			s.passage.changed(s.begin.CommitLSN)
		}
		s.closeSoon = s.closeSoon || m.isMark()
		if m.own && !s.skipping {
			return s.ownBytes(m, b)
		}
	}
	if s.skipping {
		s.messagePassed()
		return nil
	}
	return s.writer.Bytes(b)
}

// messagePassed ends the skipping of a message outside a transaction once its content is through.
func (s *sink) messagePassed() {
	if !s.inTx && s.message.left == 0 {
		s.skipping = false
	}
}

func (s *sink) EndRow() error {
	if s.skipping {
		return nil
	}
	return s.writer.EndRow()
}

// feed gives the open segment a relation's definition, and those of its columns' types, if it lacks them.
func (s *sink) feed(id uint32) error {
	r, ok := s.relations[id]
	if !ok {
		return fmt.Errorf("the server sent a row of relation %d without its definition", id)
	}
	if r.fed == s.serial {
		return nil
	}
	for _, c := range r.def.Columns {
		t, ok := s.types[c.TypeOID]
		if c.TypeOID < firstUserOID || !ok || t.fed == s.serial {
			continue
		}
		if err := s.writer.Type(t.def); err != nil {
			return err
		}
		t.fed = s.serial
	}
	r.fed = s.serial
	return s.writer.Relation(&r.def)
}

// open begins a segment where the last one ended, unless one is open.
func (s *sink) open(commit time.Time) error {
	if s.writer != nil {
		return nil
	}
	s.serial++
	s.parts = nil
	start := s.end
	w, err := s.newWriter(start, func(part segment.Part) error {
		u, err := s.upload(start, part)
		if err == nil {
			s.parts = append(s.parts, u)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.writer, s.openedAt, s.closeSoon = w, s.now, false
	s.pub.metrics.pending.opened(commit)
	s.pub.metrics.segmentOpened.Store(s.now.UnixNano())
	return nil
}

// close ends the open segment and hands it to the publisher.
func (s *sink) close() error {
	if s.urgentSince.IsZero() { // a primary that shuts down must not wait for it
		s.sample(s.last, s.finishing)
	}
	lsn, values, changed := s.sequences.take()
	if changed {
		s.writer.SetSequences(lsn, values)
	}
	summary, err := s.writer.Close(s.last)
	if err != nil {
		return err
	}
	payload := catalogSegment(summary)
	payload.Refused = s.refused
	if lsn != 0 {
		payload.Sequences = &catalog.SequenceState{LSN: lsn, Changed: changed}
	}
	j := job{kind: catalog.KindSegment, from: s.end, to: s.last, segment: payload, parts: s.parts, inexact: s.inexact}
	s.writer, s.parts, s.inexact, s.refused, s.marks, s.closeSoon = nil, nil, nil, 0, 0, false
	s.end = s.last
	s.pub.metrics.pending.closed(s.end)
	s.pub.metrics.segmentOpened.Store(0)
	s.watermarkAt = s.now
	return s.enqueue(j)
}

// Keepalive notes how far the server's decoding is. Positions go backwards after a reconnect (rule 3):
// only what is ahead counts.
func (s *sink) Keepalive(k walstream.Keepalive) error {
	s.walEnd = max(s.walEnd, k.WALEnd)
	if s.inTx {
		return nil
	}
	s.passage.reach(k.WALEnd)
	if s.walEnd >= s.resent.end {
		if err := s.confirm(); err != nil {
			return err
		}
	}
	if !k.Urgent {
		return nil
	}
	if s.urgentSince.IsZero() {
		s.urgentSince = s.now
	}
	return s.settle()
}

// confirm is told that the stream has passed the archive's end. If what came again was what is archived, the
// server may know that it is: an idle stream would not tell it otherwise.
func (s *sink) confirm() error {
	if s.confirmed {
		return nil
	}
	if err := s.resent.passed(); err != nil {
		return err
	}
	s.confirmed = true
	s.pub.confirm(s.resent.end)
	return nil
}

// settle closes what is open and covers the idle WAL behind it, at once.
func (s *sink) settle() error {
	if s.inTx {
		return nil
	}
	if s.writer != nil {
		if err := s.close(); err != nil {
			return err
		}
	}
	if s.walEnd <= s.end || s.walEnd < s.resent.end {
		return nil
	}
	j := job{kind: catalog.KindWatermark, from: s.end, to: s.walEnd}
	s.end, s.last, s.watermarkAt = s.walEnd, s.walEnd, s.now
	return s.enqueue(j)
}

// Tick closes segments by age, covers idle WAL, and ends the stream when asked to.
func (s *sink) Tick(now time.Time) error {
	s.now = now
	if err := s.tickStopping(); err != nil {
		return err
	}
	if s.inTx {
		return nil
	}
	if until := s.until(); until != 0 && max(s.last, s.walEnd) >= until && s.resent.done(s.walEnd) {
		return s.finish()
	}
	if s.writer != nil && now.Sub(s.openedAt) >= s.cfg.SegmentMaxAge {
		return s.close()
	}
	if s.writer == nil && s.walEnd > s.end && s.pub.pending.Load() == 0 && now.Sub(s.watermarkAt) >= s.cfg.SegmentMaxAge {
		return s.settle()
	}
	return nil
}

// stopPatience is how long a stop waits for the end of an open transaction before it gives it up. What is
// given up was not acknowledged and comes again.
const stopPatience = 5 * time.Second

func (s *sink) tickStopping() error {
	if !s.urgentSince.IsZero() {
		if s.pub.pending.Load() == 0 && segment.LSN(s.pub.durable.Load()) >= s.walEnd {
			s.urgentSince = time.Time{}
		} else if s.now.Sub(s.urgentSince) > s.cfg.ShutdownGrace {
			return errPrimaryStopping
		}
	}
	select {
	case <-s.stop:
	default:
		return nil
	}
	if !s.inTx {
		return s.finish()
	}
	if s.stopSince.IsZero() {
		s.stopSince = s.now
	}
	if s.now.Sub(s.stopSince) > s.cfg.stopPatience {
		return errFinished
	}
	return nil
}

func (s *sink) finish() error {
	s.finishing = true
	if err := s.settle(); err != nil {
		return err
	}
	return errFinished
}
