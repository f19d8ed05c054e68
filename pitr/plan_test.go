package pitr

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/pitr/apply"
	"tidemark/segment"
)

// synthetic is an archive made of numbers: LSNs are small, times are seconds.
type synthetic struct {
	hs      []catalog.HistoryPoint
	snaps   []catalog.SnapshotPoint
	wins    []catalog.Window
	mks     []catalog.MarkPoint
	entries []catalog.Entry
	blurred []catalog.InexactPoint
	indexes map[string]*segment.Index
	asked   atomic.Int64 // index reads
	costly  int          // requests that a walk would take
}

var _ source = (*synthetic)(nil)

func (s *synthetic) archiveID() string                  { return "archive" }
func (s *synthetic) histories() []catalog.HistoryPoint  { return s.hs }
func (s *synthetic) snapshots() []catalog.SnapshotPoint { return s.snaps }
func (s *synthetic) windows() []catalog.Window          { return s.wins }
func (s *synthetic) marks() []catalog.MarkPoint         { return s.mks }

func (s *synthetic) inexact() []catalog.InexactPoint { return s.blurred }

func (s *synthetic) SchemaChanges(context.Context, catalog.Entry) ([]apply.Announced, error) {
	return nil, nil
}

func (s *synthetic) stream(_ context.Context, h uint32, from, to segment.LSN) iter.Seq2[catalog.Entry, error] {
	return func(yield func(catalog.Entry, error) bool) {
		for _, e := range s.entries {
			if e.History == h && e.To > from && (to == 0 || e.From < to) && !yield(e, nil) {
				return
			}
		}
	}
}

func (s *synthetic) since(ctx context.Context, h uint32, _ segment.Timestamp) iter.Seq2[catalog.Entry, error] {
	return s.stream(ctx, h, 0, 0)
}

func (s *synthetic) gaps() (all []catalog.GapPoint) {
	for _, e := range s.entries {
		if e.Kind == catalog.KindGap {
			all = append(all, catalog.GapPoint{History: e.History, From: e.From, To: e.To, Reason: e.Gap.Reason})
		}
	}
	return all
}

func (s *synthetic) sums(ctx context.Context, h uint32, from, to segment.LSN) (c catalog.Counts, err error) {
	for e := range s.stream(ctx, h, from, to) {
		if e.Segment != nil {
			one := catalog.CountsOf(e.Segment)
			c.Segments, c.Objects, c.StoredBytes = c.Segments+1, c.Objects+one.Objects, c.StoredBytes+one.StoredBytes
			c.Transactions, c.Deletes = c.Transactions+one.Transactions, c.Deletes+one.Deletes
		}
	}
	return c, nil
}

func (s *synthetic) spanning(_ context.Context, h uint32, at segment.LSN) (catalog.Entry, bool, error) {
	for _, e := range s.entries {
		if e.History == h && e.From < at && at < e.To && e.Segment != nil {
			return e, true, nil
		}
	}
	return catalog.Entry{}, false, nil
}

func (s *synthetic) committed(h uint32, from, to segment.LSN) (all []catalog.Entry) {
	for _, e := range s.entries {
		if e.History == h && e.Segment != nil && e.Segment.LastCommitLSN >= from && (to == 0 || e.Segment.FirstCommitLSN < to) {
			all = append(all, e)
		}
	}
	return all
}

func (s *synthetic) firstSegment(_ context.Context, h uint32, from, to segment.LSN) (e catalog.Entry, ok bool, err error) {
	if all := s.committed(h, from, to); len(all) > 0 {
		return all[0], true, nil
	}
	return e, false, nil
}

func (s *synthetic) lastSegment(_ context.Context, h uint32, from, to segment.LSN) (e catalog.Entry, ok bool, err error) {
	if all := s.committed(h, from, to); len(all) > 0 {
		return all[len(all)-1], true, nil
	}
	return e, false, nil
}

func (s *synthetic) unread(uint32, segment.LSN, segment.LSN) int { return s.costly }
func (s *synthetic) requests() int                               { return int(s.asked.Load()) }

