package pitr

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// namingTables looks for a table with a column whose values may name relations: of type regclass (OID 2205 on
// every server), or made of it. Values of the other reg… types name what is there before the rows are.
const namingTables = `
with recursive parts as (
  select oid, typelem as part from pg_catalog.pg_type where typelem <> 0
  union all select oid, typbasetype from pg_catalog.pg_type where typbasetype <> 0
  union all select rngtypid, rngsubtype from pg_catalog.pg_range
  union all select t.oid, a.atttypid from pg_catalog.pg_type t join pg_catalog.pg_attribute a on a.attrelid = t.typrelid
    where t.typtype = 'c' and a.attnum > 0 and not a.attisdropped),
naming as (select 2205::pg_catalog.oid as oid union select p.oid from naming n join parts p on p.part = n.oid)
select 1 from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
where c.relkind in ('r', 'p') and c.oid >= 16384 and a.attnum > 0 and not a.attisdropped and a.atttypid in (select oid from naming) limit 1`

// prepareNames makes the indexes before the rows where rows may name them: the name of an index that isn't
// there yet is no regclass.
func (r *run) prepareNames(ctx context.Context) error {
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer session.Close(conn)
	found, err := session.Value(ctx, conn, namingTables)
	if err != nil || found == "" {
		return err
	}
	var builds []*build
	for _, it := range r.itemsOf(func(it *basesnapshot.SchemaItem) bool {
		return it.Section == "post-data" && (it.Kind == "INDEX" || it.Kind == "CONSTRAINT" || it.Kind == "INDEX ATTACH")
	}) {
		builds = append(builds, r.newBuild(it))
		r.early[it.ID] = true
	}
	return r.runBuilds(ctx, builds)
}

// dataSession opens a session for rows. Functions that check constraints, domains and generated columns call
// find there what the source's sessions found: their own names may be unqualified. What is sent through such
// a session itself qualifies every name; statements of the schema need session's empty path.
func (r *run) dataSession(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := r.session(ctx)
	if err != nil {
		return nil, err
	}
	if err := session.Exec(ctx, conn, r.setSearchPath()); err != nil {
		session.Close(conn)
		return nil, fault.Wrap(err, fault.CodeOf(err), "", "set the source's search_path")
	}
	return conn, nil
}

// setSearchPath is SQL that sets the path of the source's database: its own, or the one that every server begins with.
// SET would read an empty name as an error, which the stored value of an empty path has.
func (r *run) setSearchPath() string {
	path := `"$user", public`
	for _, s := range r.manifest.Database.Settings {
		if s.Role == "" && strings.EqualFold(s.Name, "search_path") && !s.Redacted {
			path = s.Value
		}
	}
	return "SELECT pg_catalog.set_config('search_path', " + sqltext.QuoteLiteral(path) + ", false)"
}
