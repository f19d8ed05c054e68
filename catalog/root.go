package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// leaf is the open chapter: the state at its beginning, and its lines so far. Lines are only appended.
type leaf struct {
	base  *state
	prior []byte   // line base.Seq, nil if there is none
	lines [][]byte // base.Seq+1 and on
}

// through returns the leaf as it was at seq.
func (l *leaf) through(seq uint64) *leaf {
	return &leaf{base: l.base, prior: l.prior, lines: l.lines[:seq-l.base.Seq]}
}

// fold is the log as far as it was read: the state through the head, and the open chapter.
type fold struct {
	archive string
	state   *state
	leaf    *leaf
}

func newFold(archive string) fold {
	return fold{archive: archive, state: newState(), leaf: &leaf{base: newState()}}
}

// fork returns a fold that can go on without the original showing it.
func (f *fold) fork() fold {
	l := f.leaf
	return fold{archive: f.archive, state: f.state.clone(),
		leaf: &leaf{base: l.base, prior: l.prior, lines: l.lines[:len(l.lines):len(l.lines)]}}
}

// add applies the line that comes next. At a chapter's end it begins the next leaf and returns the
// chapter's lines. After an error the fold is as it was.
func (f *fold) add(line []byte) (e Entry, chapter [][]byte, err error) {
	key := logKey(f.state.Seq + 1)
	if e, err = decodeEntry(line); err != nil {
		return e, nil, lineError(key, err)
	}
	if err := f.state.apply(&e, f.archive, hashOf(line)); err != nil {
		return e, nil, damaged(key, "%v", err)
	}
	f.leaf.lines = append(f.leaf.lines, line)
	if e.Seq%chapterSize == 0 {
		chapter = f.leaf.lines
		f.leaf = &leaf{base: f.state.clone(), prior: line}
	}
	return e, chapter, nil
}

// rootHeader is the first line of a root.
type rootHeader struct {
	Version int    `json:"v"`
	Archive string `json:"archive"`
	Seq     uint64 `json:"seq"`
	*state
}

// rootText returns what a root through the leaf's last line says, before compression.
func rootText(archive string, l *leaf) ([]byte, error) {
	head, err := marshal(rootHeader{Version: FormatVersion, Archive: archive, Seq: l.base.Seq + uint64(len(l.lines)), state: l.base})
	if err != nil {
		return nil, fmt.Errorf("encoding a catalog root: %w", err)
	}
	lines := [][]byte{head}
	if l.prior != nil {
		lines = append(lines, l.prior)
	}
	return joinLines(append(lines, l.lines...)), nil
}

// parseRoot checks a root's form. The chain of its lines is checked when they are applied.
func parseRoot(key, archive string, seq uint64, text []byte) (*leaf, error) {
	lines, err := splitLines(text)
	if err != nil || len(lines) == 0 {
		return nil, derivedDamage(key, "its text is cut off")
	}
	var version struct{ V int }
	if err := json.Unmarshal(lines[0], &version); err == nil && version.V > FormatVersion {
		return nil, versionFault(key, version.V)
	}
	h := rootHeader{state: newState()}
	if err := unmarshalStrict(lines[0], &h); err != nil {
		return nil, derivedDamage(key, "its state: %v", err)
	}
	if h.Version != FormatVersion || h.Archive != archive || h.Seq != seq {
		return nil, derivedDamage(key, "it is of archive %s and seq %d, format version %d", h.Archive, h.Seq, h.Version)
	}
	l := &leaf{base: h.state, lines: lines[1:]}
	if h.state.Seq > 0 && len(l.lines) > 0 {
		l.prior, l.lines = l.lines[0], l.lines[1:]
	}
	if err := l.check(seq); err != nil {
		return nil, derivedDamage(key, "%v", err)
	}
	return l, nil
}

// check tests that the numbers of a root fit one another.
func (l *leaf) check(seq uint64) error {
	b := l.base
	if b.Seq != seq-seq%chapterSize || seq-b.Seq != uint64(len(l.lines)) {
		return errors.New("the number of its lines is wrong")
	}
	if b.Seq == 0 {
		if !bytes.Equal(mustJSON(b), mustJSON(newState())) {
			return errors.New("its state should be empty")
		}
		return nil
	}
	if l.prior == nil || hashOf(l.prior) != b.Hash {
		return errors.New("its state is not that of its line")
	}
	return b.check()
}

func mustJSON(s *state) []byte {
	data, _ := marshal(s) // compared only: two failures are as good as equal
	return data
}

// check tests the form of a state at the end of a chapter: enough that nothing later panics or
// looks up what is not there.
func (s *state) check() error {
	var next uint64 = 1
	runs := append(append([]summary{}, s.Books...), s.Chapters...)
	if uint64(len(s.Books)) != s.Seq/bookSize || uint64(len(s.Chapters)) != s.Seq%bookSize/chapterSize {
		return errors.New("the number of its books or chapters is wrong")
	}
	for i, r := range runs {
		size := uint64(chapterSize)
		if i < len(s.Books) {
			size = bookSize
		}
		if r.First != next || r.Last != next+size-1 || !isHash(r.Hash) {
			return fmt.Errorf("its summary of %d to %d is wrong", r.First, r.Last)
		}
		next += size
	}
	if runs[len(runs)-1].Hash != s.Hash {
		return errors.New("its last summary is not that of its line")
	}
	for i, h := range s.Histories {
		if int(h.Number) != i+1 || h.From > h.End {
			return fmt.Errorf("its history %d is wrong", h.Number)
		}
	}
	return nil
}