func (s *synthetic) firstLater(_ context.Context, h uint32, t segment.Timestamp) (catalog.Entry, bool, error) {
	for _, e := range s.entries {
		if e.History == h && e.Segment != nil && e.Segment.MaxCommitTime > t {
			return e, true, nil
		}
	}
	return catalog.Entry{}, false, nil
}

func (s *synthetic) withXID(_ context.Context, xid uint32) iter.Seq2[catalog.Entry, error] {
	return func(yield func(catalog.Entry, error) bool) {
		for _, e := range s.entries {
			if e.Segment != nil && e.Segment.MinXID <= xid && xid <= e.Segment.MaxXID && !yield(e, nil) {
				return
			}
		}
	}
}

func (s *synthetic) index(_ context.Context, e catalog.Entry, _ segment.LSN) (*segment.Index, error) {
	s.asked.Add(1)
	if x := s.indexes[e.Segment.Objects[0].Key]; x != nil {
		return x, nil
	}
	return nil, errors.New("no index")
}

// commit is a transaction of a synthetic segment: it deletes as many rows as its xid says.
type commit struct {
	lsn  segment.LSN
	time segment.Timestamp
	xid  uint32
	far  bool // from another node
}

func sec(n int) segment.Timestamp { return segment.Timestamp(n) * 1e6 }

func (s *synthetic) add(h uint32, from, to segment.LSN, commits ...commit) {
	e := catalog.Entry{Kind: catalog.KindWatermark, History: h, From: from, To: to, Watermark: &catalog.Watermark{}}
	if len(commits) > 0 {
		key := fmt.Sprintf("%d/%d", h, from)
		x := &segment.Index{Relations: []segment.Relation{{Namespace: "public", Name: "t"}, {Namespace: "public", Name: "other"}}}
		seg := &catalog.Segment{Objects: []catalog.Object{{Key: key}}, MinXID: ^uint32(0), StoredBytes: 10, FirstCommitLSN: commits[0].lsn, LastCommitLSN: commits[len(commits)-1].lsn}
		counts := catalog.TableCounts{Table: "public.t"}
		for _, c := range commits {
			x.Transactions = append(x.Transactions, segment.Transaction{XID: c.xid, CommitLSN: c.lsn, EndLSN: c.lsn + 1, CommitTime: c.time, Foreign: c.far,
				Changes: []segment.Change{{Relation: 0, Deletes: int64(c.xid)}}})
			seg.Transactions++
			seg.Deletes += int64(c.xid)
			counts.Deletes += int64(c.xid)
			seg.MinXID, seg.MaxXID = min(seg.MinXID, c.xid), max(seg.MaxXID, c.xid)
			if !c.far {
				seg.MaxCommitTime = max(seg.MaxCommitTime, c.time)
				if seg.MinCommitTime == 0 || c.time < seg.MinCommitTime {
					seg.MinCommitTime = c.time
				}
			}
		}
		seg.Tables = []catalog.TableCounts{counts}
		e = catalog.Entry{Kind: catalog.KindSegment, Seq: uint64(len(s.entries) + 1), History: h, From: from, To: to, Segment: seg}
		s.indexes[key] = x
	}
	s.entries = append(s.entries, e)
}

func (s *synthetic) snap(h uint32, at segment.LSN, from int, id string) {
	s.snaps = append(s.snaps, catalog.SnapshotPoint{History: h, LSN: at, EligibleFrom: sec(from), Snapshot: catalog.Snapshot{ID: id, Time: sec(from), StoredBytes: 100}})
}

