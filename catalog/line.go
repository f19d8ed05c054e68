package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// encodeEntry returns an entry's line, and the entry as a reader will see it. Text that is not
// UTF-8 (names of an SQL_ASCII database) is replaced by U+FFFD on the way.
func encodeEntry(e Entry) ([]byte, Entry, error) {
	line, err := marshal(e)
	if err != nil {
		return nil, e, fmt.Errorf("encoding a catalog entry: %w", err)
	}
	var seen Entry
	if err := json.Unmarshal(line, &seen); err != nil {
		return nil, e, fmt.Errorf("encoding a catalog entry: %w", err)
	}
	if line, err = marshal(seen); err != nil {
		return nil, e, fmt.Errorf("encoding a catalog entry: %w", err)
	}
	if len(line) > maxLine {
		return nil, e, fmt.Errorf("a catalog entry of %d bytes is too long", len(line))
	}
	return line, seen, seen.check()
}

// errVersion says that a line is of a newer format.
type errVersion int

func (v errVersion) Error() string { return fmt.Sprintf("format version %d", int(v)) }

// decodeEntry is strict: see docs/format/catalog.md. Its errors don't name the object; see lineError.
func decodeEntry(line []byte) (Entry, error) {
	if !bytes.HasPrefix(line, []byte(`{"v":1,`)) {
		var version struct{ V int }
		if err := json.Unmarshal(line, &version); err == nil && version.V > FormatVersion {
			return Entry{}, errVersion(version.V)
		}
	}
	var e Entry
	if err := unmarshalStrict(line, &e); err != nil {
		return Entry{}, err
	}
	return e, e.check()
}

// lineError gives an error about the line of a seq the object's name.
func lineError(key string, err error) error {
	if v, ok := errors.AsType[errVersion](err); ok {
		return versionFault(key, int(v))
	}
	return damaged(key, "%v", err)
}

// linkOf reads seq and prev of a canonical line without decoding it.
func linkOf(line []byte) (seq uint64, prev string, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"v":1,"archive":"`))
	if !ok {
		return 0, "", false
	}
	_, rest, _ = bytes.Cut(rest, []byte(`","seq":`))
	digits, rest, _ := bytes.Cut(rest, []byte(`,"prev":"`))
	hash, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok || len(digits) > 20 || len(hash) > 64 {
		return 0, "", false
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	return seq, string(hash), err == nil
}

// check tests what can be told from an entry alone.
func (e *Entry) check() error {
	if e.Version != FormatVersion {
		return fmt.Errorf("entry version %d does not exist", e.Version)
	}
	if e.Seq == 0 || (e.Seq == 1) != (e.Prev == "") || (e.Prev != "" && !isHash(e.Prev)) {
		return errors.New("its place in the chain makes no sense")
	}
	want, payloads := e.payloads()
	if want != 1 || payloads != 1 {
		return fmt.Errorf("a %q entry must have exactly the payload of its kind", e.Kind)
	}
	if err := e.checkRange(); err != nil {
		return err
	}
	return e.checkPayload()
}

// payloads counts the payloads that are set: of the entry's kind, and in all.
func (e *Entry) payloads() (own, all int) {
	for _, p := range [...]struct {
		kind Kind
		set  bool
	}{
		{KindHistory, e.Begins != nil}, {KindWriter, e.Writer != nil}, {KindSegment, e.Segment != nil}, {KindWatermark, e.Watermark != nil},
		{KindGap, e.Gap != nil}, {KindSnapshot, e.Snapshot != nil}, {KindInexact, e.Kind == KindInexact && len(e.Inexact) > 0}, {KindHold, e.Hold != nil}, {KindPrune, e.Prune != nil},
	} {
		if p.set {
			all++
			if p.kind == e.Kind {
				own++
			}
		}
	}
	return own, all
}

// Stream reports whether the entry is of the stream's tiling: a segment, watermark or gap.
func (e *Entry) Stream() bool {
	return e.Kind == KindSegment || e.Kind == KindWatermark || e.Kind == KindGap
}

func (e *Entry) checkRange() error {
	switch {
	case e.Stream() || e.Kind == KindInexact:
		if e.From >= e.To {
			return fmt.Errorf("its range [%s, %s) is empty", e.From, e.To)
		}
	case e.From != e.To:
		return fmt.Errorf("a %s entry has a range", e.Kind)
	}
	if (e.Stream() || e.Kind == KindHistory || e.Kind == KindSnapshot || e.Kind == KindInexact) && e.History == 0 {
		return errors.New("it names no history")
	}
	if (e.Stream() || e.Kind == KindWriter) && e.Epoch == 0 {
		return errors.New("it carries no epoch")
	}
	return nil
}

// checkInexact tests the ranges of a segment or inexact entry, the only ones that have any.
func (e *Entry) checkInexact() error {
	if len(e.Inexact) > 0 && e.Kind != KindSegment && e.Kind != KindInexact {
		return fmt.Errorf("a %s entry has no inexact ranges", e.Kind)
	}
	if e.Source != "" && e.Kind != KindInexact {
		return fmt.Errorf("a %s entry does not say what the source is like", e.Kind)
	}
	for _, i := range e.Inexact {
		if i.From >= i.To || i.From < e.From || i.To > e.To {
			return fmt.Errorf("its inexact range [%s, %s) makes no sense", i.From, i.To)
		}
		if i.Reason == "" {
			return errors.New("an inexact range without a reason")
		}
	}
	return nil
}

func (e *Entry) checkPayload() error {
	if err := e.checkInexact(); err != nil {
		return err
	}
	switch e.Kind {
	case KindSegment:
		if len(e.Segment.Objects) == 0 {
			return errors.New("a segment without objects")
		}
		for _, o := range e.Segment.Objects {
			if err := o.check(); err != nil {
				return err
			}
		}
	case KindSnapshot:
		if e.Snapshot.ID == "" {
			return errors.New("a snapshot without an id")
		}
		return e.Snapshot.Manifest.check()
	case KindHold:
		if e.Hold.Name == "" {
			return errors.New("a hold without a name")
		}
	}
	return nil
}

func (o Object) check() error {
	if o.Key == "" || o.Size < 0 || !isHash(o.SHA256) {
		return fmt.Errorf("object %q has no name, size or SHA-256", o.Key)
	}
	return nil
}

// isHash reports whether s is a SHA-256 in lower-case hex.
func isHash(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
