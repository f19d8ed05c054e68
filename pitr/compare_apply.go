package pitr

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// restorer puts missing rows back: it gathers them in temporary tables of one transaction, and inserts them
// all by one statement at its end, so that foreign keys are checked when all are there.
type restorer struct {
	conn   *pgconn.PgConn
	tables []*gathered
}

// gathered are the missing rows of a table.
type gathered struct {
	unit     *unit
	index    int // in the report's tables
	temp     string
	columns  []int  // that are written
	conflict string // ON CONFLICT clause, or ""
}

// How long putting rows back waits for each lock: the application waits behind it.
const applyLockTimeout = "SET lock_timeout = '10s'"

// openRestorer begins the transaction. Tables without a key are locked at once: their rows can't be told from
// ones that are written meanwhile.
func (c *comparison) openRestorer(ctx context.Context, units []*unit) (*restorer, error) {
	for _, u := range units {
		if u.diff.OnlyArchive {
			return nil, fault.New(fault.Usage, "restorer restore --table "+u.diff.Table+" brings it back, with --as-schema beside the others", "the live database has no table %s to put rows into", u.diff.Table)
		}
		if len(u.diff.ArchiveColumns) > 0 {
			return nil, fault.New(fault.Usage, "restore the table with --as-schema, and write the INSERT that fits", "the live table %s lacks columns of the archive: %s", u.diff.Table, strings.Join(u.diff.ArchiveColumns, ", "))
		}
	}
	conn, err := c.liveSession(ctx)
	if err != nil {
		return nil, err
	}
	w := &restorer{conn: conn}
	if err := w.prepare(ctx, units); err != nil {
		session.Close(conn)
		return nil, err
	}
	return w, nil
}

func (w *restorer) prepare(ctx context.Context, units []*unit) error {
	if err := session.Exec(ctx, w.conn, applyLockTimeout+"; BEGIN"); err != nil {
		return err
	}
	for i, u := range units {
		if u.diff.OnlyLive {
			continue
		}
		ruled, err := session.Value(ctx, w.conn, "select rulename from pg_catalog.pg_rewrite where ev_class = $1::regclass and ev_type = '3' limit 1", u.sql)
		if err != nil {
			return err
		}
		if ruled != "" {
			return fault.New(fault.Usage, "drop the rule, or put the rows back by hand", "rule %s of %s rewrites inserts", ruled, u.diff.Table)
		}
		if len(u.key) == 0 {
			if err := session.Exec(ctx, w.conn, "LOCK TABLE "+u.sql+" IN SHARE ROW EXCLUSIVE MODE"); err != nil {
				return lockError(err, u.diff.Table)
			}
		}
		g := &gathered{unit: u, index: i, temp: "tidemark_missing_" + strconv.Itoa(i)}
		var names []string
		for n, col := range u.columns {
			if !col.generated {
				g.columns = append(g.columns, n)
				names = append(names, sqltext.QuoteIdent(col.name))
			}
		}
		if err := session.Exec(ctx, w.conn, "CREATE TEMPORARY TABLE "+g.temp+" ON COMMIT DROP AS SELECT "+strings.Join(names, ", ")+" FROM "+u.sql+" WITH NO DATA"); err != nil {
			return err
		}
		if g.conflict, err = w.conflictOf(ctx, u); err != nil {
			return err
		}
		w.tables = append(w.tables, g)
	}
	return nil
}

func lockError(err error, table string) error {
	hint := ""
	if pgErr, ok := asPgError(err); ok && pgErr.Code == "55P03" {
		hint = "something else works on it: try again"
	}
	return fault.Wrap(err, fault.CodeOf(err), hint, "lock %s", table)
}

// conflictOf is the clause that leaves a row alone which somebody else has put back meanwhile.
func (w *restorer) conflictOf(ctx context.Context, u *unit) (string, error) {
	if len(u.key) == 0 {
		return "", nil
	}
	live, err := keyOf(ctx, w.conn, u.sql)
	if err != nil {
		return "", err
	}
	var names []string
	for _, i := range u.key {
		if !slices.Contains(live, u.columns[i].name) {
			return "", nil
		}
		names = append(names, sqltext.QuoteIdent(u.columns[i].name))
	}
	if len(names) != len(live) {
		return "", nil
	}
	return " ON CONFLICT (" + strings.Join(names, ", ") + ") DO NOTHING", nil
}

