package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/sqltext"
)

// Default privileges are given to what is made: in the order of commits a replay may give other ones than the source did, where another
// transaction changed them in between. So the messages carry the privileges of what a statement made, and each difference is mended.

// grantable are the kinds of objects whose privileges messages carry, with their names in GRANT and how they
// are found by name.
var grantable = map[string]struct{ word, class string }{
	"table": {"TABLE", "relation"}, "view": {"TABLE", "relation"}, "materialized view": {"TABLE", "relation"}, "foreign table": {"TABLE", "relation"},
	"sequence": {"SEQUENCE", "relation"}, "function": {"FUNCTION", "routine"}, "procedure": {"PROCEDURE", "routine"}, "aggregate": {"FUNCTION", "routine"},
	"type": {"TYPE", "type"}, "composite type": {"TYPE", "type"}, "domain": {"TYPE", "type"}, "schema": {"SCHEMA", "schema"},
}

// objectOID is the class and the OID of an object by its kind ($1) and its name ($2); of a type by its schema ($3) and its bare name ($4), which
// one that was dropped hasn't got, since to_regtype refuses a shell type, and of a routine by its schema and what it is called, since to_regprocedure refuses types that aren't there.
const objectOID = `select case $1 when 'relation' then 'pg_class'::regclass when 'routine' then 'pg_proc'::regclass when 'schema' then 'pg_namespace'::regclass else 'pg_type'::regclass end::oid::text,
coalesce(case $1 when 'relation' then to_regclass($2)::oid when 'schema' then to_regnamespace($2)::oid
when 'routine' then (select p.oid from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = $3 and starts_with($2, quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(') and (pg_identify_object('pg_proc'::regclass, p.oid, 0)).identity = $2) else (select t.oid from pg_catalog.pg_type t
join pg_catalog.pg_namespace n on n.oid = t.typnamespace where n.nspname = $3 and (t.typname = $4 or quote_ident(n.nspname) || '.' || quote_ident(t.typname) = $2)
order by quote_ident(n.nspname) || '.' || quote_ident(t.typname) = $2 desc limit 1) end, 0)::text`

// reduce leaves out of a GRANT ON ALL TABLES, which names each, what isn't restored. Where nothing is left, that is "".
func (e *execution) reduce(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	m := e.message
	if !e.schema.Partial || !isPrivilege(m) || len(m.Objects) == 0 {
		return sql, nil
	}
	var all, there []string
	kept := m.Objects[:0:0]
	for _, o := range m.Objects {
		all = append(all, o.Identity)
		_, oid, err := find(ctx, conn, o)
		if err != nil {
			return "", err
		}
		if oid != "0" {
			there, kept = append(there, o.Identity), append(kept, o)
		}
	}
	reduced := *m
	reduced.Objects = kept
	if e.message = &reduced; len(there) == 0 {
		return "", nil
	}
	return strings.Replace(sql, strings.Join(all, ", "), strings.Join(there, ", "), 1), nil
}

// find looks for an object of the source; "0": it isn't there.
func find(ctx context.Context, conn *pgconn.PgConn, o ddl.Object) (class, oid string, err error) {
	class = grantable[o.Type].class
	if o.Type == "index" {
		class = "relation"
	}
	rows, err := queryOn(ctx, conn, objectOID, class, o.Identity, o.Schema, o.Name)
	if err != nil {
		return "", "", err
	}
	return string(rows[0][0]), string(rows[0][1]), nil
}

// mendRights gives everybody the privileges on what the statement made that the message tells of.
func (e *execution) mendRights(ctx context.Context, conn *pgconn.PgConn) error {
	if e.schema.NoPrivileges || e.choice == Try {
		return nil
	}
	for _, o := range e.message.Objects {
		if o.ACL == nil || o.Extension || grantable[o.Type].word == "" {
			continue
		}
		if err := e.mendRightsOf(ctx, conn, o); err != nil {
			return err
		}
	}
	return nil
}

func (e *execution) mendRightsOf(ctx context.Context, conn *pgconn.PgConn, o ddl.Object) error {
	class, oid, err := find(ctx, conn, o)
	if err != nil || oid == "0" {
		return err
	}
	rows, err := queryOn(ctx, conn, ddl.RightsSQL, class, oid)
	if err != nil || len(rows) == 0 {
		return err
	}
	var have []map[string][]string
	if err := json.Unmarshal(rows[0][0], &have); err != nil {
		return err
	}
	want, owner := o.ACL, string(rows[0][1])
	if _, ok := want["default"]; ok {
		want = have[1]
	}
	for _, s := range differing(have[0], want, grantable[o.Type].word+" "+o.Identity, owner, e.message.ServerVersion) {
		if err := e.grant(ctx, conn, s, owner); err != nil {
			return fmt.Errorf("give the privileges that %s %s has at the source: %w", o.Type, o.Identity, err)
		}
	}
	return nil
}

// maintain is a privilege that servers before 17 don't know. An owner has it there from the first.
const maintain = "MAINTAIN"

// differing returns what makes one set of privileges the other.
func differing(have, want map[string][]string, object, owner string, version int) (statements []string) {
	all := maps.Clone(have)
	maps.Copy(all, want)
	for _, who := range slices.Sorted(maps.Keys(all)) {
		be := slices.Clone(want[who])
		if who == "owner" && version < 170000 && slices.Contains(have[who], maintain) {
			be = append(be, maintain)
		}
		if sameItems(have[who], be) {
			continue
		}
		grantee := sqltext.QuoteIdent(owner)
		if name, isRole := strings.CutPrefix(who, "role "); isRole && name == owner {
			continue // it has everything here, and not at the source, where another is the owner
		} else if isRole {
			grantee = sqltext.QuoteIdent(name)
		} else if who == "public" {
			grantee = "PUBLIC"
		}
		statements = append(statements, "REVOKE ALL ON "+object+" FROM "+grantee+" CASCADE")
		for _, p := range be {
			name, option := strings.CutSuffix(p, "*")
			sql := "GRANT " + name + " ON " + object + " TO " + grantee
			if option {
				sql += " WITH GRANT OPTION"
			}
			statements = append(statements, sql)
		}
	}
	return statements
}

func sameItems(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// grant executes GRANT or REVOKE: as the connecting role, or as the owner where that has to be. Roles that are missing are made,
// as for statements of the source.
func (e *execution) grant(ctx context.Context, conn *pgconn.PgConn, sql, owner string) error {
	for attempt, prefix := 0, ""; ; attempt++ {
		_, err := conn.Exec(ctx, "SAVEPOINT tidemark_grant; "+prefix+sql+"; SET LOCAL ROLE NONE; RELEASE SAVEPOINT tidemark_grant").ReadAll()
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if !ok {
			return err
		}
		if _, undo := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tidemark_grant; RELEASE SAVEPOINT tidemark_grant").ReadAll(); undo != nil {
			return undo
		}
		switch {
		case attempt > 2:
			return err
		case missingRole(pgErr) != "":
			if err := e.makeRole(ctx, conn, missingRole(pgErr)); err != nil {
				return errors.Join(pgErr, err)
			}
		case pgErr.Code == "42501" && prefix == "":
			prefix = "SET LOCAL ROLE " + sqltext.QuoteIdent(owner) + "; "
		default:
			return err
		}
	}
}