// example: history 1 with two windows and times that run against commit order; history 2 begins low again.
func example() *synthetic {
	s := &synthetic{indexes: map[string]*segment.Index{}}
	s.hs = []catalog.HistoryPoint{{Number: 1, From: 100, End: 500}, {Number: 2, From: 450, End: 600, Begins: catalog.History{Parent: 1, Reason: "promotion"}}}
	s.snap(1, 110, 10, "s1")
	s.snap(1, 205, 42, "s2")
	s.snap(1, 400, 100, "s3")
	s.snap(2, 460, 200, "s4")
	s.wins = []catalog.Window{
		{History: 1, From: 110, To: 300, FromTime: sec(10), ToTime: sec(60)},
		{History: 1, From: 400, To: 500, FromTime: sec(100), ToTime: sec(130)},
		{History: 2, From: 460, To: 600, FromTime: sec(200), ToTime: sec(210)},
	}
	s.mks = []catalog.MarkPoint{{History: 1, Mark: catalog.Mark{Name: "m", LSN: 206, Time: sec(45)}},
		{History: 1, Mark: catalog.Mark{Name: "twice", LSN: 206}}, {History: 1, Mark: catalog.Mark{Name: "twice", LSN: 420}}}
	s.add(1, 100, 200, commit{120, sec(20), 7, false}, commit{140, sec(40), 8, false}, commit{160, sec(30), 9, false})
	s.add(1, 200, 210, commit{204, sec(41), 10, false}, commit{207, sec(50), 11, false})
	s.add(1, 210, 260)
	s.add(1, 260, 300, commit{270, sec(4000), 12, true}, commit{280, sec(60), 13, false})
	s.entries = append(s.entries, catalog.Entry{Kind: catalog.KindGap, History: 1, From: 300, To: 390, Gap: &catalog.Gap{Reason: "slot lost"}})
	s.add(1, 390, 500, commit{410, sec(110), 20, false}, commit{430, sec(130), 21, false})
	s.add(2, 450, 600, commit{470, sec(205), 20, false}, commit{480, sec(210), 22, false})
	return s
}

