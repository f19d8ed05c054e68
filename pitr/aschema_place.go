package pitr

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// checkSchemaName refuses names that no new schema can have.
func checkSchemaName(name string) error {
	if strings.HasPrefix(name, "pg_") || name == "information_schema" || name == "public" || name == "tidemark" || name == unfinishedSchema ||
		strings.HasSuffix(name, unfinishedSuffix) || len(name) > maxName || strings.ContainsRune(name, 0) {
		return fault.New(fault.Usage, "choose one such as rescue", "--as-schema: %q can't be the name of a new schema", name)
	}
	return nil
}

// openSchemaPlace connects to a database that stays what it is but for a new schema, and takes the lock
// against other restores into that.
func openSchemaPlace(ctx context.Context, c *session.Connector, schema string) (*place, error) {
	p := &place{conn: c, final: c.Database(), name: c.Database(), schema: schema}
	var err error
	if p.admin, err = c.Open(ctx, p.name); err != nil {
		return nil, err
	}
	return p, p.lock(ctx, "hashtext("+sqltext.QuoteLiteral("schema "+schema)+")")
}

// checkSchema makes sure that the schema can be made: it isn't there, and one that an earlier restore left
// bears our mark.
func (p *place) checkSchema(ctx context.Context, f serverFacts) error {
	may, err := session.Value(ctx, p.admin, "select pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')::int::text")
	if err != nil {
		return err
	}
	if may != "1" {
		return fault.New(fault.Usage, "GRANT CREATE ON DATABASE "+sqltext.QuoteIdent(p.name)+" TO "+sqltext.QuoteIdent(f.user), "role %q may not make a schema in database %q", f.user, p.name)
	}
	found, err := session.Value(ctx, p.admin, "select 1 from pg_catalog.pg_namespace where nspname = $1", p.schema)
	if err != nil {
		return err
	}
	if found != "" {
		return fault.Wrap(ErrNotEmpty, fault.Usage, "give --as-schema another name, or drop it: DROP SCHEMA "+sqltext.QuoteIdent(p.schema)+" CASCADE", "schema %q exists in database %q", p.schema, p.name)
	}
	_, err = p.schemaLeftover(ctx)
	return err
}

// schemaLeftover reports whether an earlier restore left its schema, and refuses one that only has the name.
func (p *place) schemaLeftover(ctx context.Context) (bool, error) {
	name := unfinishedName(p.schema)
	rows, err := session.Rows(ctx, p.admin, "select coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '') from pg_catalog.pg_namespace where nspname = $1", name)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	if !strings.HasPrefix(rows[0][0], unfinishedComment) {
		return false, fault.New(fault.Usage, "drop or rename it", "schema %q has the name of an unfinished restore and not its mark", name)
	}
	return true, nil
}

// makeSchema drops what an earlier restore left and makes the schema under its unfinished name. The owners of
// what will be in it may use it: foreign keys are checked in their name.
func (p *place) makeSchema(ctx context.Context, archive string, owners []string) error {
	left, err := p.schemaLeftover(ctx)
	if err != nil {
		return err
	}
	name := sqltext.QuoteIdent(unfinishedName(p.schema))
	sql := "BEGIN;"
	if left {
		sql += " DROP SCHEMA " + name + " CASCADE;"
	}
	sql += " CREATE SCHEMA " + name + "; COMMENT ON SCHEMA " + name + " IS " + sqltext.QuoteLiteral(unfinishedComment+archive) + ";"
	if len(owners) > 0 {
		sql += " GRANT USAGE, CREATE ON SCHEMA " + name + " TO " + strings.Join(owners, ", ") + ";"
	}
	if err := session.Exec(ctx, p.admin, sql+" COMMIT"); err != nil {
		return fault.Wrap(err, fault.CodeOf(err), "", "make schema %q", unfinishedName(p.schema))
	}
	return nil
}

