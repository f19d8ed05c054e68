package catalog

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// Claim is a writer's claim of an epoch.
type Claim struct {
	Epoch  uint64    `json:"epoch"` // 0: none was ever claimed
	Seq    uint64    `json:"seq"`
	At     time.Time `json:"at"`
	Writer Writer    `json:"writer"` // with Stopped set once the claim was ended in good order
}

// HistoryPoint is a history and how far it reaches.
type HistoryPoint struct {
	Number     uint32            `json:"number"`
	From       segment.LSN       `json:"from"`
	Seq        uint64            `json:"seq"` // of its entry
	At         time.Time         `json:"at"`
	Begins     History           `json:"begins"`
	End        segment.LSN       `json:"end"`                  // of the tiling: where the next stream entry begins
	RunningMax segment.Timestamp `json:"running_max,omitzero"` // of local commit times
	Pruned     segment.LSN       `json:"pruned,omitzero"`      // what lies before is out of the catalog
}

// SnapshotPoint is a base snapshot that was not pruned.
type SnapshotPoint struct {
	History  uint32      `json:"history"`
	LSN      segment.LSN `json:"lsn"` // it holds exactly the commits before
	Seq      uint64      `json:"seq"`
	At       time.Time   `json:"at"`
	Snapshot Snapshot    `json:"snapshot"`
	// EligibleFrom is the first moment that the snapshot may serve as a time target: no commit before LSN
	// is later. It may err on the late side by the length of the segment that spans LSN.
	EligibleFrom segment.Timestamp `json:"eligible_from"`
}

// MarkPoint is a named restore point.
type MarkPoint struct {
	Mark
	History uint32 `json:"history"`
	Seq     uint64 `json:"seq"` // of the segment entry that holds it
}

// GapPoint is a hole in a history.
type GapPoint struct {
	History    uint32            `json:"history"`
	From       segment.LSN       `json:"from"`
	To         segment.LSN       `json:"to"`
	Seq        uint64            `json:"seq"`
	At         time.Time         `json:"at"`
	Reason     string            `json:"reason"`
	RunningMax segment.Timestamp `json:"running_max,omitzero"` // before the gap
}

// InexactPoint is a range of a history whose replay does not give what the source had.
type InexactPoint struct {
	Inexact
	History uint32    `json:"history"`
	Seq     uint64    `json:"seq"` // of the segment or inexact entry that says so
	At      time.Time `json:"at"`
}

// HoldPoint is a hold that was not released.
type HoldPoint struct {
	Hold
	Seq uint64    `json:"seq"`
	At  time.Time `json:"at"`
}

// state is the fold of the log through Seq. It is a pure function of the lines.
type state struct {
	Seq       uint64          `json:"base"`
	Hash      string          `json:"hash,omitempty"` // of line Seq
	Claim     Claim           `json:"claim"`
	Histories []HistoryPoint  `json:"histories"`
	Snapshots []SnapshotPoint `json:"snapshots"`
	Marks     []MarkPoint     `json:"marks"`
	Gaps      []GapPoint      `json:"gaps"`
	Inexact   []InexactPoint  `json:"inexact,omitempty"`
	Holds     []HoldPoint     `json:"holds"`
	Books     []summary       `json:"books"`
	Chapters  []summary       `json:"chapters"`

	open summary // of the open chapter; empty at its beginning, where a root's state is taken
}

func newState() *state {
	return &state{Histories: []HistoryPoint{}, Snapshots: []SnapshotPoint{}, Marks: []MarkPoint{}, Gaps: []GapPoint{},
		Holds: []HoldPoint{}, Books: []summary{}, Chapters: []summary{}}
}

// clone returns a state that can be changed without the original showing it. Slices that only grow
// are shared with their capacity clipped.
func (s *state) clone() *state {
	c := *s
	c.Histories = slices.Clone(s.Histories)
	c.Snapshots = slices.Clone(s.Snapshots)
	c.Marks = slices.Clip(s.Marks)
	c.Gaps = slices.Clip(s.Gaps)
	c.Inexact = slices.Clip(s.Inexact)
	c.Holds = slices.Clone(s.Holds)
	c.Books = slices.Clip(s.Books)
	c.Chapters = slices.Clip(s.Chapters)
	c.open = s.open.clone()
	return &c
}

// history returns the history's place in s, nil if there is none.
func (s *state) history(n uint32) *HistoryPoint {
	if n == 0 || uint64(n) > uint64(len(s.Histories)) {
		return nil
	}
	return &s.Histories[n-1]
}

// errVoid says that an entry's epoch is over.
var errVoid = errors.New("its epoch is over")

