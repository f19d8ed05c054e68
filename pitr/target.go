package pitr

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// TargetKind says what a Target names.
type TargetKind string

// The kinds of target.
const (
	ToLatest   TargetKind = "latest"   // the end of the newest history's last window
	ToLSN      TargetKind = "lsn"      // commits with commit LSN <= LSN (exclusive: <)
	ToTime     TargetKind = "time"     // PostgreSQL's recovery_target_time rule
	ToXID      TargetKind = "xid"      // that transaction is the last (exclusive: the first left out)
	ToMark     TargetKind = "mark"     // the position of that named message
	ToSnapshot TargetKind = "snapshot" // that base snapshot, without replay
)

// Target is the moment a database is to be restored to. Make one with ParseTarget, or set Kind and the
// field it names.
type Target struct {
	Kind      TargetKind
	LSN       segment.LSN
	Time      segment.Timestamp
	XID       uint32
	Name      string // of the mark, or id of the snapshot
	Exclusive bool   // leave the named commit itself out
	History   uint32 // 0: whichever history the target lies in, if there is only one
}

// TargetFlags are the target flags of the command line, as typed. Empty means not given.
type TargetFlags struct {
	Latest    bool   // --to-latest
	LSN       string // --to-lsn
	Time      string // --to-time
	XID       string // --to-xid
	Mark      string // --to-mark
	Snapshot  string // --to-snapshot
	Exclusive bool   // --exclusive
	History   uint32 // --history
}

// ParseTarget turns flags into a Target. Now is the moment that "now-70m" counts from, zone the one
// that a time without zone was probably meant in (it is only used for the hint). Every error is a
// usage fault (exit code 2).
func ParseTarget(f TargetFlags, now time.Time, zone *time.Location) (Target, error) {
	t := Target{Kind: ToLatest, Exclusive: f.Exclusive, History: f.History}
	given := 0
	for _, on := range []bool{f.Latest, f.LSN != "", f.Time != "", f.XID != "", f.Mark != "", f.Snapshot != ""} {
		if on {
			given++
		}
	}
	if given > 1 {
		return Target{}, fault.New(fault.Usage, "give one of --to-latest, --to-lsn, --to-time, --to-xid, --to-mark, --to-snapshot",
			"%d recovery targets were given, at most one is possible", given)
	}
	var err error
	switch {
	case f.LSN != "":
		t.Kind = ToLSN
		if t.LSN, err = segment.ParseLSN(f.LSN); err != nil {
			err = fault.Wrap(err, fault.Usage, "restorer log prints the LSN of every transaction", "--to-lsn")
		}
	case f.Time != "":
		t.Kind = ToTime
		t.Time, err = ParseTime("--to-time", f.Time, now, zone)
	case f.XID != "":
		t.Kind = ToXID
		t.XID, err = parseXID(f.XID)
	case f.Mark != "":
		t.Kind, t.Name = ToMark, f.Mark
	case f.Snapshot != "":
		t.Kind, t.Name = ToSnapshot, f.Snapshot
	}
	if err != nil {
		return Target{}, err
	}
	return t, t.check()
}

// check refuses combinations that mean nothing.
func (t Target) check() error {
	if t.Exclusive && (t.Kind == ToLatest || t.Kind == ToSnapshot) {
		return fault.New(fault.Usage, "--exclusive goes with --to-lsn, --to-time, --to-xid or --to-mark",
			"--exclusive has no meaning with --to-%s", t.Kind)
	}
	return nil
}

func parseXID(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err == nil && v >= 3 {
		return uint32(v), nil
	}
	hint := "restorer log prints the xid of every transaction"
	if wide, wideErr := strconv.ParseUint(s, 10, 64); wideErr == nil && wide > 1<<32 {
		hint = fmt.Sprintf("%s carries an epoch, as pg_current_xact_id() prints it; the transaction id itself is %d", s, uint32(wide))
	}
	return 0, fault.New(fault.Usage, hint, "--to-xid: %q is not a transaction id", s)
}

// String names the target in one line of UTC.
func (t Target) String() string { return t.Describe(time.UTC) }

// Describe names the target for people; a time is given in UTC and, where that differs, in zone.
func (t Target) Describe(zone *time.Location) string {
	s := ""
	switch t.Kind {
	case ToLSN:
		s = "LSN " + t.LSN.String()
	case ToTime:
		s = "time " + DescribeTime(t.Time, zone)
	case ToXID:
		s = "transaction " + strconv.FormatUint(uint64(t.XID), 10)
	case ToMark:
		s = fmt.Sprintf("mark %q", t.Name)
	case ToSnapshot:
		s = "snapshot " + t.Name
	default:
		s = "latest"
	}
	if t.Exclusive {
		s += ", exclusive"
	}
	if t.History != 0 {
		s += fmt.Sprintf(", in history %d", t.History)
	}
	return s
}

// MarshalJSON gives kind, exclusive, and the one field that the kind names.
func (t Target) MarshalJSON() ([]byte, error) {
	out := struct {
		Kind      TargetKind        `json:"kind"`
		LSN       segment.LSN       `json:"lsn,omitzero"`
		Time      segment.Timestamp `json:"time,omitzero"`
		XID       uint32            `json:"xid,omitempty"`
		Mark      string            `json:"mark,omitempty"`
		Snapshot  string            `json:"snapshot,omitempty"`
		Exclusive bool              `json:"exclusive"`
		History   uint32            `json:"history,omitempty"`
	}{Kind: t.Kind, LSN: t.LSN, Time: t.Time, XID: t.XID, Exclusive: t.Exclusive, History: t.History}
	switch t.Kind {
	case ToMark:
		out.Mark = t.Name
	case ToSnapshot:
		out.Snapshot = t.Name
	}
	return json.Marshal(out)
}
