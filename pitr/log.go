package pitr

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/pitr/apply"
	"tidemark/segment"
)

// LogQuery filters the transactions that Log lists. Zero values filter nothing.
type LogQuery struct {
	Since, Until segment.Timestamp // commit times, both inclusive; a commit from another node counts with the local one before it, or the segment's first
	History      uint32
	Tables       []string // patterns as in Options
	Ops          []segment.Op
	MinRows      int64 // of the chosen tables and operations; a TRUNCATE counts as one

	// Schema lists schema changes too. Together with Ops it is one operation more.
	Schema bool
}

// LogLine is one transaction.
type LogLine struct {
	Commit
	History uint32         `json:"history"`
	Schema  []SchemaChange `json:"schema,omitempty"` // where LogQuery.Schema asks for them
	Before  []string       `json:"before"`           // flags that restore to just before it; nil if no window covers that
}

// SchemaChange is one schema change of a transaction.
type SchemaChange struct {
	Tag       string   `json:"tag"`                 // such as ALTER TABLE
	Object    string   `json:"object,omitempty"`    // what it is about, such as "table public.orders"
	Tables    []string `json:"tables,omitempty"`    // namespace.name of every table that it names
	Statement string   `json:"statement,omitempty"` // "" where it can't be replayed
	Inexact   string   `json:"inexact,omitempty"`   // why its replay does not give what the source had
}

// Parallel index reads while listing: a ranged get or two each.
const logFetches = 16

// Log yields the archived transactions that match, in commit order, history by history: newest last.
// It reads the catalog and the segments' indexes, and only of segments whose catalog counts can match; with
// Schema also the objects of segments that hold schema changes. An error ends the sequence.
func Log(ctx context.Context, a *Archive, q LogQuery) iter.Seq2[LogLine, error] {
	return logLines(ctx, a, q)
}

func logLines(ctx context.Context, src source, q LogQuery) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		l, err := newLister(src, q)
		if err != nil {
			yield(LogLine{}, err)
			return
		}
		for _, h := range src.histories() {
			if q.History != 0 && q.History != h.Number {
				continue
			}
			if !l.history(ctx, h, yield) {
				return
			}
		}
	}
}

type lister struct {
	src    source
	query  LogQuery
	filter tableFilter
	ops    map[segment.Op]bool // nil: all
	many   bool                // several histories
	local  segment.Timestamp   // of the last local commit; only drain's goroutine uses it
}

func newLister(src source, q LogQuery) (*lister, error) {
	filter, err := newTableFilter(q.Tables)
	if err != nil {
		return nil, err
	}
	l := &lister{src: src, query: q, filter: filter, many: len(src.histories()) > 1}
	if q.Schema && len(q.Ops) == 0 {
		l.ops = map[segment.Op]bool{} // schema changes alone
	}
	for _, op := range q.Ops {
		switch op {
		case segment.OpInsert, segment.OpUpdate, segment.OpDelete, segment.OpTruncate:
		default:
			return nil, fault.New(fault.Usage, "insert, update, delete, truncate are possible", "--op: unknown operation %q", op)
		}
		if l.ops == nil {
			l.ops = map[segment.Op]bool{}
		}
		l.ops[op] = true
	}
	return l, nil
}

// listed is a segment whose index is being read.
type listed struct {
	entry   catalog.Entry
	index   chan *segment.Index // gets one, or nothing after an error
	changes []apply.Announced   // set before index is given
}

// history lists one history; false when the consumer has enough or after an error.
func (l *lister) history(ctx context.Context, h catalog.HistoryPoint, yield func(LogLine, error) bool) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.local = 0
	queue := make(chan *listed, logFetches)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(logFetches + 1)
	group.Go(func() error {
		defer close(queue)
		return l.enqueue(ctx, h, group, queue)
	})
	more := l.drain(ctx, h, queue, yield)
	if !more {
		cancel()
	}
	if err := group.Wait(); err != nil && more {
		yield(LogLine{}, err)
		return false
	}
	return more
}

// enqueue starts the reading of every index that may match, in order and boundedly ahead.
func (l *lister) enqueue(ctx context.Context, h catalog.HistoryPoint, group *errgroup.Group, queue chan<- *listed) error {
	for e, err := range l.src.since(ctx, h.Number, l.query.Since) {
		if err != nil {
			return err
		}
		if e.Kind != catalog.KindSegment || !l.mayMatch(e.Segment) {
			continue
		}
		item := &listed{entry: e, index: make(chan *segment.Index, 1)}
		select {
		case queue <- item:
		case <-ctx.Done():
			return ctx.Err()
		}
		group.Go(func() error {
			x, err := l.src.index(ctx, e, 0)
			if err == nil && l.query.Schema {
				item.changes, err = l.src.SchemaChanges(ctx, e)
			}
			if err == nil {
				item.index <- x
			}
			return err
		})
	}
	return nil
}