// begin opens the way for a table's missing rows: put takes one, done ends it, with the error that ended the
// comparison or nil.
func (w *restorer) begin(ctx context.Context, u *unit) (put func([][]byte) error, done func(error) error, err error) {
	nothing := func([][]byte) error { return nil }
	if w == nil {
		return nothing, func(error) error { return nil }, nil
	}
	i := slices.IndexFunc(w.tables, func(g *gathered) bool { return g.unit == u })
	if i < 0 {
		return nil, nil, fault.New(fault.Failed, "", "table %s was not prepared", u.diff.Table)
	}
	g := w.tables[i]
	var names []string
	for _, n := range g.columns {
		names = append(names, sqltext.QuoteIdent(u.columns[n].name))
	}
	list := ""
	if len(names) > 0 {
		list = " (" + strings.Join(names, ", ") + ")"
	}
	r, pipe := io.Pipe()
	out := bufio.NewWriterSize(pipe, 64<<10)
	copied := make(chan error, 1)
	go func() {
		_, err := w.conn.CopyFrom(ctx, r, "COPY "+g.temp+list+" FROM STDIN")
		r.CloseWithError(errCopyEnded)
		copied <- session.Error(err)
	}()
	put = func(row [][]byte) error { return writeCopyRow(out, row, g.columns) }
	done = func(failed error) error {
		if failed == nil {
			failed = out.Flush()
		}
		if failed == nil {
			failed = io.EOF
		}
		_ = pipe.CloseWithError(failed) // always nil
		err := <-copied
		if failed == io.EOF {
			return err
		}
		return nil
	}
	return put, done, nil
}

var errCopyEnded = fault.New(fault.Failed, "", "the server took no more rows")

var copyEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// writeCopyRow writes a row as COPY text.
func writeCopyRow(w *bufio.Writer, row [][]byte, columns []int) error {
	for n, i := range columns {
		if n > 0 {
			if err := w.WriteByte('\t'); err != nil {
				return err
			}
		}
		if row[i] == nil {
			if _, err := w.WriteString(`\N`); err != nil {
				return err
			}
		} else if _, err := copyEscapes.WriteString(w, string(row[i])); err != nil {
			return err
		}
	}
	return w.WriteByte('\n')
}

// finish inserts what was gathered and commits.
func (w *restorer) finish(ctx context.Context, report *CompareReport) error {
	var want []*gathered
	for _, g := range w.tables {
		if g.unit.diff.Missing > 0 {
			want = append(want, g)
		}
	}
	if len(want) == 0 {
		return session.Exec(ctx, w.conn, "COMMIT")
	}
	fired, err := w.quiet(ctx, want)
	if err != nil {
		return err
	}
	counts, err := session.Rows(ctx, w.conn, insertSQL(want))
	if err != nil {
		hint := ""
		if pgErr, ok := asPgError(err); ok && strings.HasPrefix(pgErr.Code, "23") {
			hint = "nothing was put back; a row it needs may be missing from another table: compare that one along with --table"
		}
		return fault.Wrap(err, fault.CodeOf(err), hint, "put missing rows back")
	}
	for i, g := range want {
		n, err := strconv.ParseInt(counts[0][i], 10, 64)
		if err != nil {
			return err
		}
		report.Tables[g.index].PutBack = n
		if n != g.unit.diff.Missing {
			report.Notes = append(report.Notes, fmt.Sprintf("%d rows of %s came back meanwhile, and were left as they are", g.unit.diff.Missing-n, g.unit.diff.Table))
		}
	}
	sql := strings.Join(fired, "; ")
	if sql != "" {
		sql += "; "
	}
	if err := w.raiseSequences(ctx, want); err != nil {
		return err
	}
	if err := session.Exec(ctx, w.conn, sql+"COMMIT"); err != nil {
		return fault.Wrap(err, fault.CodeOf(err), "", "put missing rows back")
	}
	report.Applied = true
	return nil
}

