package pitr

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// marker is what the mark in an existing database remembers: how it was found, so that a later restore can
// bring it back to that.
type marker struct {
	Archive    string   `json:"archive"`
	DataOnly   bool     `json:"data_only"`
	Extensions []string `json:"extensions"` // that were there before
	Tables     []string `json:"tables"`     // quoted; of a restore of rows alone: those it fills
}

// readMarker returns the mark in the database, nil if there is none.
func readMarker(ctx context.Context, conn *pgconn.PgConn) (*marker, error) {
	found, err := session.OwnTable(ctx, conn, unfinishedSchema+".restore")
	if err != nil || !found {
		return nil, err
	}
	text, err := session.Value(ctx, conn, "select mark::text from "+unfinishedSchema+".restore")
	if err != nil {
		return nil, err
	}
	m := &marker{}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return nil, fault.Wrap(err, fault.Usage, "empty the database by hand", "the database bears a mark of an unfinished restore that can't be read")
	}
	return m, nil
}

// writeMarker marks the database, in one transaction.
func writeMarker(ctx context.Context, conn *pgconn.PgConn, m marker) error {
	rows, err := session.Rows(ctx, conn, "select extname from pg_catalog.pg_extension order by 1")
	if err != nil {
		return err
	}
	for _, r := range rows {
		m.Extensions = append(m.Extensions, r[0])
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	sql := "BEGIN; CREATE SCHEMA " + unfinishedSchema + "; CREATE TABLE " + unfinishedSchema + ".restore (mark json NOT NULL); INSERT INTO " +
		unfinishedSchema + ".restore VALUES (" + sqltext.QuoteLiteral(string(text)) + "); COMMIT"
	if err := session.Exec(ctx, conn, sql); err != nil {
		return fault.Wrap(err, fault.Usage, "the restoring role needs CREATE on the database", "mark the database as unfinished")
	}
	return nil
}

// clearPlace takes away what a failed restore left in an existing database, with its mark last.
func clearPlace(ctx context.Context, conn *pgconn.PgConn, m *marker) error {
	var err error
	if m.DataOnly {
		err = emptyTables(ctx, conn, m.Tables)
	} else {
		err = wipe(ctx, conn, m)
	}
	if err != nil {
		return fault.Wrap(err, fault.CodeOf(err), "empty the database by hand", "clear away an unfinished restore")
	}
	return session.Exec(ctx, conn, "DROP SCHEMA "+unfinishedSchema+" CASCADE")
}

func emptyTables(ctx context.Context, conn *pgconn.PgConn, tables []string) error {
	if len(tables) == 0 {
		return nil
	}
	sql := "TRUNCATE "
	for i, t := range tables {
		if i > 0 {
			sql += ", "
		}
		sql += t
	}
	return session.Exec(ctx, conn, sql)
}

// databaseWide lists objects that lie in no schema, but for those of initdb and of extensions.
const databaseWide = `
select c.classid, c.oid from (
  select 'pg_catalog.pg_foreign_data_wrapper'::regclass as classid, oid from pg_catalog.pg_foreign_data_wrapper
  union all select 'pg_catalog.pg_language'::regclass, oid from pg_catalog.pg_language
  union all select 'pg_catalog.pg_cast'::regclass, oid from pg_catalog.pg_cast
  union all select 'pg_catalog.pg_am'::regclass, oid from pg_catalog.pg_am) c
where c.oid >= 16384 and not exists (select from pg_catalog.pg_depend e where e.classid = c.classid and e.objid = c.oid and e.deptype = 'e')`

// dropsQuery gives statements that empty a database but for the schema public, extensions and the mark.
const dropsQuery = `
with spaces as (
  select n.oid, n.nspname from pg_catalog.pg_namespace n
  where n.nspname not in ('pg_catalog', 'information_schema', '` + unfinishedSchema + `') and n.nspname !~ '^pg_'
    and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_namespace'::regclass and d.objid = n.oid and d.deptype = 'e'))
select 'DROP EVENT TRIGGER IF EXISTS ' || quote_ident(evtname) || ' CASCADE' from pg_catalog.pg_event_trigger t
  where not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_event_trigger'::regclass and e.objid = t.oid and e.deptype = 'e')
union all select 'DROP PUBLICATION IF EXISTS ' || quote_ident(pubname) || ' CASCADE' from pg_catalog.pg_publication
union all select 'DROP SERVER IF EXISTS ' || quote_ident(srvname) || ' CASCADE' from pg_catalog.pg_foreign_server
union all select 'DROP ' || replace(i.type, '-', ' ') || ' IF EXISTS ' || i.identity || ' CASCADE' from (` + databaseWide + `) w, pg_catalog.pg_identify_object(w.classid, w.oid, 0) i
union all select 'SELECT lo_unlink(' || oid || ')' from pg_catalog.pg_largeobject_metadata
union all select 'DROP SCHEMA IF EXISTS ' || quote_ident(nspname) || ' CASCADE' from spaces where nspname <> 'public'
union all select 'DROP ' || i.type || ' IF EXISTS ' || i.identity || ' CASCADE'
  from spaces s join pg_catalog.pg_depend d on d.refobjid = s.oid and d.refclassid = 'pg_catalog.pg_namespace'::regclass and d.deptype = 'n',
       pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
  where s.nspname = 'public' and i.type <> 'default acl'
    and not exists (select from pg_catalog.pg_depend e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e')`

func wipe(ctx context.Context, conn *pgconn.PgConn, m *marker) error {
	extensions, err := session.Rows(ctx, conn, "select extname from pg_catalog.pg_extension")
	if err != nil {
		return err
	}
	for _, e := range extensions {
		if !slices.Contains(m.Extensions, e[0]) {
			if err := session.Exec(ctx, conn, "DROP EXTENSION IF EXISTS "+sqltext.QuoteIdent(e[0])+" CASCADE"); err != nil {
				return err
			}
		}
	}
	drops, err := session.Rows(ctx, conn, dropsQuery)
	if err != nil {
		return err
	}
	for _, d := range drops {
		if err := session.Exec(ctx, conn, d[0]); err != nil {
			return err
		}
	}
	found, err := contents(ctx, conn)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(s string) bool { return s == "schema "+unfinishedSchema })
	if len(found) > 0 {
		return notEmpty("the database still", found)
	}
	return nil
}

// quotedTables are the tables of a restore of rows alone, for its mark.
func quotedTables(tables []*basesnapshot.Table) []string {
	var out []string
	for _, t := range tables {
		out = append(out, sqltext.QuoteName(t.Namespace, t.Name))
	}
	return out
}
