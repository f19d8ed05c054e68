package pitr

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/pitr/session"
)

// RowValues are values by column, in the table's order; its JSON is an object.
type RowValues []ColumnValue

// ColumnValue is a value as PostgreSQL prints it; nil is NULL.
type ColumnValue struct {
	Column string
	Value  *string
}

// MarshalJSON keeps the columns' order.
func (r RowValues) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, c := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(c.Column)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(c.Value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// side is one side's rows as they come. A row is valid until the next.
type side struct {
	rows  *pgconn.ResultReader
	whole bool
	row   [][]byte // [0] is what rows are matched by; nil after the last
	n     int64    // whole number in row[0]
	last  []byte   // row[0] of the row before
	lastN int64
	count *int64
	tick  func()
}

// next reads a row. Both sides must come in ascending order; a side that doesn't would be compared wrongly.
func (s *side) next() error {
	if s.row != nil {
		s.last, s.lastN = append(s.last[:0], s.row[0]...), s.n
	}
	first := s.row == nil
	if !s.rows.NextRow() {
		s.row = nil
		_, err := s.rows.Close()
		return session.Error(err)
	}
	s.row = s.rows.Values()
	*s.count++
	s.tick()
	if s.whole {
		n, err := strconv.ParseInt(string(s.row[0]), 10, 64)
		if err != nil {
			return fault.New(fault.Failed, "", "a key is no whole number")
		}
		s.n = n
	}
	if !first && (s.whole && s.n < s.lastN || !s.whole && bytes.Compare(s.row[0], s.last) < 0) {
		return fault.New(fault.Failed, "", "a server gave rows in another order than asked for")
	}
	return nil
}

// order compares what the current rows are matched by; a side at its end comes last.
func order(a, b *side) int {
	switch {
	case a.row == nil:
		return 1
	case b.row == nil:
		return -1
	case a.whole:
		switch {
		case a.n < b.n:
			return -1
		case a.n > b.n:
			return 1
		}
		return 0
	}
	return bytes.Compare(a.row[0], b.row[0])
}

// compareUnit compares a table by merging both sides.
func (c *comparison) compareUnit(ctx context.Context, archived, live *pgconn.PgConn, u *unit) error {
	d := &u.diff
	switch {
	case d.OnlyArchive:
		return c.countOnly(ctx, archived, u, &d.ArchiveRows, &d.Missing)
	case d.OnlyLive:
		return c.countOnly(ctx, live, u, &d.LiveRows, &d.Extra)
	}
	sql := u.query()
	l := &side{rows: archived.ExecParams(ctx, sql, nil, nil, nil, nil), whole: u.whole, count: &d.ArchiveRows, tick: c.tick}
	r := &side{rows: live.ExecParams(ctx, sql, nil, nil, nil, nil), whole: u.whole, count: &d.LiveRows, tick: c.tick}
	put, done, err := c.writer.begin(ctx, u)
	if err != nil {
		return err
	}
	err = c.merge(u, l, r, put)
	if doneErr := done(err); err == nil {
		err = doneErr
	}
	if err != nil {
		return fault.Wrap(err, fault.CodeOf(err), "", "compare %s", d.Table)
	}
	return nil
}

// countOnly counts the rows of a table that only one side has.
func (c *comparison) countOnly(ctx context.Context, conn *pgconn.PgConn, u *unit, counts ...*int64) error {
	n, err := session.Value(ctx, conn, "select count(*) from "+u.from)
	if err != nil {
		return fault.Wrap(err, fault.CodeOf(err), "", "count %s", u.diff.Table)
	}
	for _, to := range counts {
		if *to, err = strconv.ParseInt(n, 10, 64); err != nil {
			return err
		}
	}
	return nil
}

// merge walks both sides and tells of each difference. Put gets the rows to put back.
func (c *comparison) merge(u *unit, l, r *side, put func([][]byte) error) error {
	for _, s := range []*side{l, r} {
		if err := s.next(); err != nil {
			return err
		}
	}
	tell := &teller{c: c, u: u}
	for l.row != nil || r.row != nil {
		var err error
		o := order(l, r)
		switch {
		case o < 0:
			u.diff.Missing++
			if err = put(l.row[1:]); err == nil {
				err = tell.row(RowMissing, l.row[1:])
			}
		case o > 0:
			u.diff.Extra++
			err = tell.row(RowExtra, r.row[1:])
		case len(u.key) > 0:
			err = tell.compare(l.row[1:], r.row[1:])
		}
		if err != nil {
			return err
		}
		if o <= 0 {
			err = l.next()
		}
		if err == nil && o >= 0 {
			err = r.next()
		}
		if err != nil {
			return err
		}
	}
	return tell.flush()
}

// teller reports differences. Equal rows of a table without a key are told of once, with their number.
type teller struct {
	c    *comparison
	u    *unit
	held *RowDifference
}

func (t *teller) row(kind string, row [][]byte) error {
	if t.c.o.Row == nil {
		return nil
	}
	d := &RowDifference{Table: t.u.diff.Table, Kind: kind}
	if len(t.u.key) > 0 {
		d.Key = t.u.values(row, t.u.key)
	}
	all := t.u.values(row, nil)
	if kind == RowMissing {
		d.Archive = all
	} else {
		d.Live = all
	}
	if len(t.u.key) > 0 {
		return t.c.o.Row(*d)
	}
	if h := t.held; h != nil && h.Kind == kind && equalValues(h.Archive, d.Archive) && equalValues(h.Live, d.Live) {
		h.Count++
		return nil
	}
	d.Count = 1
	err := t.flush()
	t.held = d
	return err
}

func (t *teller) flush() error {
	if t.held == nil {
		return nil
	}
	d := t.held
	t.held = nil
	return t.c.o.Row(*d)
}

// compare tells which columns of two rows with the same key differ.
func (t *teller) compare(l, r [][]byte) error {
	var differ []int
	for i := range t.u.columns {
		if (l[i] == nil) != (r[i] == nil) || !bytes.Equal(l[i], r[i]) {
			differ = append(differ, i)
		}
	}
	if len(differ) == 0 {
		return nil
	}
	t.u.diff.Different++
	if t.c.o.Row == nil {
		return nil
	}
	return t.c.o.Row(RowDifference{
		Table: t.u.diff.Table, Kind: RowDifferent, Key: t.u.values(l, t.u.key), Archive: t.u.values(l, differ), Live: t.u.values(r, differ),
	})
}

// values copies values of a row, in the table's order; which nil: all.
func (u *unit) values(row [][]byte, which []int) RowValues {
	var out RowValues
	for i, v := range row {
		if which != nil && !slices.Contains(which, i) {
			continue
		}
		cv := ColumnValue{Column: u.columns[i].name}
		if v != nil {
			s := string(v)
			cv.Value = &s
		}
		out = append(out, cv)
	}
	return out
}

func equalValues(a, b RowValues) bool {
	return slices.EqualFunc(a, b, func(x, y ColumnValue) bool {
		return (x.Value == nil) == (y.Value == nil) && (x.Value == nil || *x.Value == *y.Value)
	})
}

// tick counts a row for the progress.
func (c *comparison) tick() {
	const step = 4096
	if c.rows++; c.rows%step == 0 && c.o.Progress != nil {
		c.o.Progress(Progress{Phase: PhaseCompare, Done: c.rows, Unit: "steps"})
	}
}

// String prints values as column=value, for people.
func (r RowValues) String() string {
	var b bytes.Buffer
	for i, c := range r {
		if i > 0 {
			b.WriteString(", ")
		}
		if c.Value == nil {
			fmt.Fprintf(&b, "%s=null", c.Column)
		} else {
			fmt.Fprintf(&b, "%s=%s", c.Column, shorten(*c.Value))
		}
	}
	return b.String()
}

// shorten cuts a value to a bearable length and keeps it on one line.
func shorten(s string) string {
	const most = 60
	cut := s
	if len(cut) > most {
		cut = cut[:most]
	}
	if q := strconv.Quote(cut); len(q) != len(cut)+2 || cut == "" {
		cut = q
	}
	if len(s) > most {
		cut += "…"
	}
	return cut
}
