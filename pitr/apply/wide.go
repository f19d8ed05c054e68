package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
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
		err := w.forRows(ctx)
		if err != nil {
			return err
		}
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

// wideChange updates or deletes by way of temporary tables: n holds the new values that are set, o those of
// the old row or key.
func (w *worker) wideChange(ctx context.Context, t *table, r *segment.Record) error {
	find := findBy(r)
	where, source := t.keys, r.Old
	switch find {
	case byImage:
		where = t.plain
	case byNewKey:
		source = r.New
	}
	var set []int
	var assign []string
	for _, i := range t.plain {
		if t.sets(r, find, i) {
			set = append(set, i)
			assign = append(assign, t.cols[i].sql+" = "+t.cols[i].assigned("t.", "n."+t.cols[i].sql))
		}
	}
	found := make([]string, len(where))
	for n, i := range where {
		found[n] = "o." + t.cols[i].sql
	}
	old, err := w.stage(ctx, t, where, source)
	if err != nil {
		return err
	}
	from := old + " o"
	if len(set) > 0 {
		values, err := w.stage(ctx, t, set, r.New)
		if err != nil {
			return err
		}
		from += ", " + values + " n"
	}
	sql := t.rowSQL(r.Op, assign, from, t.rowCondition(r, find, where, found, old+" o"))
	res, err := w.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return err
	}
	if n := res[len(res)-1].CommandTag.RowsAffected(); n != 1 && !(t.lenient && n == 0) {
		return &rowCountError{n}
	}
	return w.unstage(ctx)
}

// stage puts some values of a row into a temporary table of their own, with the columns' names and their types, for
// domains those below them, which take values that are older than a constraint. It returns the table's name. Tables are
// kept for the next row until the transaction ends. Two of them hold what one can't: a table has 1,600 columns at most.
func (w *worker) stage(ctx context.Context, t *table, columns []int, row []segment.Value) (string, error) {
	names, typed := make([]string, len(columns)), make([]string, len(columns))
	values := make([]segment.Value, len(columns))
	for n, i := range columns {
		c := &t.cols[i]
		names[n], typed[n], values[n] = c.sql, c.sql, row[i]
		if c.base != "" {
			typed[n] += "::" + c.base + " AS " + c.sql
		}
	}
	list := strings.Join(names, ", ")
	sum := sha256.Sum256([]byte(t.sql + " " + list))
	for n := 0; ; n++ {
		name := "pg_temp.tidemark_" + hex.EncodeToString(sum[:16]) + "_" + itoa(int64(n))
		if w.wide[name] == stageUsed {
			continue
		}
		if w.wide[name] == stageMissing {
			// CREATE TABLE AS takes types, lengths and collations, and no constraint.
			if err := w.exec(ctx, "CREATE TEMPORARY TABLE "+strings.TrimPrefix(name, "pg_temp.")+" ON COMMIT DROP AS SELECT "+strings.Join(typed, ", ")+" FROM "+t.sql+" WITH NO DATA"); err != nil {
				return "", err
			}
		}
		w.wide[name] = stageUsed
		return name, w.copyOne(ctx, "COPY "+name+" ("+list+") FROM STDIN", values)
	}
}

// States of a temporary table of the open transaction.
const (
	stageMissing = iota
	stageEmpty
	stageUsed
)

// unstage empties the temporary tables in use.
func (w *worker) unstage(ctx context.Context) error {
	var used []string
	for name, state := range w.wide {
		if state == stageUsed {
			used = append(used, name)
			w.wide[name] = stageEmpty
		}
	}
	return w.exec(ctx, "TRUNCATE "+strings.Join(used, ", "))
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
// CASCADE isn't repeated: the stream lists what it reached, but for tables whose rows are not archived (unarchived).
func (a *Applier) truncate(ctx context.Context, r *segment.Record) error {
	var tables []*table
	var names, oids []string
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
		oids = append(oids, strconv.FormatUint(uint64(t.oid), 10))
	}
	if len(tables) == 0 {
		return nil
	}
	if err := a.barrier(); err != nil {
		return err
	}
	options := ""
	if r.Truncate.Options&truncateRestart != 0 {
		options = " RESTART IDENTITY"
	}
	begin := a.begin
	do := func(ctx context.Context, w *worker) error {
		more, moreOIDs, err := w.unarchived(ctx, oids)
		var whole []string
		if err == nil {
			whole, err = w.emptyPartitioned(ctx, slices.Concat(oids, moreOIDs))
		}
		if err == nil {
			err = w.exec(ctx, "TRUNCATE "+strings.Join(slices.Concat(whole, names, more), ", ")+options)
		}
		if err != nil {
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

// unarchived lists the tables outside the stream whose foreign keys lead to one of the tables, directly or through each other: at the source
// CASCADE emptied them too. They are unlogged, or not published and so restored without rows. One that holds rows is nobody's but the
// target's own: it is left out, and the server refuses the TRUNCATE.
func (w *worker) unarchived(ctx context.Context, oids []string) (names, more []string, err error) {
	results, err := w.conn.Exec(ctx, `
WITH RECURSIVE given AS (SELECT pg_catalog.unnest('{`+strings.Join(oids, ",")+`}'::pg_catalog.oid[]) AS oid),
reached AS (SELECT oid FROM given UNION SELECT k.conrelid FROM reached r JOIN pg_catalog.pg_constraint k ON k.confrelid = r.oid AND k.contype = 'f')
SELECT 'ONLY ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), c.oid::pg_catalog.text
FROM reached r JOIN pg_catalog.pg_class c ON c.oid = r.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.oid NOT IN (SELECT oid FROM given) AND (c.relpersistence = 'u' OR pg_catalog.pg_relation_size(c.oid) = 0)`).ReadAll()
	if err != nil {
		return nil, nil, err
	}
	for _, row := range results[0].Rows {
		names, more = append(names, string(row[0])), append(more, string(row[1]))
	}
	return names, more, nil
}

// emptyPartitioned lists the partitioned tables with foreign keys whose partitions are all among the tables, or that
// have none. The stream names the partitions only, but where foreign keys exist TRUNCATE wants to have them all named.
func (w *worker) emptyPartitioned(ctx context.Context, oids []string) (names []string, err error) {
	results, err := w.conn.Exec(ctx, `
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'p' AND EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class l ON l.oid = t.relid
    WHERE t.isleaf AND (l.relkind = 'f' OR l.relkind = 'r' AND l.relpersistence = 'p') AND l.oid <> ALL ('{`+strings.Join(oids, ",")+`}'::pg_catalog.oid[]))`).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, row := range results[0].Rows {
		names = append(names, string(row[0]))
	}
	return names, nil
}
