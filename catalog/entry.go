// Package catalog is the log of what an archive holds: a hash chain of immutable entries, appended by
// optimistic concurrency, folded into books and roots so that a reader needs a handful of requests.
// docs/format/catalog.md describes every object it writes.
package catalog

import (
	"time"

	"tidemark/segment"
)

// Kind says what an entry records.
type Kind string

// The kinds of entry.
const (
	KindHistory   Kind = "history"   // begins an unbroken line of WAL
	KindWriter    Kind = "writer"    // the stream's writer claims (or ends) an epoch
	KindSegment   Kind = "segment"   // committed transactions of [From, To)
	KindWatermark Kind = "watermark" // nothing was committed in [From, To)
	KindGap       Kind = "gap"       // [From, To) is lost
	KindSnapshot  Kind = "snapshot"  // a base snapshot at From (= To)
	KindInexact   Kind = "inexact"   // says that what is archived of some range can't be trusted to be all
	KindHold      Kind = "hold"      // stops (or releases) expiry
	KindPrune     Kind = "prune"     // takes objects out of the catalog
)

// Entry is one line of the catalog. Exactly the payload that its Kind names is set.
//
// Segment, watermark and gap entries of one history tile the LSN line: each begins where the one
// before ended, the first at the history's From.
type Entry struct {
	Version int         `json:"v"`       // format version, FormatVersion
	Archive string      `json:"archive"` // archive id (UUID)
	Seq     uint64      `json:"seq"`     // position in the log, from 1
	Prev    string      `json:"prev"`    // SHA-256 (hex) of the entry before, as stored; "" for the first
	Kind    Kind        `json:"kind"`
	At      time.Time   `json:"at"`                // when it was appended, by the appender's clock, UTC, microseconds
	Epoch   uint64      `json:"epoch,omitempty"`   // writer epoch, in entries of the stream's writer
	History uint32      `json:"history,omitempty"` // from 1; 0 where it means nothing
	From    segment.LSN `json:"from"`              // half-open range; of an inexact entry what spans its ranges
	To      segment.LSN `json:"to"`

	Begins    *History   `json:"begins,omitempty"`
	Writer    *Writer    `json:"writer,omitempty"`
	Segment   *Segment   `json:"segment,omitempty"`
	Watermark *Watermark `json:"watermark,omitempty"`
	Gap       *Gap       `json:"gap,omitempty"`
	Snapshot  *Snapshot  `json:"snapshot,omitempty"`
	Inexact   []Inexact  `json:"inexact,omitempty"` // of entries of kind inexact and segment
	Source    string     `json:"source,omitempty"`  // of inexact entries: Writer.Source from here on; "": as it was
	Hold      *Hold      `json:"hold,omitempty"`
	Prune     *Prune     `json:"prune,omitempty"`
}

// Inexact is a range of a history whose replay does not give what the source had: a schema change that
// can't be replayed, or rows that a changed publication withheld. A restore from a snapshot at S to a cut
// at C is touched by it if [S, C) and [From, To) have a position in common: a base snapshot at or past To
// is whole again.
type Inexact struct {
	From   segment.LSN `json:"from"`             // commit LSN of the change, or the last position known to be good
	To     segment.LSN `json:"to"`               // past From: From+1 for a change, else where it was found to be good again
	Tables []string    `json:"tables,omitempty"` // namespace.name; none: any
	Reason string      `json:"reason"`           // for people
}

// Touches reports whether a restore from a snapshot at s to a cut at c (the first position left out) replays
// some of the range.
func (i *Inexact) Touches(s, c segment.LSN) bool { return s < i.To && i.From < c }

// Object names an immutable object of the archive.
type Object struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // hex
}

// History begins a line of WAL: what the stream was read from.
type History struct {
	SystemID      string      `json:"system_id"` // IDENTIFY_SYSTEM
	Timeline      int32       `json:"timeline"`
	ServerVersion int         `json:"server_version"` // server_version_num, such as 150018
	Database      string      `json:"database"`
	Encoding      string      `json:"encoding"` // server_encoding of the source database
	Slot          string      `json:"slot"`
	Publication   string      `json:"publication"`
	Tables        []string    `json:"tables,omitempty"` // the patterns of a listed publication
	Parent        uint32      `json:"parent,omitempty"` // the history it forks from, 0 for none
	Fork          segment.LSN `json:"fork,omitempty"`   // where it left Parent
	Reason        string      `json:"reason"`           // for people: why it began
}

