package catalog

import (
	"slices"

	"tidemark/segment"
)

// View is an immutable picture of the catalog. What its methods return is the caller's to read, not
// to change.
type View struct {
	id    Identity
	lib   *library
	st    *state
	lines [][]byte // of the open chapter
	head  Entry
}

// Identity returns what archive.json says.
func (v *View) Identity() Identity { return v.id }

// Head returns the newest entry, the zero Entry if there is none.
func (v *View) Head() Entry { return v.head }

// Epoch returns the newest writer claim; its Epoch is 0 if there was none.
func (v *View) Epoch() Claim { return v.st.Claim }

// Histories returns all histories, oldest first.
func (v *View) Histories() []HistoryPoint { return slices.Clone(v.st.Histories) }

// History returns a history by number; ok is false if there is none.
func (v *View) History(n uint32) (h HistoryPoint, ok bool) {
	if p := v.st.history(n); p != nil {
		return *p, true
	}
	return h, false
}

// Newest returns the newest history; ok is false if there is none.
func (v *View) Newest() (h HistoryPoint, ok bool) { return v.History(uint32(len(v.st.Histories))) }

// End returns where a history's next stream entry begins: what lies before is archived or a gap. 0 if
// there is no such history.
func (v *View) End(history uint32) segment.LSN {
	h, _ := v.History(history)
	return h.End
}

// RunningMax returns the greatest local commit time archived in a history; zero if there is none.
func (v *View) RunningMax(history uint32) segment.Timestamp {
	h, _ := v.History(history)
	return h.RunningMax
}

// Snapshots returns the base snapshots that were not pruned, in the order they were appended.
func (v *View) Snapshots() []SnapshotPoint { return slices.Clone(v.st.Snapshots) }

// Marks returns the named restore points, oldest first. A name may occur several times.
func (v *View) Marks() []MarkPoint { return slices.Clone(v.st.Marks) }

// FindMark returns the marks of a name, oldest first.
func (v *View) FindMark(name string) []MarkPoint {
	return slices.DeleteFunc(v.Marks(), func(m MarkPoint) bool { return m.Name != name })
}

// Gaps returns the holes, oldest first.
func (v *View) Gaps() []GapPoint { return slices.Clone(v.st.Gaps) }

// Inexact returns the ranges whose replay does not give what the source had, in the order they were found.
// Those of one history may overlap.
func (v *View) Inexact() []InexactPoint { return slices.Clone(v.st.Inexact) }

// Holds returns the holds that were not released.
func (v *View) Holds() []HoldPoint { return slices.Clone(v.st.Holds) }
