package pitr

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// What pg_dump writes gives most of a schema again, but not all. A table that differs from what it was says so at the
// next change of it that is replayed, and ends the replay.

// mendSchema makes what pg_dump's statements made otherwise than it was.
func (r *run) mendSchema(ctx context.Context, conn *pgconn.PgConn) error {
	if err := r.mendSequences(ctx, conn); err != nil {
		return err
	}
	if err := r.mendDefaults(ctx, conn); err != nil {
		return err
	}
	return r.mendInvalidIndexes(ctx, conn)
}

// mendInvalidIndexes makes indexes of partitioned tables invalid that were: the partition is gone that had none. PostgreSQL has no
// statement for it.
func (r *run) mendInvalidIndexes(ctx context.Context, conn *pgconn.PgConn) error {
	for _, it := range r.itemsOf(func(it *basesnapshot.SchemaItem) bool { return it.InvalidIndex != "" }) {
		name := r.quoted(it.Namespace, it.InvalidIndex)
		if !r.server.superuser {
			r.note("index " + name + ", which was not valid, may be so here: only a superuser can say otherwise")
			continue
		}
		err := session.Exec(ctx, conn, "UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = "+sqltext.QuoteLiteral(name)+"::pg_catalog.regclass AND indisvalid")
		if err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "make index %s invalid, as it was", name)
		}
	}
	return nil
}

// mendSequences gives the sequences of identity columns their type and bounds. pg_dump leaves out the type (dumpSequence,
// src/bin/pg_dump/pg_dump.c), and the server takes the column's. It is another one after CREATE TABLE … (LIKE … INCLUDING IDENTITY).
func (r *run) mendSequences(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := session.Rows(ctx, conn, `
select n.nspname, c.relname, pg_catalog.format_type(s.seqtypid, null), s.seqmin::text, s.seqmax::text
from pg_catalog.pg_sequence s join pg_catalog.pg_class c on c.oid = s.seqrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace`)
	if err != nil {
		return err
	}
	here := map[string][]string{}
	for _, row := range rows {
		here[sqltext.QuoteName(row[0], row[1])] = row[2:]
	}
	for _, s := range r.manifest.Sequences {
		name := r.quoted(s.Namespace, s.Name)
		row, ok := here[name]
		if !ok || s.OwnedBy == nil || !s.OwnedBy.Identity || s.Min == nil || s.Max == nil || !r.hasSequence(s) {
			continue
		}
		least, greatest := fmt.Sprint(*s.Min), fmt.Sprint(*s.Max)
		if row[0] == s.Type && row[1] == least && row[2] == greatest {
			continue
		}
		if err := session.Exec(ctx, conn, "ALTER SEQUENCE "+name+" AS "+s.Type+" MINVALUE "+least+" MAXVALUE "+greatest); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "give sequence %s its type", name)
		}
	}
	return nil
}

// A table's storage parameters, as pg_dump ends its statement with them (dumpTableSchema, src/bin/pg_dump/pg_dump.c).
var storageParameters = regexp.MustCompile(`\nWITH \(([^\n]*)\)\s*$`)

// firstStatement is the first of a string of statements, without its semicolon: what pg_dump writes of a table may be followed
// by its replica identity.
func firstStatement(sql string) string {
	tokens, err := sqltext.Tokens(sql, true)
	i := slices.IndexFunc(tokens, func(t sqltext.Token) bool { return t.Text == ";" })
	if err != nil || i < 0 {
		return sql
	}
	return sqltext.Join(tokens[:i])
}

// mendToast gives a table that was just made the storage parameters of a TOAST table that no column needs: the server has
// dropped them without a word. At the source a column needed it that is gone, and so it is here.
func mendToast(ctx context.Context, conn *pgconn.PgConn, it *basesnapshot.SchemaItem, table string) error {
	if it.Kind != "TABLE" || !strings.Contains(it.SQL, "toast.") {
		return nil
	}
	match := storageParameters.FindStringSubmatch(firstStatement(it.SQL))
	if match == nil || !strings.Contains(match[1], "toast.") {
		return nil
	}
	rows, err := session.Rows(ctx, conn, `
select c.reltoastrelid::text, case c.reloftype when 0 then '' else pg_catalog.format_type(c.reloftype, null) end
from pg_catalog.pg_class c where c.oid = `+sqltext.QuoteLiteral(table)+"::pg_catalog.regclass")
	if err != nil || len(rows) == 0 || rows[0][0] != "0" {
		return err
	}
	var ofToast []string
	for p := range strings.SplitSeq(match[1], ", ") {
		if strings.HasPrefix(p, "toast.") {
			ofToast = append(ofToast, p)
		}
	}
	const column = "tidemark_toast"
	sql := fmt.Sprintf("ALTER TABLE ONLY %[1]s ADD COLUMN %[2]s text; ALTER TABLE %[1]s SET (%[3]s); ALTER TABLE ONLY %[1]s DROP COLUMN %[2]s",
		table, column, strings.Join(ofToast, ", "))
	if of := rows[0][1]; of != "" {
		sql = "ALTER TABLE " + table + " NOT OF; " + sql + "; ALTER TABLE " + table + " OF " + of
	}
	return session.Exec(ctx, conn, sql)
}

const setNull = " SET DEFAULT NULL;"

var nullColumn = regexp.MustCompile(` DEFAULT NULL( NOT NULL)?,?$`)

// mendDefaults takes away defaults that pg_dump writes for columns that have none where the parent's has one: DEFAULT NULL
// is none to the server, but for a column of a domain, and of a type with a length or precision: those coerce it.
func (r *run) mendDefaults(ctx context.Context, conn *pgconn.PgConn) error {
	suspects := r.itemsOf(func(it *basesnapshot.SchemaItem) bool {
		return it.Kind == "DEFAULT" && strings.Contains(it.SQL, setNull) || it.Kind == "TABLE" && strings.Contains(it.SQL, " DEFAULT NULL")
	})
	if len(suspects) == 0 {
		return nil
	}
	rows, err := session.Rows(ctx, conn, `
select quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(a.attname), n.nspname, c.relname from pg_catalog.pg_attrdef d
join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
join pg_catalog.pg_class c on c.oid = d.adrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where pg_catalog.pg_get_expr(d.adbin, d.adrelid) like 'NULL::%' and exists (select from pg_catalog.pg_inherits i where i.inhrelid = c.oid)`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		for _, it := range suspects {
			if !r.saysNull(it, row) {
				continue
			}
			if err := session.Exec(ctx, conn, "ALTER TABLE ONLY "+row[0]+" ALTER COLUMN "+row[1]+" DROP DEFAULT"); err != nil {
				return fault.Wrap(err, fault.CodeOf(err), "", "take the default from column %s of %s", row[1], row[0])
			}
			break
		}
	}
	return nil
}

// saysNull reports whether an item of the dump gives a column that default. One that the column really had would have its
// type with it. The column is given by its table's name and its own as pg_dump writes them, and the table's schema and bare name.
func (r *run) saysNull(it *basesnapshot.SchemaItem, column []string) bool {
	if it.Kind == "DEFAULT" {
		return strings.Contains(it.SQL, "ALTER TABLE ONLY "+column[0]+" ALTER COLUMN "+column[1]+setNull)
	}
	if r.quoted(it.Namespace, it.Name) != sqltext.QuoteName(column[2], column[3]) {
		return false
	}
	for line := range strings.Lines(it.SQL) {
		if line = strings.TrimRight(line, "\n"); strings.HasPrefix(line, "    "+column[1]+" ") && nullColumn.MatchString(line) {
			return true
		}
	}
	return false
}