// finishSchema gives the schema its name, in one transaction with the last statements.
func (p *place) finishSchema(ctx context.Context, owners []string, last string) error {
	name := sqltext.QuoteIdent(unfinishedName(p.schema))
	sql := "BEGIN; COMMENT ON SCHEMA " + name + " IS NULL;"
	if len(owners) > 0 {
		sql += " REVOKE CREATE ON SCHEMA " + name + " FROM " + strings.Join(owners, ", ") + ";"
	}
	sql += "\n" + last + "ALTER SCHEMA " + name + " RENAME TO " + sqltext.QuoteIdent(p.schema) + "; COMMIT"
	if err := session.Exec(ctx, p.admin, sql); err != nil {
		return fault.Wrap(err, fault.CodeOf(err), "", "the schema is complete, but could not be given its name %q", p.schema)
	}
	return nil
}

// owners are the roles, quoted, that something restored will belong to, but for the connecting one.
func (r *run) owners() []string {
	var out []string
	for i := range r.chosen.items {
		it := &r.chosen.items[i]
		if name := sqltext.QuoteIdent(it.Owner); !r.o.NoOwner && it.OwnerSQL != "" && it.Owner != r.server.user && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// extensionsInPlace checks that the database has the extensions that chosen items need, in the schemas that
// statements name them in: nothing is made outside the new schema.
func extensionsInPlace(ctx context.Context, conn *pgconn.PgConn, items []basesnapshot.SchemaItem) error {
	for _, it := range items {
		if it.Kind != "EXTENSION" {
			continue
		}
		have, err := session.Value(ctx, conn, "select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = $1", it.Name)
		if err != nil {
			return err
		}
		want := extensionSchema(it.SQL)
		switch {
		case have == "":
			return fault.New(fault.Usage, "CREATE EXTENSION "+sqltext.QuoteIdent(it.Name)+" SCHEMA "+sqltext.QuoteIdent(want), "the tables need extension %q, which the database doesn't have", it.Name)
		case have != want:
			return fault.New(fault.Usage, "restore into a new database with --create", "extension %q lies in schema %q there, and in %q in the archive", it.Name, have, want)
		}
	}
	return nil
}

// extensionSchema is the name after SCHEMA in CREATE EXTENSION.
func extensionSchema(sql string) string {
	all := words(sql)
	for i := range all {
		if all[i].Is("schema") && i+1 < len(all) {
			name, _ := all[i+1].Identifier()
			return name
		}
	}
	return ""
}

// reachQuery finds what objects of a schema need from outside of it, but for PostgreSQL's own and
// extensions' objects. (pg_identify_object quotes names of schemas that need it.)
const reachQuery = `
with recursive inside as (
  select classid, objid from pg_catalog.pg_depend where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = (select oid from pg_catalog.pg_namespace where nspname = $1)
  union select d.classid, d.objid from inside i join pg_catalog.pg_depend d on d.refclassid = i.classid and d.refobjid = i.objid and d.deptype in ('a', 'i', 'P', 'S'))
select o.type || ' ' || o.identity || ' of ' || w.type || ' ' || w.identity
from inside i join pg_catalog.pg_depend d on d.classid = i.classid and d.objid = i.objid,
     pg_catalog.pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) o, pg_catalog.pg_identify_object(d.classid, d.objid, 0) w
where o.schema is not null and o.schema not in (quote_ident($1), 'pg_catalog', 'information_schema') and o.schema !~ '^pg_toast'
  and not exists (select from pg_catalog.pg_depend e where e.classid = d.refclassid and e.objid = d.refobjid and e.deptype = 'e')
limit 1`

// checkReach makes sure that the new schema uses nothing of what lies beside it: a default that draws on a
// live sequence would change it.
func (r *run) checkReach(ctx context.Context) error {
	if r.names == nil {
		return nil
	}
	found, err := session.Value(ctx, r.place.admin, reachQuery, r.names.to)
	if err == nil && found != "" {
		err = fault.New(fault.Failed, "restore into a new database with --create", "what was restored into the schema would use what lies outside of it: %s", found)
	}
	return err
}

// forgetDefaultPrivileges takes from the new relations what ALTER DEFAULT PRIVILEGES of the database gave: the
// archived rights count from nothing.
func (r *run) forgetDefaultPrivileges(ctx context.Context, conn *pgconn.PgConn) error {
	if r.names == nil || r.o.NoPrivileges {
		return nil
	}
	rows, err := session.Rows(ctx, conn, `
select distinct 'REVOKE ALL ON ' || case c.relkind when 'S' then 'SEQUENCE ' else 'TABLE ' end || quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' FROM ' ||
  case a.grantee when 0 then 'PUBLIC' else quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace, pg_catalog.aclexplode(c.relacl) a
where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'S') and a.grantee <> c.relowner`, r.names.to)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := session.Exec(ctx, conn, row[0]); err != nil {
			return err
		}
	}
	return nil
}

// neededRoles are the archived roles that chosen items name, their owners and who may use them, and the roles
// that these belong to. A restore of everything needs all.
func (r *run) neededRoles() []basesnapshot.Role {
	if len(r.chosen.filter) == 0 {
		return r.manifest.Roles
	}
	named := map[string]bool{}
	for i := range r.chosen.items {
		it := &r.chosen.items[i]
		if !r.o.NoOwner {
			named[it.Owner] = true
		}
		if it.Kind == "ACL" && !r.o.NoPrivileges || it.Kind == "POLICY" {
			for _, t := range words(it.SQL) {
				if name, ok := t.Identifier(); ok {
					named[name] = true
				}
			}
		}
	}
	for grown := true; grown; {
		grown = false
		for _, role := range r.manifest.Roles {
			for _, m := range role.MemberOf {
				if named[role.Name] && !named[m.Role] {
					named[m.Role], grown = true, true
				}
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(r.manifest.Roles), func(role basesnapshot.Role) bool { return !named[role.Name] })
}

// checkAsSchema refuses what doesn't go with another schema.
func (o *Options) checkAsSchema() error {
	if o.Create || o.DataOnly {
		return fault.New(fault.Usage, "leave one of them away", "--as-schema puts tables beside what is in a database: it goes neither with --create nor with --data-only")
	}
	return checkSchemaName(o.AsSchema)
}

func (r *run) openPlace(ctx context.Context) (*place, error) {
	if r.o.AsSchema != "" {
		return openSchemaPlace(ctx, r.conn, r.o.AsSchema)
	}
	p, err := openPlace(ctx, r.conn, r.o.Create)
	if errors.Is(err, session.ErrNoDatabase) && !r.o.DataOnly {
		err = fault.Wrap(err, fault.Usage, "--create makes it", "")
	}
	return p, err
}

// preflightSchema finds what speaks against a new schema in the database.
func (r *run) preflightSchema(ctx context.Context) error {
	if err := readDatabase(ctx, r.place.admin, r.manifest); err != nil {
		return err
	}
	if err := r.becomeReplica(ctx, r.place.admin); err != nil {
		return err
	}
	if err := extensionsInPlace(ctx, r.place.admin, r.extensions); err != nil {
		return err
	}
	if err := r.place.checkSchema(ctx, r.server); err != nil {
		return err
	}
	if err := r.preflightRole(ctx); err != nil {
		return err
	}
	return r.warnPublications(ctx)
}

// warnPublications says that a publication of all tables carries the new ones, too: into an archive, for one.
func (r *run) warnPublications(ctx context.Context) error {
	rows, err := session.Rows(ctx, r.place.admin, "select pubname from pg_catalog.pg_publication where puballtables order by 1")
	if err != nil {
		return err
	}
	for _, row := range rows {
		r.note("publication " + sqltext.QuoteIdent(row[0]) + " is of all tables: what is restored goes to its subscribers and archives as well")
	}
	return nil
}

// finishPlace takes the mark of the unfinished restore away, with the last statements.
func (r *run) finishPlace(ctx context.Context, last string) error {
	if r.names == nil {
		return r.place.finish(ctx, r.manifest.Database, last)
	}
	if err := r.checkReach(ctx); err != nil {
		return err
	}
	return r.place.finishSchema(ctx, r.owners(), last)
}
