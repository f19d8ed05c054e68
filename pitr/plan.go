package pitr

import (
	"sort"
	"time"

	"tidemark/catalog"
	"tidemark/segment"
)

// Plan says what a restore will read, and exactly where it will end. It is made by MakePlan from the
// catalog alone: nothing of the target database is in it.
type Plan struct {
	Target   Target       `json:"target"`
	Archive  string       `json:"archive"` // archive id
	History  uint32       `json:"history"`
	Snapshot PlanSnapshot `json:"snapshot"`

	// Cut is where replay ends: of the commits at or after the snapshot's LSN exactly those with a
	// commit LSN < Cut are replayed.
	Cut segment.LSN `json:"cut_lsn"`

	LastKept     *Commit `json:"last_kept"`      // nil: no archived commit lies before Cut in this window
	FirstLeftOut *Commit `json:"first_left_out"` // nil: no later commit is archived

	Segments      int64       `json:"segments"` // catalog entries to replay
	Objects       int64       `json:"objects"`  // segment objects to read; the snapshot's come from its manifest
	Bytes         int64       `json:"bytes"`    // stored, of the segment objects and the snapshot
	Transactions  int64       `json:"transactions"`
	Inserts       int64       `json:"inserts"` // rows, of all tables
	Updates       int64       `json:"updates"`
	Deletes       int64       `json:"deletes"`
	Truncates     int64       `json:"truncates"`
	SchemaChanges int64       `json:"schema_changes"`
	Tables        []PlanTable `json:"tables"`               // changed by the replay, by name
	TablesCut     bool        `json:"tables_cut,omitempty"` // a segment changed more tables than the catalog lists: Tables is incomplete

	// TablesUnlisted says that Tables is empty because the range is so long that counting by table would
	// have read much of the catalog. Restore reads it, and counts.
	TablesUnlisted bool     `json:"tables_unlisted,omitempty"`
	Warnings       []string `json:"warnings,omitempty"`

	// Inexact are the ranges on the way whose replay does not give what the source had. A restore of their
	// tables is refused unless it is told to go past them.
	Inexact []catalog.Inexact `json:"inexact,omitempty"`

	snapshot catalog.SnapshotPoint
	walked   bool            // the range was walked entry by entry: it tiles, and entries is set
	entries  []catalog.Entry // segments to replay, in order
	zone     *time.Location  // for errors

	exactHint string // where Inexact is set: what can be restored exactly
}

// PlanSnapshot is the base snapshot a plan starts from.
type PlanSnapshot struct {
	ID     string            `json:"id"`
	LSN    segment.LSN       `json:"lsn"`
	Time   segment.Timestamp `json:"time"`
	Tables int64             `json:"tables"`
	Rows   int64             `json:"rows"`
	Bytes  int64             `json:"bytes"` // stored
}

// PlanTable counts the row operations that a plan replays on one table.
type PlanTable struct {
	Table     string `json:"table"` // namespace.name, unquoted
	Inserts   int64  `json:"inserts"`
	Updates   int64  `json:"updates"`
	Deletes   int64  `json:"deletes"`
	Truncates int64  `json:"truncates"`
}

// Rows is the number of inserted, updated and deleted rows.
func (t PlanTable) Rows() int64 { return t.Inserts + t.Updates + t.Deletes }

// Commit names one archived transaction.
type Commit struct {
	LSN     segment.LSN       `json:"lsn"`     // of the commit record: what targets compare with
	EndLSN  segment.LSN       `json:"end_lsn"` // of the commit record's end
	Time    segment.Timestamp `json:"time"`
	XID     uint32            `json:"xid"`
	Foreign bool              `json:"foreign,omitempty"` // came from another node: Time is that node's
	Rows    int64             `json:"rows"`              // inserted, updated, deleted
	Tables  []PlanTable       `json:"tables"`
}

// commitOf describes transaction t of index x.
func commitOf(x *segment.Index, t *segment.Transaction) *Commit {
	c := &Commit{LSN: t.CommitLSN, EndLSN: t.EndLSN, Time: t.CommitTime, XID: t.XID, Foreign: t.Foreign}
	sum := tableSums{}
	sum.addTransaction(x, t)
	c.Tables = sum.sorted()
	for _, pt := range c.Tables {
		c.Rows += pt.Rows()
	}
	return c
}

// tableSums adds up row operations by table.
type tableSums map[string]*PlanTable

func (s tableSums) of(table string) *PlanTable {
	pt := s[table]
	if pt == nil {
		pt = &PlanTable{Table: table}
		s[table] = pt
	}
	return pt
}

func (s tableSums) addTransaction(x *segment.Index, t *segment.Transaction) {
	for _, c := range t.Changes {
		pt := s.of(x.Relations[c.Relation].String())
		pt.Inserts += c.Inserts
		pt.Updates += c.Updates
		pt.Deletes += c.Deletes
		pt.Truncates += c.Truncates
	}
}

func (s tableSums) addCounts(counts []catalog.TableCounts) {
	for _, c := range counts {
		pt := s.of(c.Table)
		pt.Inserts += c.Inserts
		pt.Updates += c.Updates
		pt.Deletes += c.Deletes
		pt.Truncates += c.Truncates
	}
}

// sorted returns the sums by table name; never nil, so that JSON has a list.
func (s tableSums) sorted() []PlanTable {
	out := make([]PlanTable, 0, len(s))
	for _, pt := range s {
		out = append(out, *pt)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Table < out[j].Table })
	return out
}
