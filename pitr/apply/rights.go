package apply

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/sqltext"
)

// A statement may run what users wrote: the functions of a default that a rewritten table is filled with, of a CHECK
// that is validated, of an index. Run by SET ROLE, such a function needs only RESET ROLE to be the restoring role. So
// the statement is the body of a function that its role owns, SECURITY DEFINER: in there neither the role nor the
// session's authorization can be changed (GUC_NOT_WHILE_SEC_REST, src/backend/utils/misc/guc.c). It has to be written
// in SQL: one in PL/pgSQL would stand in the way of DROP EXTENSION plpgsql.

// rights are those that a statement is tried with.
type rights int

const (
	own    rights = iota // what its role has here
	lent                 // that, and what it had at the source over what the statement is about
	raised               // its role is a superuser for the time of the statement
	theirs               // the connecting role's
)

// errNotTaken says that the connecting role can't act for the role: it is no superuser and no member.
var errNotTaken = errors.New("the restoring role can't act for it")

// changeFunction is what a statement is run by.
const changeFunction = "pg_temp.tidemark_change()"

// ways are the rights that a statement is tried with, in this order, while it lacks some. Where it may run what a
// user wrote, it gets no more than it had at the source, so that no user of the source can make himself a superuser here.
func (e *execution) ways() []rights {
	switch {
	case e.schema.NoOwner:
		return []rights{theirs}
	case e.message.Super || runsNoCode(e.message):
		return []rights{own, raised, theirs}
	}
	return []rights{own, lent}
}

const (
	oneName = `(?-i:"(?:[^"]|"")+"|[\w$\x{80}-\x{10FFFF}]+)`
	dotted  = oneName + `(?:\s*\.\s*` + oneName + `)*`
)

var (
	routine = regexp.MustCompile(`^ALTER (AGGREGATE|FUNCTION|PROCEDURE|ROUTINE|OPERATOR|OPERATOR CLASS|OPERATOR FAMILY)$`)
	// Names and key words alone: no comment can make it seem to end with OWNER TO.
	onlyOwner = regexp.MustCompile(`(?i)^\s*ALTER(?:\s+` + dotted + `)+\s+OWNER\s+TO\s+` + dotted + `\s*;?\s*$`)
)

// runsNoCode reports whether a statement surely runs nothing that a user wrote.
func runsNoCode(m *ddl.Message) bool {
	switch m.Tag {
	case "GRANT", "REVOKE", "ALTER DEFAULT PRIVILEGES", "COMMENT":
		return true
	case "CREATE SCHEMA":
		return len(m.Objects) == 1
	}
	// ALTER TABLE may have OWNER TO among other things, after a comma.
	return strings.HasPrefix(m.Tag, "DROP ") || routine.MatchString(m.Tag) && isOwnership(m) || onlyOwner.MatchString(m.SQL)
}

// more returns what is left to be tried after a refusal for want of rights.
func more(ways []rights, err error) []rights {
	if errors.Is(err, errNotTaken) {
		// The connecting role is no superuser itself: users' code gets what that one may, which docs/operations.md says.
		return []rights{theirs}
	}
	return ways[1:]
}

// take makes the function that runs a statement for a role.
func take(ctx context.Context, conn *pgconn.PgConn, role, sql string) error {
	make := "SET LOCAL check_function_bodies = off; SET LOCAL standard_conforming_strings = on"
	if _, err := conn.Exec(ctx, make).ReadAll(); err != nil {
		return err
	}
	make = "CREATE FUNCTION " + changeFunction + " RETURNS pg_catalog.void LANGUAGE sql SECURITY DEFINER AS '" + strings.ReplaceAll(sql, "'", "''") + "'"
	if _, err := conn.Exec(ctx, make).ReadAll(); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "ALTER FUNCTION "+changeFunction+" OWNER TO "+sqltext.QuoteIdent(role)).ReadAll()
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" {
		return errors.Join(err, errNotTaken)
	}
	return err
}