// admit tests whether e may come next. errVoid: it may, but means nothing.
func (s *state) admit(e *Entry) error {
	switch e.Kind {
	case KindHistory:
		if e.Epoch != 0 {
			if err := s.admitEpoch(e); err != nil {
				return err
			}
		}
		if int(e.History) != len(s.Histories)+1 {
			return fmt.Errorf("history %d can't come after history %d", e.History, len(s.Histories))
		}
	case KindWriter:
		if e.Writer.Stopped {
			return s.admitEpoch(e)
		}
		if e.Epoch != s.Claim.Epoch+1 {
			return fmt.Errorf("epoch %d can't be claimed after epoch %d", e.Epoch, s.Claim.Epoch)
		}
	case KindSegment, KindWatermark, KindGap:
		return s.admitStream(e)
	case KindInexact:
		if h := s.history(e.History); h == nil || e.From < h.From {
			return fmt.Errorf("an inexact range from %s is not in history %d", e.From, e.History)
		}
	case KindSnapshot:
		return s.admitSnapshot(e)
	case KindPrune:
		if h := s.history(e.History); e.Prune.Before != 0 && (h == nil || e.Prune.Before > h.End) {
			return fmt.Errorf("can't prune history %d before %s: it does not reach that far", e.History, e.Prune.Before)
		}
	}
	return nil
}

// admitEpoch tests the epoch of an entry of the stream's writer.
func (s *state) admitEpoch(e *Entry) error {
	switch {
	case e.Epoch > s.Claim.Epoch:
		return fmt.Errorf("epoch %d was never claimed", e.Epoch)
	case e.Epoch < s.Claim.Epoch || s.Claim.Writer.Stopped:
		return errVoid
	}
	return nil
}

func (s *state) admitStream(e *Entry) error {
	if err := s.admitEpoch(e); err != nil {
		return err
	}
	h := s.history(e.History)
	switch {
	case h == nil || int(h.Number) != len(s.Histories):
		return fmt.Errorf("history %d is not the newest of %d", e.History, len(s.Histories))
	case e.From != h.End:
		return fmt.Errorf("a %s from %s does not tile: history %d reaches to %s", e.Kind, e.From, e.History, h.End)
	}
	if got, want := e.runningMax(), max(h.RunningMax, e.maxCommitTime()); got != want {
		return fmt.Errorf("its running maximum of commit times is %s rather than %s", got, want)
	}
	return nil
}

func (s *state) admitSnapshot(e *Entry) error {
	h := s.history(e.History)
	if h == nil || e.From < h.From {
		return fmt.Errorf("a snapshot at %s is not in history %d", e.From, e.History)
	}
	if slices.ContainsFunc(s.Snapshots, func(p SnapshotPoint) bool { return p.Snapshot.ID == e.Snapshot.ID }) {
		return fmt.Errorf("there is a snapshot %s already", e.Snapshot.ID)
	}
	return nil
}

func (e *Entry) runningMax() segment.Timestamp {
	switch e.Kind {
	case KindSegment:
		return e.Segment.RunningMax
	case KindWatermark:
		return e.Watermark.RunningMax
	case KindGap:
		return e.Gap.RunningMax
	}
	return 0
}

func (e *Entry) setRunningMax(t segment.Timestamp) {
	switch e.Kind {
	case KindSegment:
		e.Segment.RunningMax = t
	case KindWatermark:
		e.Watermark.RunningMax = t
	case KindGap:
		e.Gap.RunningMax = t
	}
}

func (e *Entry) maxCommitTime() segment.Timestamp {
	if e.Kind == KindSegment {
		return e.Segment.MaxCommitTime
	}
	return 0
}

// apply adds the entry that comes next. archive is the archive's id, hash that of the entry's line.
func (s *state) apply(e *Entry, archive, hash string) error {
	if e.Seq != s.Seq+1 || e.Prev != s.Hash || e.Archive != archive {
		return errors.New("it does not continue the chain")
	}
	err := s.admit(e)
	if err != nil && !errors.Is(err, errVoid) {
		return err
	}
	s.Seq, s.Hash = e.Seq, hash
	if s.open.First == 0 {
		s.open.First = e.Seq
	}
	s.open.Last, s.open.Hash = e.Seq, hash
	if err != nil {
		s.open.Void = append(s.open.Void, e.Seq)
	} else {
		s.take(e)
	}
	if e.Seq%chapterSize == 0 {
		s.closeChapter()
	}
	return nil
}