// Writer claims an epoch: one START of replication by one process. Entries of older epochs that come
// after the claim are void. With Stopped set it ends the epoch in good order.
type Writer struct {
	Instance string `json:"instance"` // random id of the process
	Host     string `json:"host"`
	PID      int    `json:"pid"`
	// Boot, PIDNamespace and Started tell the process from others of the same host name and PID, and from its
	// predecessors. Empty where the system does not say, and in entries of older versions.
	Boot         string `json:"boot,omitempty"`          // Linux: /proc/sys/kernel/random/boot_id
	PIDNamespace string `json:"pid_namespace,omitempty"` // Linux: what /proc/self/ns/pid links to
	Started      uint64 `json:"started,omitempty"`       // Linux: clock ticks from the boot to the process' start

	Version  string `json:"version"`  // of Tidemark
	Timeline int32  `json:"timeline"` // of the server at START
	Stopped  bool   `json:"stopped,omitempty"`
	// Source is what the archiver watches of the source (its publication, its schema) as it stood at START, in
	// the archiver's own words: the next START compares. Empty: not known.
	Source string `json:"source,omitempty"`
}

// Segment describes the committed transactions of [From, To).
type Segment struct {
	Objects []Object `json:"objects"` // the parts, in order

	Transactions int64 `json:"transactions"`
	Inserts      int64 `json:"inserts"`
	Updates      int64 `json:"updates"`
	Deletes      int64 `json:"deletes"`
	Truncates    int64 `json:"truncates"`
	Messages     int64 `json:"messages"`
	DDL          int64 `json:"ddl"`
	Refused      int64 `json:"refused,omitempty"` // of the messages, those that claimed to be schema changes and were none

	FirstCommitLSN  segment.LSN       `json:"first_commit_lsn,omitzero"`
	LastCommitLSN   segment.LSN       `json:"last_commit_lsn,omitzero"`
	FirstCommitTime segment.Timestamp `json:"first_commit_time,omitzero"` // in commit order, not the least
	LastCommitTime  segment.Timestamp `json:"last_commit_time,omitzero"`
	// MinCommitTime and MaxCommitTime leave out commits with a replication origin, whose times are foreign.
	MinCommitTime segment.Timestamp `json:"min_commit_time,omitzero"`
	MaxCommitTime segment.Timestamp `json:"max_commit_time,omitzero"`
	RunningMax    segment.Timestamp `json:"running_max,omitzero"` // of MaxCommitTime over the history through this entry
	MinXID        uint32            `json:"min_xid,omitempty"`
	MaxXID        uint32            `json:"max_xid,omitempty"`

	RawBytes    int64          `json:"raw_bytes"`    // of pgoutput messages
	StoredBytes int64          `json:"stored_bytes"` // of the objects
	Tables      []TableCounts  `json:"tables,omitempty"`
	TablesCut   bool           `json:"tables_cut,omitempty"` // more tables changed than Tables lists (at most 256)
	Marks       []Mark         `json:"marks,omitempty"`
	Sequences   *SequenceState `json:"sequences,omitempty"`
}

// TableCounts are the row operations on one table.
type TableCounts struct {
	Table     string `json:"table"` // namespace.name, unquoted
	Inserts   int64  `json:"i,omitempty"`
	Updates   int64  `json:"u,omitempty"`
	Deletes   int64  `json:"d,omitempty"`
	Truncates int64  `json:"t,omitempty"`
}

// Mark is a named restore point.
type Mark struct {
	Name string            `json:"name"`
	LSN  segment.LSN       `json:"lsn"` // of the logical message; it lies before its own transaction's commit LSN
	Time segment.Timestamp `json:"time"`
}

// SequenceState says that the sequences were read at LSN or later. Changed: the values stand in this
// segment's index. Otherwise they are those of the nearest earlier segment with Changed, or the base snapshot's.
type SequenceState struct {
	LSN     segment.LSN `json:"lsn"`
	Changed bool        `json:"changed,omitempty"`
}

// Watermark says that no transaction committed in [From, To).
type Watermark struct {
	RunningMax segment.Timestamp `json:"running_max,omitzero"`
}

// Gap says why [From, To) is lost.
type Gap struct {
	Reason     string            `json:"reason"`
	RunningMax segment.Timestamp `json:"running_max,omitzero"`
}

// Snapshot is a base snapshot: the database as of all commits with commit LSN < From.
type Snapshot struct {
	ID          string            `json:"id"`
	Manifest    Object            `json:"manifest"`             // lists every other object
	Time        segment.Timestamp `json:"time"`                 // server clock when the consistent point was taken
	RunningMax  segment.Timestamp `json:"running_max,omitzero"` // of commit times before From as far as known; eligible for time T only if <= T
	Tables      int64             `json:"tables"`
	Rows        int64             `json:"rows"`
	RawBytes    int64             `json:"raw_bytes"`
	StoredBytes int64             `json:"stored_bytes"`
	Seconds     float64           `json:"seconds"`
}

// Hold stops retention from taking what lies in its range; with Released set it ends the hold of that name.
type Hold struct {
	Name     string            `json:"name"`
	FromTime segment.Timestamp `json:"from_time,omitzero"`
	ToTime   segment.Timestamp `json:"to_time,omitzero"`
	Released bool              `json:"released,omitempty"`
}

// Prune takes everything of a history before From, or the named snapshots, out of the catalog.
type Prune struct {
	Snapshots []string    `json:"snapshots,omitempty"`
	Before    segment.LSN `json:"before,omitzero"`
}