func TestPlanEndsExactlyAtTheTarget(t *testing.T) {
	lsnTarget := func(at segment.LSN, exclusive bool, h uint32) Target {
		return Target{Kind: ToLSN, LSN: at, Exclusive: exclusive, History: h}
	}
	timeTarget := func(s int, exclusive bool) Target {
		return Target{Kind: ToTime, Time: sec(s), Exclusive: exclusive}
	}
	cases := []struct {
		name         string
		target       Target
		snapshot     string
		kept, left   segment.LSN // commit LSNs, 0: none
		transactions int64
		code         fault.Code
		says         string // in the error or hint
	}{
		{name: "latest is the newest history's end", target: Target{Kind: ToLatest}, snapshot: "s4", kept: 480, transactions: 2},
		{name: "latest of a named history", target: Target{Kind: ToLatest, History: 1}, snapshot: "s3", kept: 430, transactions: 2},
		{name: "lsn inclusive keeps the commit at it", target: lsnTarget(140, false, 0), snapshot: "s1", kept: 140, left: 160, transactions: 2},
		{name: "lsn exclusive leaves it out", target: lsnTarget(140, true, 0), snapshot: "s1", kept: 120, left: 140, transactions: 1},
		{name: "lsn between commits", target: lsnTarget(150, false, 0), snapshot: "s1", kept: 140, left: 160, transactions: 2},
		{name: "the newest snapshot at or before", target: lsnTarget(207, false, 0), snapshot: "s2", kept: 207, left: 270, transactions: 1},
		{name: "a snapshot's own position, exclusive", target: lsnTarget(205, true, 0), snapshot: "s2", kept: 204, left: 207},
		{name: "a window's beginning", target: lsnTarget(110, false, 0), snapshot: "s1", left: 120},
		{name: "the end of a window, exclusive", target: lsnTarget(300, true, 0), snapshot: "s2", kept: 280, transactions: 3},
		{name: "the end of a window, inclusive", target: lsnTarget(300, false, 0), code: fault.Uncovered, says: "--to-lsn 0/12C --exclusive"},
		{name: "before the first snapshot", target: lsnTarget(105, false, 0), code: fault.Uncovered, says: "--to-lsn 0/6E --exclusive"},
		{name: "nothing is archived there", target: lsnTarget(99, false, 0), code: fault.Uncovered, says: "nothing before it is archived"},
		{name: "before a history's first snapshot", target: lsnTarget(455, false, 2), code: fault.Uncovered, says: "no base snapshot leads up to it"},
		{name: "between a gap and its snapshot", target: lsnTarget(395, false, 0), code: fault.Uncovered, says: "no base snapshot leads up to it"},
		{name: "in a gap", target: lsnTarget(350, false, 0), code: fault.Uncovered, says: "it lies in a gap"},
		{name: "in a gap: both sides are named", target: lsnTarget(350, false, 0), code: fault.Uncovered, says: "--to-lsn 0/190 --exclusive"},
		{name: "beyond the end", target: lsnTarget(601, false, 0), code: fault.Uncovered, says: "not archived yet"},
		{name: "in two histories", target: lsnTarget(470, false, 0), code: fault.Usage, says: "--history"},
		{name: "in a named history", target: lsnTarget(470, false, 2), snapshot: "s4", kept: 470, left: 480, transactions: 1},
		{name: "in the other", target: lsnTarget(470, false, 1), snapshot: "s3", kept: 430, transactions: 2},
		{name: "an unknown history", target: lsnTarget(470, false, 3), code: fault.Usage, says: "no such history"},

		{name: "time stops before the first later commit", target: timeTarget(30, false), snapshot: "s1", kept: 120, left: 140, transactions: 1},
		{name: "time equal to a commit, inclusive", target: timeTarget(40, false), snapshot: "s1", kept: 160, left: 204, transactions: 3},
		{name: "time equal to a commit, exclusive", target: timeTarget(40, true), snapshot: "s1", kept: 120, left: 140, transactions: 1},
		{name: "the newer snapshot holds no later commit", target: timeTarget(45, false), snapshot: "s2", kept: 204, left: 207},
		{name: "exclusive needs a snapshot strictly before", target: timeTarget(42, true), snapshot: "s1", kept: 204, left: 207, transactions: 4},
		{name: "a foreign commit doesn't stop the walk", target: timeTarget(55, false), snapshot: "s2", kept: 270, left: 280, transactions: 2},
		{name: "a time settled by no later commit", target: timeTarget(60, false), code: fault.Uncovered, says: "--to-lsn 0/190 --exclusive"},
		{name: "exclusive at the last commit's time", target: timeTarget(60, true), snapshot: "s2", kept: 270, left: 280, transactions: 2},
		{name: "before everything", target: timeTarget(5, false), code: fault.Uncovered, says: "nothing that early"},
		{name: "after everything", target: timeTarget(300, false), code: fault.Uncovered, says: "a later commit is archived"},
		{name: "a time only the newer history has", target: timeTarget(207, false), snapshot: "s4", kept: 470, left: 480, transactions: 1},

		{name: "xid inclusive", target: Target{Kind: ToXID, XID: 8}, snapshot: "s1", kept: 140, left: 160, transactions: 2},
		{name: "xid exclusive", target: Target{Kind: ToXID, XID: 8, Exclusive: true}, snapshot: "s1", kept: 120, left: 140, transactions: 1},
		{name: "xid in two histories", target: Target{Kind: ToXID, XID: 20}, code: fault.Usage, says: "--history 2 --to-lsn 0/1D6"},
		{name: "xid in one of them", target: Target{Kind: ToXID, XID: 20, History: 2}, snapshot: "s4", kept: 470, left: 480, transactions: 1},
		{name: "unknown xid", target: Target{Kind: ToXID, XID: 999}, code: fault.Uncovered, says: "subtransactions"},

		{name: "mark", target: Target{Kind: ToMark, Name: "m"}, snapshot: "s2", kept: 204, left: 207},
		{name: "unknown mark", target: Target{Kind: ToMark, Name: "x"}, code: fault.Uncovered, says: `"m"`},
		{name: "a mark's name used twice", target: Target{Kind: ToMark, Name: "twice"}, code: fault.Usage, says: "--to-lsn 0/CE"},

		{name: "snapshot", target: Target{Kind: ToSnapshot, Name: "s2"}, snapshot: "s2", kept: 204, left: 207},
		{name: "unknown snapshot", target: Target{Kind: ToSnapshot, Name: "s9"}, code: fault.Uncovered, says: "s1"},
		{name: "exclusive means nothing here", target: Target{Kind: ToLatest, Exclusive: true}, code: fault.Usage, says: "no meaning"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := makePlan(t.Context(), example(), c.target, time.UTC)
			if c.code != 0 {
				require.Error(t, err)
				require.Equal(t, c.code, fault.CodeOf(err), err)
				require.Contains(t, err.Error()+" | "+fault.HintOf(err), c.says)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.snapshot, p.Snapshot.ID)
			require.Equal(t, c.transactions, p.Transactions)
			requireCommit(t, c.kept, p.LastKept)
			requireCommit(t, c.left, p.FirstLeftOut)
		})
	}
}