func (l *lister) drain(ctx context.Context, h catalog.HistoryPoint, queue <-chan *listed, yield func(LogLine, error) bool) bool {
	for item := range queue {
		select {
		case x := <-item.index:
			l.begin(x)
			for i := range x.Transactions {
				line, ok := l.line(h, x, &x.Transactions[i], item.changes)
				if ok && !yield(line, nil) {
					return false
				}
			}
		case <-ctx.Done():
			return true // the group has the error
		}
	}
	return true
}

// mayMatch judges a segment by its catalog counts alone.
func (l *lister) mayMatch(s *catalog.Segment) bool {
	q := l.query
	if s.Transactions == 0 {
		return false
	}
	// A segment of foreign commits alone has no minimum and maximum: its index is read.
	if !s.MaxCommitTime.IsZero() && (q.Since != 0 && s.MaxCommitTime < q.Since || q.Until != 0 && s.MinCommitTime > q.Until) {
		return false
	}
	if l.ops == nil && len(l.filter) == 0 && q.MinRows == 0 && !q.Schema || q.Schema && s.DDL > 0 {
		return true
	}
	if s.TablesCut {
		return l.countOps(catalog.TableCounts{Inserts: s.Inserts, Updates: s.Updates, Deletes: s.Deletes, Truncates: s.Truncates}) >= max(1, q.MinRows)
	}
	var n int64
	for _, t := range s.Tables {
		if l.filter.matchQualified(t.Table) {
			n += l.countOps(t)
		}
	}
	return n >= max(1, q.MinRows)
}

// begin sets the time that foreign commits at the head of a segment count with: that of its first
// local commit, since segments in between may have been left out.
func (l *lister) begin(x *segment.Index) {
	for i := range x.Transactions {
		if !x.Transactions[i].Foreign {
			l.local = x.Transactions[i].CommitTime
			return
		}
	}
}

// countOps counts the chosen operations.
func (l *lister) countOps(t catalog.TableCounts) int64 {
	var n int64
	for _, c := range []struct {
		op segment.Op
		n  int64
	}{{segment.OpInsert, t.Inserts}, {segment.OpUpdate, t.Updates}, {segment.OpDelete, t.Deletes}, {segment.OpTruncate, t.Truncates}} {
		if l.ops == nil || l.ops[c.op] {
			n += c.n
		}
	}
	return n
}

// line makes the line of a transaction; false if the filters leave it out.
func (l *lister) line(h catalog.HistoryPoint, x *segment.Index, t *segment.Transaction, changes []apply.Announced) (LogLine, bool) {
	at := t.CommitTime
	if t.Foreign {
		at = l.local
	} else {
		l.local = at
	}
	q := l.query
	if q.Since != 0 && at < q.Since || q.Until != 0 && at > q.Until {
		return LogLine{}, false
	}
	var rows int64
	for _, c := range t.Changes {
		r := &x.Relations[c.Relation]
		if l.filter.match(r.Namespace, r.Name) {
			rows += l.countOps(catalog.TableCounts{Inserts: c.Inserts, Updates: c.Updates, Deletes: c.Deletes, Truncates: c.Truncates})
		}
	}
	schema := l.schemaOf(t, changes)
	narrowed := l.ops != nil || len(l.filter) > 0
	if rows < q.MinRows || narrowed && rows == 0 && len(schema) == 0 {
		return LogLine{}, false
	}
	return LogLine{Commit: *commitOf(x, t), History: h.Number, Schema: schema, Before: l.before(h, t)}, true
}

// schemaOf gives the schema changes of a transaction that the patterns choose.
func (l *lister) schemaOf(t *segment.Transaction, changes []apply.Announced) []SchemaChange {
	var out []SchemaChange
	for _, c := range changes {
		if c.CommitLSN != t.CommitLSN {
			continue
		}
		m := c.Message
		if m == nil {
			out = append(out, SchemaChange{Tag: "unknown", Inexact: "the message can't be read"})
			continue
		}
		tables := m.TableNames()
		if len(l.filter) == 0 || slices.ContainsFunc(tables, l.filter.matchQualified) {
			out = append(out, SchemaChange{Tag: m.Tag, Object: apply.About(m), Tables: tables, Statement: m.SQL, Inexact: m.Inexact})
		}
	}
	return out
}

// before returns the flags that restore to just before a transaction, nil if that isn't covered.
func (l *lister) before(h catalog.HistoryPoint, t *segment.Transaction) []string {
	for _, w := range l.src.windows() {
		if w.History == h.Number && w.From <= t.CommitLSN && t.CommitLSN <= w.To {
			flags := []string{"--to-lsn", t.CommitLSN.String(), "--exclusive"}
			if l.many {
				flags = append(flags, "--history", fmt.Sprint(h.Number))
			}
			return flags
		}
	}
	return nil
}
