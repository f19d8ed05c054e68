package apply

import (
	"context"
	"errors"
	"slices"
	"strings"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// wideRow applies an operation with a value that is too large to be held. It streams through COPY:
// straight into the table, or for updates and deletes into a temporary table that the statement then
// takes its values from. It waits until that is done, since the values are only lent.
func (a *Applier) wideRow(t *table, r *segment.Record) error {
	if err := a.flush(t); err != nil {
		return err
	}
	w := a.workers[t.worker]
	begin := a.begin
	do := func(ctx context.Context, w *worker) error {
		var err error
		if r.Op == segment.OpInsert {
			err = w.wideInsert(ctx, t, r)
		} else {
			err = w.wideChange(ctx, t, r)
		}
		if err != nil {
			return opFailed(t, r.Op, begin.CommitLSN, begin.XID, describeRecord(t, r), err)
		}
		return nil
	}
	for _, tuple := range [][]segment.Value{r.Old, r.New} {
		for _, v := range tuple {
			if v.Large != nil {
				a.since += v.Large.Size()
			}
		}
	}
	return a.sendWait(w, command{do: do})
}

func (w *worker) wideInsert(ctx context.Context, t *table, r *segment.Record) error {
	values := make([]segment.Value, len(t.plain))
	for n, i := range t.plain {
		values[n] = r.New[i]
	}
	return w.copyOne(ctx, t.copySQL, values)
}

func (w *worker) copyOne(ctx context.Context, sql string, values []segment.Value) error {
	tag, err := w.conn.CopyFrom(ctx, valuesReader(values), sql)
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New("COPY took " + itoa(tag.RowsAffected()) + " rows instead of one")
	}
	return err
}

// wideTable is the temporary table's name: one for each table, living until the transaction ends.
func (t *table) wideTable() string { return "pg_temp." + quote("tidemark_"+t.insert.name) }

// wideChange updates or deletes by way of a temporary table with a column n<i> for each new value and
// o<i> for each value of the old row.
func (w *worker) wideChange(ctx context.Context, t *table, r *segment.Record) error {
	if err := w.makeWide(ctx, t); err != nil {
		return err
	}
	find := findBy(r)
	where, source, prefix := t.keys, r.Old, "o"
	switch find {
	case byImage:
		where = t.plain
	case byNewKey:
		source = r.New
	}
	var values []segment.Value
	var columns, assign []string
	add := func(prefix string, i int, v segment.Value) {
		columns = append(columns, prefix+itoa(int64(i)))
		values = append(values, v)
	}
	for _, i := range t.plain {
		if t.sets(r, find, i) {
			add("n", i, r.New[i])
			assign = append(assign, t.cols[i].sql+" = x.n"+itoa(int64(i)))
		}
	}
	found := make([]string, len(where))
	for n, i := range where {
		add(prefix, i, source[i])
		found[n] = "x." + prefix + itoa(int64(i))
	}
	name := t.wideTable()
	if err := w.copyOne(ctx, "COPY "+name+" ("+strings.Join(columns, ", ")+") FROM STDIN", values); err != nil {
		return err
	}
	sql := t.rowSQL(r.Op, assign, name+" x", t.rowCondition(r, find, where, found, name+" x"))
	res, err := w.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return err
	}
	if n := res[len(res)-1].CommandTag.RowsAffected(); n != 1 && !(t.lenient && n == 0) {
		return &rowCountError{n}
	}
	return w.exec(ctx, "TRUNCATE "+name)
}

func (w *worker) makeWide(ctx context.Context, t *table) error {
	name := t.wideTable()
	if w.wide[name] {
		return nil
	}
	var columns []string
	for _, i := range t.plain {
		n := itoa(int64(i))
		columns = append(columns, t.cols[i].sql+" AS n"+n, t.cols[i].sql+" AS o"+n)
	}
	w.wide[name] = true
	// CREATE TABLE AS takes types, lengths and collations, and no constraint.
	return w.exec(ctx, "CREATE TEMPORARY TABLE "+strings.TrimPrefix(name, "pg_temp.")+" ON COMMIT DROP AS SELECT "+
		strings.Join(columns, ", ")+" FROM "+t.sql+" WITH NO DATA")
}

func describeRecord(t *table, r *segment.Record) string {
	tuple := r.New
	if r.OldRole != 0 {
		tuple = r.Old
	}
	var names, shown []string
	for _, k := range t.keys {
		if k < len(tuple) && tuple[k].Large == nil && len(names) < 8 {
			names = append(names, t.cols[k].name)
			v := tuple[k].Data
			if tuple[k].Kind == segment.Null {
				v = nil
			} else if v == nil {
				v = []byte{}
			}
			shown = append(shown, show(v))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ") = (" + strings.Join(shown, ", ") + ")"
}

// Bits of segment.Truncate.Options.
const truncateRestart = 2

// truncate empties relations by one statement, as at the source. In parallel it stands apart: everything
// before it is committed, then it runs and is committed, so that its exclusive locks meet nobody.
//
// CASCADE isn't repeated: the stream lists what it reached, and no foreign key exists yet. What it
// reached outside the publication was not archived.
func (a *Applier) truncate(ctx context.Context, r *segment.Record) error {
	var tables []*table
	var names []string
	for _, rel := range r.TruncateRelations {
		t, err := a.table(ctx, rel)
		if err != nil {
			return err
		}
		if t == nil || slices.Contains(tables, t) {
			continue
		}
		if t.insertOnly {
			return fault.New(fault.Damage, "", "the catalog says that %s saw only inserts, and transaction %d at LSN %s truncates it", t.name, a.begin.XID, a.begin.CommitLSN)
		}
		tables = append(tables, t)
		names = append(names, t.only())
	}
	if len(tables) == 0 {
		return nil
	}
	if err := a.barrier(); err != nil {
		return err
	}
	sql := "TRUNCATE " + strings.Join(names, ", ")
	if r.Truncate.Options&truncateRestart != 0 {
		sql += " RESTART IDENTITY"
	}
	begin := a.begin
	do := func(ctx context.Context, w *worker) error {
		if err := w.exec(ctx, sql); err != nil {
			return opFailed(tables[0], segment.OpTruncate, begin.CommitLSN, begin.XID, "", err)
		}
		return nil
	}
	for _, t := range tables {
		t.counts.Truncated++
		*t.live = Live{Reset: true}
	}
	return a.sendWait(a.workers[tables[0].worker], command{do: do, commit: a.opts.Atomic == nil})
}