// quiet switches the tables' own triggers off, those that fire in ordinary sessions, and returns the statements
// that switch them on again. Foreign keys' triggers stay.
func (w *restorer) quiet(ctx context.Context, want []*gathered) (restore []string, err error) {
	for _, g := range want {
		if err := session.Exec(ctx, w.conn, "LOCK TABLE "+g.unit.sql+" IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return nil, lockError(err, g.unit.diff.Table)
		}
		rows, err := session.Rows(ctx, w.conn, `
select 'ALTER TABLE ONLY ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(t.tgname), t.tgenabled::text
from (select $1::regclass as relid union select relid from pg_catalog.pg_partition_tree($1::regclass)) r
join pg_catalog.pg_class c on c.oid = r.relid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_trigger t on t.tgrelid = c.oid where not t.tgisinternal and t.tgenabled in ('O', 'A')`, g.unit.sql)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if err := session.Exec(ctx, w.conn, r[0]+" DISABLE TRIGGER "+r[1]); err != nil {
				return nil, fault.Wrap(err, fault.CodeOf(err), "compare as the owner of the table", "switch trigger %s of %s off", r[1], g.unit.diff.Table)
			}
			enable := " ENABLE TRIGGER "
			if r[2] == "A" {
				enable = " ENABLE ALWAYS TRIGGER "
			}
			restore = append(restore, r[0]+enable+r[1])
		}
	}
	return restore, nil
}

// insertSQL is one statement that inserts into all tables and counts the rows of each.
func insertSQL(want []*gathered) string {
	var parts, counts []string
	for i, g := range want {
		var names, keys, theirs []string
		for _, n := range g.columns {
			names = append(names, sqltext.QuoteIdent(g.unit.columns[n].name))
		}
		for _, n := range g.unit.key {
			keys = append(keys, "l."+sqltext.QuoteIdent(g.unit.columns[n].name))
			theirs = append(theirs, "m."+sqltext.QuoteIdent(g.unit.columns[n].name))
		}
		list, absent := strings.Join(names, ", "), ""
		if len(keys) > 0 && g.conflict == "" {
			absent = " WHERE NOT EXISTS (SELECT FROM " + g.unit.from + " l WHERE ROW(" + strings.Join(keys, ", ") + ")::text = ROW(" + strings.Join(theirs, ", ") + ")::text)"
		}
		head := "INSERT INTO " + g.unit.sql
		if list != "" {
			head += " (" + list + ") OVERRIDING SYSTEM VALUE"
		}
		name := "i" + strconv.Itoa(i)
		parts = append(parts, name+" AS ("+head+" SELECT "+list+" FROM pg_temp."+g.temp+" m"+absent+g.conflict+" RETURNING 1)")
		counts = append(counts, "(SELECT count(*) FROM "+name+")")
	}
	return "WITH " + strings.Join(parts, ", ") + " SELECT " + strings.Join(counts, ", ")
}

// raiseSequences keeps the tables' sequences ahead of the rows that came back.
func (w *restorer) raiseSequences(ctx context.Context, want []*gathered) error {
	for _, g := range want {
		rows, err := session.Rows(ctx, w.conn, `
select d.objid::regclass::text, quote_ident(a.attname)
from pg_catalog.pg_depend d join pg_catalog.pg_sequence s on s.seqrelid = d.objid join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
where d.classid = 'pg_catalog.pg_class'::regclass and d.refobjid = $1::regclass and d.deptype in ('a', 'i') and s.seqincrement > 0 and not s.seqcycle
  and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)`, g.unit.sql)
		if err != nil {
			return err
		}
		for _, r := range rows {
			sql := fmt.Sprintf("SELECT pg_catalog.setval(%s, m.top) FROM (SELECT max(%s)::bigint AS top FROM pg_temp.%s) m, %s s WHERE m.top > s.last_value", sqltext.QuoteLiteral(r[0]), r[1], g.temp, r[0])
			if err := session.Exec(ctx, w.conn, sql); err != nil {
				return fault.Wrap(err, fault.CodeOf(err), "", "raise sequence %s", r[0])
			}
		}
	}
	return nil
}