func requireCommit(t *testing.T, want segment.LSN, got *Commit) {
	t.Helper()
	if want == 0 {
		require.Nil(t, got)
		return
	}
	require.NotNil(t, got)
	require.Equal(t, want, got.LSN)
}

func TestPlanCountsWhatItReplays(t *testing.T) {
	p, err := makePlan(t.Context(), example(), Target{Kind: ToLSN, LSN: 204}, time.UTC)
	require.NoError(t, err)
	require.Equal(t, []PlanTable{{Table: "public.t", Deletes: 7 + 8 + 9 + 10}}, p.Tables)
	require.Equal(t, int64(2), p.Segments)
	require.Equal(t, int64(120), p.Bytes)
	require.Contains(t, strings.Join(p.Warnings, "\n"), "is itself the commit of transaction 10")
	var b strings.Builder
	require.NoError(t, p.WriteText(&b, time.FixedZone("", 7200)))
	require.Contains(t, b.String(), "2000-01-01T00:00:41.000000Z (2000-01-01 02:00:41.000000 +02:00)  xid 10  LSN 0/CC  public.t delete 10")
}

// TestPlanOfALongRange: totals and edges are the same without a walk through every entry, for every cut.
func TestPlanOfALongRange(t *testing.T) {
	for at := segment.LSN(110); at <= 600; at++ {
		for h := uint32(1); h <= 2; h++ {
			target := Target{Kind: ToLSN, LSN: at, Exclusive: at%2 == 0, History: h}
			walked, err := makePlan(t.Context(), example(), target, time.UTC)
			src := example()
			src.costly = 7
			plan, err2 := makePlan(t.Context(), src, target, time.UTC)
			if err != nil {
				require.EqualError(t, err2, err.Error())
				continue
			}
			require.NoError(t, err2)
			require.Empty(t, plan.entries)
			require.Equal(t, plan.Cut > plan.snapshot.LSN, plan.TablesUnlisted)
			require.LessOrEqual(t, src.asked.Load(), int64(4))
			full, err := plan.walkAll(t.Context(), src)
			require.NoError(t, err)
			require.Equal(t, walked, full)
			var b strings.Builder
			require.NoError(t, plan.WriteText(&b, time.UTC))
			require.Equal(t, plan.TablesUnlisted, strings.Contains(b.String(), "not listed"))
			plan.Tables, plan.TablesUnlisted, plan.walked, plan.entries = full.Tables, false, true, full.entries
			require.Equal(t, full, plan, "totals")
		}
	}
	src := example()
	src.costly = 7
	plan, err := makePlan(t.Context(), src, Target{Kind: ToLSN, LSN: 280, History: 1}, time.UTC)
	require.NoError(t, err)
	src.entries = append(src.entries[:2], src.entries[3:]...) // [210, 260) is missing
	_, err = plan.walkAll(t.Context(), src)
	require.Equal(t, fault.Uncovered, fault.CodeOf(err), "a restore walks through every entry")
}

func TestPlanRefusesAHoleTheWindowsHide(t *testing.T) {
	s := example()
	s.entries = append(s.entries[:1], s.entries[2:]...) // [200, 210) is missing
	_, err := makePlan(t.Context(), s, Target{Kind: ToLSN, LSN: 280, History: 1}, time.UTC)
	require.Error(t, err)
	require.Equal(t, fault.Uncovered, fault.CodeOf(err))
}

func TestPlanWarnsOfCommitsBehindTheStop(t *testing.T) {
	p, err := makePlan(t.Context(), example(), Target{Kind: ToTime, Time: sec(30)}, time.UTC)
	require.NoError(t, err)
	require.Contains(t, strings.Join(p.Warnings, "\n"), "1 commits with a time up to the target come after the stop")
}