// ownersQuery finds the owners of objects that a role is no member of. Superusers are nobody's to lend.
const ownersQuery = `
select distinct r.rolname from (
  select c.relowner as owner from unnest($2::text[]) n(name) join pg_catalog.pg_class c on c.oid = to_regclass(n.name)
  union all select t.typowner from unnest($3::text[]) n(name) join pg_catalog.pg_type t on t.oid = to_regtype(n.name)
  union all select p.proowner from unnest($4::text[]) n(name) join pg_catalog.pg_proc p on p.oid = to_regprocedure(n.name)
  union all select s.nspowner from unnest($5::text[]) n(name) join pg_catalog.pg_namespace s on quote_ident(s.nspname) = n.name
) o join pg_catalog.pg_roles r on r.oid = o.owner
where not r.rolsuper and not pg_has_role($1::name, r.oid, 'MEMBER')`

// lend makes the role a member of the owners of what the statement changes, and lets it make schemas and the like where the
// statement does: at the source it could, or the statement had failed. Memberships and rights to the database come
// with base snapshots only, and not to roles that were there already. It returns what takes all of it back.
func (e *execution) lend(ctx context.Context, conn *pgconn.PgConn, role string) (undo []string, err error) {
	var relations, types, routines, schemas []string
	for _, o := range e.message.Objects {
		switch o.Type {
		case "type", "composite type", "domain", "domain constraint":
			name := o.Identity
			if _, of, ok := strings.Cut(name, " on "); ok {
				name = of
			}
			types = append(types, name)
		case "function", "procedure", "aggregate":
			routines = append(routines, o.Identity)
		case "schema":
			schemas = append(schemas, o.Identity)
		default:
			if name := relationOf(o); name != "" {
				relations = append(relations, name)
			}
		}
	}
	rows, err := queryOn(ctx, conn, ownersQuery, role, textArray(relations), textArray(types), textArray(routines), textArray(schemas))
	if err != nil {
		return nil, err
	}
	var do []string
	for _, r := range rows {
		do = append(do, "GRANT "+sqltext.QuoteIdent(string(r[0]))+" TO "+sqltext.QuoteIdent(role))
		undo = append(undo, "REVOKE "+sqltext.QuoteIdent(string(r[0]))+" FROM "+sqltext.QuoteIdent(role))
	}
	if inDatabase.MatchString(e.message.Tag) {
		rows, err := queryOn(ctx, conn, "select quote_ident(current_database()) where not has_database_privilege($1, current_database(), 'CREATE')", role)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			do = append(do, "GRANT CREATE ON DATABASE "+string(r[0])+" TO "+sqltext.QuoteIdent(role))
			undo = append(undo, "REVOKE CREATE ON DATABASE "+string(r[0])+" FROM "+sqltext.QuoteIdent(role))
		}
	}
	_, err = conn.Exec(ctx, strings.Join(do, "; ")).ReadAll()
	return undo, err
}

// inDatabase are the tags of what CREATE on the database allows.
var inDatabase = regexp.MustCompile(`^(CREATE|ALTER) (SCHEMA|EXTENSION|PUBLICATION)$`)

// lacks explains a refusal of which nothing more comes.
func (e *execution) lacks(err error) error {
	if e.message.Super {
		return err
	}
	return fmt.Errorf("role %s lacks a right here that it had at the source, and a statement that may run users' code gets no others: %w", sqltext.QuoteIdent(e.message.User), err)
}

// raise makes a role a superuser. Nobody else ever sees it: it is taken back in the same transaction. Where that may not
// be, or another session changes the role too, the error is one of lacking rights.
func (e *execution) raise(ctx context.Context, conn *pgconn.PgConn, role string) (undo []string, err error) {
	lacking := &pgconn.PgError{Code: "42501", Message: "role " + sqltext.QuoteIdent(role) + " can't be made a superuser for a statement"}
	rows, err := queryOn(ctx, conn, "select 1 from pg_catalog.pg_roles r, pg_catalog.pg_roles u where r.rolname = $1 and not r.rolsuper and u.rolname = current_user and u.rolsuper", role)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, lacking
	}
	_, err = conn.Exec(ctx, "ALTER ROLE "+sqltext.QuoteIdent(role)+" SUPERUSER").ReadAll()
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return nil, lacking
	}
	return []string{"ALTER ROLE " + sqltext.QuoteIdent(role) + " NOSUPERUSER"}, err
}
