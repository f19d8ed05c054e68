package pitr

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// serverFacts are what the preflight learns of the target server.
type serverFacts struct {
	version   int // server_version_num
	superuser bool
	createDB  bool
	createRol bool
	user      string
}

// readServer reads and judges what holds for the whole server.
func readServer(ctx context.Context, conn *pgconn.PgConn, m *basesnapshot.Manifest) (serverFacts, error) {
	rows, err := session.Rows(ctx, conn, `
select current_setting('server_version_num'), pg_is_in_recovery()::int::text, r.rolsuper::int::text, r.rolcreatedb::int::text, r.rolcreaterole::int::text, r.rolname
from pg_catalog.pg_roles r where r.rolname = current_user`)
	if err != nil {
		return serverFacts{}, err
	}
	if len(rows) != 1 {
		return serverFacts{}, fault.New(fault.Failed, "", "the target server does not say who we are")
	}
	r := rows[0]
	version, _ := strconv.Atoi(r[0])
	f := serverFacts{version: version, superuser: r[2] == "1", createDB: r[3] == "1", createRol: r[4] == "1", user: r[5]}
	if r[1] == "1" {
		return f, fault.New(fault.Usage, "restore into a primary", "the target server is a standby: it can't be written to")
	}
	if version/10000 < m.ServerVersion/10000 {
		return f, fault.New(fault.Usage, "restore into the same major version or a later one",
			"the target server is PostgreSQL %d, the archived database is of PostgreSQL %d", version/10000, m.ServerVersion/10000)
	}
	return f, nil
}

// readDatabase judges the database to restore into, apart from what is in it.
func readDatabase(ctx context.Context, conn *pgconn.PgConn, m *basesnapshot.Manifest) error {
	encoding, err := session.Value(ctx, conn, "select current_setting('server_encoding')")
	if err != nil {
		return err
	}
	if source := m.Database.Encoding; encoding != source && (encoding != "UTF8" || source == "SQL_ASCII") {
		return fault.New(fault.Usage, "use a database with encoding "+source+", or --create", "the target database has encoding %s, the archived one %s", encoding, source)
	}
	return nil
}

// missingExtensions lists the extensions that the schema needs and the server can't make.
func missingExtensions(ctx context.Context, conn *pgconn.PgConn, items []basesnapshot.SchemaItem) error {
	var missing []string
	for _, it := range items {
		if it.Kind != "EXTENSION" {
			continue
		}
		found, err := session.Value(ctx, conn, `select 1 from (select name from pg_catalog.pg_available_extensions union select extname from pg_catalog.pg_extension) x(name) where name = $1`, it.Name)
		if err != nil {
			return err
		}
		if found == "" {
			missing = append(missing, it.Name)
		}
	}
	if len(missing) > 0 {
		return fault.New(fault.Usage, "install the packages that hold them on the target server", "the target server lacks the extensions %s", strings.Join(missing, ", "))
	}
	return nil
}

// contentsQuery lists what a database holds beyond what initdb and extensions put there.
const contentsQuery = `
with spaces as (
  select n.oid, n.nspname from pg_catalog.pg_namespace n
  where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_'
    and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_namespace'::regclass and d.objid = n.oid and d.deptype = 'e')),
own as (
  select d.classid, d.objid, s.nspname from pg_catalog.pg_depend d join spaces s on d.refobjid = s.oid
  where d.refclassid = 'pg_catalog.pg_namespace'::regclass and d.deptype = 'n'
    and not exists (select from pg_catalog.pg_depend e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e'))
select 'schema ' || quote_ident(nspname) from spaces where nspname <> 'public'
union all select i.type || ' ' || coalesce(i.identity, o.objid::text) from own o, pg_catalog.pg_identify_object(o.classid, o.objid, 0) i
  where o.nspname = 'public' and i.type <> 'default acl'
union all select 'large object ' || oid from pg_catalog.pg_largeobject_metadata
union all select 'publication ' || quote_ident(pubname) from pg_catalog.pg_publication
union all select 'event trigger ' || quote_ident(evtname) from pg_catalog.pg_event_trigger t
  where not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_event_trigger'::regclass and e.objid = t.oid and e.deptype = 'e')
union all select 'server ' || quote_ident(srvname) from pg_catalog.pg_foreign_server
union all select i.type || ' ' || i.identity from (` + databaseWide + `) w, pg_catalog.pg_identify_object(w.classid, w.oid, 0) i
limit 1000`

// contents lists what is in the database, as "table public.orders".
func contents(ctx context.Context, conn *pgconn.PgConn) ([]string, error) {
	rows, err := session.Rows(ctx, conn, contentsQuery)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range rows {
		out = append(out, r[0])
	}
	return out, nil
}

func notEmpty(where string, found []string) error {
	shown := found[:min(3, len(found))]
	more := ""
	if n := len(found) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fault.Wrap(ErrNotEmpty, fault.Usage, "name an empty database, or a new one with --create",
		"%s holds %s%s", where, strings.Join(shown, ", "), more)
}

// tablesEmpty checks, for a restore of rows alone, that every table is there, is empty, and has no trigger
// that fires even for replicas.
func tablesEmpty(ctx context.Context, conn *pgconn.PgConn, tables []*basesnapshot.Table) error {
	always, err := session.Value(ctx, conn, "select evtname from pg_catalog.pg_event_trigger where evtenabled in ('A', 'R') limit 1")
	if err != nil {
		return err
	}
	if always != "" {
		return fault.New(fault.Usage, "ALTER EVENT TRIGGER "+sqltext.QuoteIdent(always)+" DISABLE, for the restore", "event trigger %s fires for replicas too (ENABLE ALWAYS or REPLICA)", always)
	}
	for _, t := range tables {
		rows, err := session.Rows(ctx, conn, `
select exists (select from pg_catalog.pg_trigger g where g.tgrelid = c.oid and g.tgenabled in ('A', 'R') and not g.tgisinternal)::int::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')`, t.Namespace, t.Name)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return fault.New(fault.Usage, "restore the schema first: --schema-only", "the target has no table %s", t)
		}
		if rows[0][0] == "1" {
			return fault.New(fault.Usage, "disable it for the restore", "table %s has a trigger that fires for replicas too (ENABLE ALWAYS or REPLICA)", t)
		}
		found, err := session.Value(ctx, conn, "select 1 from only "+sqltext.QuoteName(t.Namespace, t.Name)+" limit 1")
		if err != nil {
			return err
		}
		if found != "" {
			return fault.Wrap(ErrNotEmpty, fault.Usage, "empty it first", "table %s holds rows", t)
		}
	}
	return nil
}
