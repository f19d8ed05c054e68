package apply

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/sqltext"
)

// A materialized view's rows are those of its last refresh, which no archive has. What the source could do with
// them may fail with those that its query gives here: an index that is unique, a division. So a replay whose end
// fills them keeps them empty all the while, and one that fills them as it goes empties one that stands in the way.

// With or without rows: the end of a statement, with comments after it.
const afterAll = `(?-i:\s|;|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*+[^*/])*\*+/)*$`

var (
	withNoData = regexp.MustCompile(`(?is)\bwith\s+no\s+data` + afterAll)
	withData   = regexp.MustCompile(`(?is)\bwith\s+data` + afterAll + `|[\s;]*$`)
)

// Unfillable reports whether the server refused a materialized view's rows for what they are, for what the query
// does, or for want of its owner's rights: not for want of a connection, of room or of a lock.
func Unfillable(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "55000" || slices.Contains([]string{"42", "22", "23", "21", "2F", "38", "P0"}, pgErr.Code[:2]))
}

// filling returns the statement of a change that fills a materialized view such that it doesn't, and whether it
// has rows then at the source. With another change ok is false.
func filling(m *ddl.Message) (sql string, filled, ok bool) {
	switch {
	case len(m.Objects) == 0 || m.Tag != "CREATE MATERIALIZED VIEW" && m.Tag != "REFRESH MATERIALIZED VIEW":
		return "", false, false
	case withNoData.MatchString(m.SQL):
		return m.SQL, false, true
	case m.Tag == "REFRESH MATERIALIZED VIEW":
		return "REFRESH MATERIALIZED VIEW " + m.Objects[0].Identity + " WITH NO DATA", true, true
	}
	return withData.ReplaceAllString(m.SQL, "") + "\nWITH NO DATA", true, true
}

// noteFilling keeps Schema.Empty up to date once a change is made.
func (e *execution) noteFilling(ctx context.Context, conn *pgconn.PgConn) error {
	_, filled, ok := filling(e.message)
	if !ok || e.schema.Empty == nil {
		return nil
	}
	view := e.message.Objects[0].Identity
	rows, err := queryOn(ctx, conn, "select oid::text from pg_catalog.pg_class where oid = to_regclass($1) and relkind = 'm'", view)
	if err != nil || len(rows) == 0 {
		return err
	}
	if oid := uint32(atoi(rows[0][0])); filled {
		e.schema.Empty[oid] = true
	} else {
		delete(e.schema.Empty, oid)
	}
	return nil
}

// withoutRows makes a change that the server refused for the rows of a materialized view, which is emptied for it.
// Any other refusal is returned.
func (e *execution) withoutRows(ctx context.Context, conn *pgconn.PgConn, refused error) error {
	if !Unfillable(refused) {
		return refused
	}
	sql, filled, ok := filling(e.message)
	if e.schema.Empty != nil {
		if pgErr, is := errors.AsType[*pgconn.PgError](refused); ok && filled && is && pgErr.Code == "42601" {
			return e.attempts(ctx, conn, e.message.SQL) // its end was not what it looked like
		}
		return refused
	}
	var view string
	switch {
	case ok && filled:
		view = e.message.Objects[0].Identity
	case !ok && e.message.Tag == "CREATE INDEX":
		var err error
		if view, err = e.indexedView(ctx, conn); err != nil {
			return err
		}
		sql = "REFRESH MATERIALIZED VIEW " + view + " WITH NO DATA;\n" + e.message.SQL
	}
	if view == "" {
		return refused
	}
	err := e.attempts(ctx, conn, sql)
	if _, again := errors.AsType[*pgconn.PgError](err); again {
		return refused // it was not the rows
	}
	if err == nil {
		e.tell("materialized view " + view + " can't have the rows here that it has at the source, and is empty until it is refreshed: " + strings.TrimPrefix(refused.Error(), "ERROR: "))
	}
	return err
}

// indexedView names the materialized view that the change indexes; "" if it is about a table.
func (e *execution) indexedView(ctx context.Context, conn *pgconn.PgConn) (string, error) {
	for _, st := range e.message.State {
		name := sqltext.QuoteIdent(st.Schema) + "." + sqltext.QuoteIdent(st.Name)
		rows, err := queryOn(ctx, conn, "select 1 from pg_catalog.pg_class where oid = to_regclass($1) and relkind = 'm' and relispopulated", name)
		if err != nil || len(rows) == 1 {
			return name, err
		}
	}
	return "", nil
}