func TestParseTarget(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)
	zone := time.FixedZone("CEST", 7200)
	parse := func(f TargetFlags) (Target, error) { return ParseTarget(f, now, zone) }

	got, err := parse(TargetFlags{})
	require.NoError(t, err)
	require.Equal(t, Target{Kind: ToLatest}, got)

	got, err = parse(TargetFlags{Time: "now-70m"})
	require.NoError(t, err)
	require.Equal(t, "2026-07-01T10:50:00.123456Z", got.Time.String())
	require.Equal(t, "time 2026-07-01T10:50:00.123456Z (2026-07-01 12:50:00.123456 +02:00)", got.Describe(zone))

	for _, s := range []string{"2026-07-01T14:00:00+02:00", "2026-07-01 14:00:00+02", "2026-07-01T12:00:00Z", "2026-07-01t12:00:00z", "2026-07-01 12:00:00.000000+00", "2026-07-01T12:00Z"} {
		got, err = parse(TargetFlags{Time: s})
		require.NoError(t, err, s)
		require.Equal(t, "2026-07-01T12:00:00.000000Z", got.Time.String(), s)
	}
	for _, c := range []struct {
		flags      TargetFlags
		err, hints string
	}{
		{TargetFlags{Time: "2026-07-01 14:00:00"}, "has no time zone", "--to-time 2026-07-01T14:00:00+02:00"},
		{TargetFlags{Time: "2026-07-01T14:00"}, "has no time zone", "2026-07-01T14:00:00Z (UTC)"},
		{TargetFlags{Time: "yesterday"}, "is not a time", "now-70m"},
		{TargetFlags{Time: "now-70"}, "is not a time", "now-70m"},
		{TargetFlags{Time: "now+1h"}, "is not a time", "now-70m"},
		{TargetFlags{Time: "2026-07-01T12:00:00.1234567Z"}, "microseconds", ".123456Z"},
		{TargetFlags{LSN: "16/B374D848x"}, "--to-lsn", "restorer log"},
		{TargetFlags{XID: "4294968066"}, "is not a transaction id", "770"},
		{TargetFlags{XID: "-1"}, "is not a transaction id", "restorer log"},
		{TargetFlags{XID: "770", Mark: "m"}, "2 recovery targets", "--to-mark"},
		{TargetFlags{Latest: true, Exclusive: true}, "no meaning", "--to-lsn"},
	} {
		_, err := parse(c.flags)
		require.Error(t, err)
		require.Equal(t, fault.Usage, fault.CodeOf(err))
		require.Contains(t, err.Error(), c.err)
		require.Contains(t, fault.HintOf(err), c.hints)
	}
}

func TestLog(t *testing.T) {
	list := func(q LogQuery) (out []string, asked int) {
		s := example()
		for line, err := range logLines(t.Context(), s, q) {
			require.NoError(t, err)
			out = append(out, fmt.Sprintf("%d:%d", line.History, line.XID))
		}
		return out, int(s.asked.Load())
	}
	all, _ := list(LogQuery{})
	require.Equal(t, []string{"1:7", "1:8", "1:9", "1:10", "1:11", "1:12", "1:13", "1:20", "1:21", "2:20", "2:22"}, all)
	some, asked := list(LogQuery{MinRows: 21})
	require.Equal(t, []string{"1:21", "2:22"}, some)
	require.Less(t, asked, 6)
	some, asked = list(LogQuery{Since: sec(45), Until: sec(60)})
	require.Equal(t, []string{"1:11", "1:12", "1:13"}, some)
	require.Equal(t, 2, asked)
	some, asked = list(LogQuery{Ops: []segment.Op{segment.OpInsert}})
	require.Empty(t, some)
	require.Zero(t, asked)
	some, _ = list(LogQuery{Tables: []string{"public.t"}, History: 2})
	require.Len(t, some, 2)
	some, asked = list(LogQuery{Tables: []string{"o*"}})
	require.Empty(t, some)
	require.Zero(t, asked)

	for line, err := range logLines(t.Context(), example(), LogQuery{History: 2}) {
		require.NoError(t, err)
		require.Equal(t, []string{"--to-lsn", "0/1D6", "--exclusive", "--history", "2"}, line.Before)
		break // what is under way ends with it
	}
	for _, err := range logLines(t.Context(), example(), LogQuery{Tables: []string{"["}}) {
		require.Equal(t, fault.Usage, fault.CodeOf(err))
	}
}