// take adds what a valid entry says.
func (s *state) take(e *Entry) {
	switch e.Kind {
	case KindHistory:
		s.Histories = append(s.Histories, HistoryPoint{Number: e.History, From: e.From, Seq: e.Seq, At: e.At, Begins: *e.Begins, End: e.From})
	case KindWriter:
		if e.Writer.Stopped {
			s.Claim.Writer.Stopped = true
		} else {
			s.Claim = Claim{Epoch: e.Epoch, Seq: e.Seq, At: e.At, Writer: *e.Writer}
		}
	case KindSegment, KindWatermark, KindGap:
		s.takeStream(e)
	case KindSnapshot:
		s.Snapshots = append(s.Snapshots, SnapshotPoint{History: e.History, LSN: e.From, Seq: e.Seq, At: e.At, Snapshot: *e.Snapshot,
			EligibleFrom: max(e.Snapshot.Time, e.Snapshot.RunningMax)})
	case KindInexact:
		s.takeInexact(e)
		if e.Source != "" {
			s.Claim.Writer.Source = e.Source
		}
	case KindHold:
		s.Holds = slices.DeleteFunc(s.Holds, func(h HoldPoint) bool { return h.Name == e.Hold.Name })
		if !e.Hold.Released {
			s.Holds = append(s.Holds, HoldPoint{Hold: *e.Hold, Seq: e.Seq, At: e.At})
		}
	case KindPrune:
		s.prune(e)
	}
}

func (s *state) takeInexact(e *Entry) {
	for _, i := range e.Inexact {
		s.Inexact = append(s.Inexact, InexactPoint{Inexact: i, History: e.History, Seq: e.Seq, At: e.At})
	}
}

func (s *state) takeStream(e *Entry) {
	h := s.history(e.History)
	before := h.RunningMax
	h.End, h.RunningMax = e.To, e.runningMax()
	s.open.extend(reach{History: e.History, From: e.From, To: e.To, RunningMax: h.RunningMax})
	switch e.Kind {
	case KindGap:
		s.Gaps = append(s.Gaps, GapPoint{History: e.History, From: e.From, To: e.To, Seq: e.Seq, At: e.At, Reason: e.Gap.Reason, RunningMax: before})
	case KindSegment:
		g := e.Segment
		s.takeInexact(e)
		s.open.Counts.add(CountsOf(g))
		s.open.addBounds(g.MinCommitTime, g.MaxCommitTime, g.MinXID, g.MaxXID)
		for _, m := range g.Marks {
			s.Marks = append(s.Marks, MarkPoint{Mark: m, History: e.History, Seq: e.Seq})
		}
		for i := range s.Snapshots {
			if p := &s.Snapshots[i]; p.History == e.History && p.LSN > e.From {
				p.EligibleFrom = max(p.EligibleFrom, g.MaxCommitTime)
			}
		}
	}
}

func (s *state) prune(e *Entry) {
	before := e.Prune.Before
	if h := s.history(e.History); h != nil && before > h.Pruned {
		h.Pruned = before
	}
	gone := func(history uint32, lsn segment.LSN) bool { return history == e.History && lsn < before }
	s.Snapshots = slices.DeleteFunc(s.Snapshots, func(p SnapshotPoint) bool {
		return gone(p.History, p.LSN) || slices.Contains(e.Prune.Snapshots, p.Snapshot.ID)
	})
	s.Marks = slices.DeleteFunc(slices.Clone(s.Marks), func(m MarkPoint) bool { return gone(m.History, m.LSN) })
	s.Gaps = slices.DeleteFunc(slices.Clone(s.Gaps), func(g GapPoint) bool { return gone(g.History, g.To-1) })
	s.Inexact = slices.DeleteFunc(slices.Clone(s.Inexact), func(i InexactPoint) bool { return gone(i.History, i.To-1) })
}

// closeChapter folds the open chapter away, and with every eighth the book.
func (s *state) closeChapter() {
	s.Chapters = append(s.Chapters, s.open)
	s.open = summary{}
	if s.Seq%bookSize == 0 {
		s.Books = append(s.Books, join(s.Chapters))
		s.Chapters = []summary{}
	}
}

// takenOver is what an appender of an old epoch gets.
func (s *state) takenOver() error {
	c := s.Claim
	if c.Writer.Stopped {
		return fault.New(fault.Conflict, "start the archiver again", "this archiver's epoch %d has ended", c.Epoch)
	}
	return fault.New(fault.Conflict, "only one archiver may run on an archive: stop one of the two",
		"another archiver has taken over: epoch %d was claimed at %s by %s (pid %d)", c.Epoch, c.At.Format(time.RFC3339), c.Writer.Host, c.Writer.PID)
}
