package pitr

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// A restore by a role that is no superuser, as on managed servers. What needs one is found before anything is
// written: what the rest can do without is left out and named, anything else is refused.

// becomeReplica puts a session into the replica role. A role that may not is good enough where nothing can
// fire: tables that the restore makes get their triggers and foreign keys after the rows.
func (r *run) becomeReplica(ctx context.Context, conn *pgconn.PgConn) error {
	err := session.BecomeReplica(ctx, conn)
	if pgErr, ok := asPgError(err); ok && pgErr.Code == "42501" && !r.server.superuser && !r.o.DataOnly {
		r.conn.Plain = true
		return nil
	}
	return err
}

// preflightRole finds what the role can't do.
func (r *run) preflightRole(ctx context.Context) error {
	if r.server.superuser || r.o.DataOnly {
		return nil
	}
	steps := []func(context.Context) error{r.checkPublic, r.checkTrust, r.leaveOut, r.leaveExtensionRows, r.checkOwners}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// checkPublic asks for the right to make something in schema public.
func (r *run) checkPublic(ctx context.Context) error {
	if r.o.Create || r.names != nil || !slices.ContainsFunc(r.chosen.items, func(it basesnapshot.SchemaItem) bool { return it.Namespace == "public" }) {
		return nil
	}
	may, err := session.Value(ctx, r.place.admin, "select coalesce((select pg_catalog.has_schema_privilege(oid, 'CREATE')::int::text from pg_catalog.pg_namespace where nspname = 'public'), '1')")
	if err == nil && may != "1" {
		err = fault.New(fault.Usage, "GRANT CREATE ON SCHEMA public TO "+sqltext.QuoteIdent(r.server.user), "role %q may not make tables in schema public", r.server.user)
	}
	return err
}

// ownersNeeded are the roles in whose name the restore must act.
func (r *run) ownersNeeded() []string {
	var out []string
	add := func(role string) {
		if role != "" && role != r.server.user && !slices.Contains(out, role) {
			out = append(out, role)
		}
	}
	for i := range r.chosen.items {
		it := &r.chosen.items[i]
		if !r.o.NoOwner && it.OwnerSQL != "" || it.Kind == "DEFAULT ACL" && !r.o.NoPrivileges {
			add(it.Owner)
		}
		if it.RestorePass() == basesnapshot.PassACL && !r.o.NoPrivileges {
			all := words(it.SQL)
			for i := range all {
				if all[i].Is("authorization") && i+1 < len(all) {
					name, _ := all[i+1].Identifier()
					if !all[i+1].Is(";") {
						add(name)
					}
				}
			}
		}
	}
	if r.o.Create && !r.o.NoOwner {
		add(r.manifest.Database.Owner)
	}
	return out
}

// checkOwners finds the roles that the restoring one must join for a while, and refuses ones that it can't.
func (r *run) checkOwners(ctx context.Context) error {
	may := "MEMBER"
	admin := "pg_catalog.pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')"
	if r.server.version >= 160000 {
		may = "SET"
	} else if r.server.createRol {
		admin = "(not rolsuper)"
	}
	var never []string
	for _, role := range r.ownersNeeded() {
		rows, err := session.Rows(ctx, r.place.admin, `
select (pg_catalog.pg_has_role(oid, 'USAGE') and pg_catalog.pg_has_role(oid, '`+may+`'))::int::text, `+admin+`::int::text from pg_catalog.pg_roles where rolname = $1`, role)
		if err != nil {
			return err
		}
		switch {
		case len(rows) == 0 || rows[0][0] != "1" && rows[0][1] == "1": // ones that are missing will be ours
			r.joins = append(r.joins, role)
		case rows[0][0] != "1":
			never = append(never, sqltext.QuoteIdent(role))
		}
	}
	if len(never) > 0 {
		return fault.New(fault.Usage, "GRANT "+strings.Join(never, ", ")+" TO "+sqltext.QuoteIdent(r.server.user)+"; or restore with --no-owner --no-privileges",
			"role %q is no superuser and can't make objects belong to %s", r.server.user, strings.Join(never, ", "))
	}
	return nil
}

// joinRoles makes the restoring role a member of the owners, until leaveRoles.
func (r *run) joinRoles(ctx context.Context) error {
	with := ""
	if r.server.version >= 160000 {
		with = " WITH INHERIT TRUE, SET TRUE"
	}
	for _, role := range r.joins {
		if err := session.Exec(ctx, r.place.admin, "GRANT "+sqltext.QuoteIdent(role)+" TO "+sqltext.QuoteIdent(r.server.user)+with); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "GRANT "+sqltext.QuoteIdent(role)+" TO "+sqltext.QuoteIdent(r.server.user), "join role %q, which objects will belong to", role)
		}
		r.joined = append(r.joined, role)
	}
	return nil
}

// leaveRoles takes back what joinRoles gave, whether the restore was completed or not.
func (r *run) leaveRoles(ctx context.Context) {
	for _, role := range r.joined {
		if err := session.Exec(ctx, r.place.admin, "REVOKE "+sqltext.QuoteIdent(role)+" FROM "+sqltext.QuoteIdent(r.server.user)); err != nil {
			r.note(fmt.Sprintf("role %s is still a member of %s: %s", sqltext.QuoteIdent(r.server.user), sqltext.QuoteIdent(role), err))
		}
	}
	r.joined = nil
}

// checkTrust refuses extensions that only a superuser can make, and languages that only one may use.
func (r *run) checkTrust(ctx context.Context) error {
	for i := range r.chosen.items {
		it := &r.chosen.items[i]
		sql, subject := "", ""
		switch it.Kind {
		case "EXTENSION":
			subject = it.Name
			sql = `select 1 from pg_catalog.pg_extension where extname = $1 union all select 1 from pg_catalog.pg_available_extension_versions v join pg_catalog.pg_available_extensions e on e.name = v.name and e.default_version = v.version
where v.name = $1 and (v.trusted or not v.superuser)`
		case "FUNCTION", "PROCEDURE":
			if subject = languageOf(it.SQL); subject == "" {
				continue
			}
			sql = "select 1 from pg_catalog.pg_language where lanname = $1 and lanpltrusted"
		default:
			continue
		}
		ok, err := session.Value(ctx, r.place.admin, sql, subject)
		if err != nil {
			return err
		}
		if ok != "" {
			continue
		}
		if it.Kind == "EXTENSION" {
			return fault.New(fault.Usage, "let a superuser run CREATE EXTENSION "+sqltext.QuoteIdent(it.Name)+" in the database first", "role %q is no superuser and can't make extension %s", r.server.user, it.Name)
		}
		return r.superuserNeeded(it)
	}
	return nil
}

// languageOf is the name after LANGUAGE in CREATE FUNCTION.
func languageOf(sql string) string {
	all := words(sql)
	for i := range all {
		if all[i].Is("language") && i+1 < len(all) {
			name, _ := all[i+1].Identifier()
			return name
		}
	}
	return ""
}

func (r *run) superuserNeeded(it *basesnapshot.SchemaItem) error {
	name := it.Name
	if it.Namespace != "" {
		name = it.Namespace + "." + name
	}
	return fault.New(fault.Usage, "restore as a superuser, or without what needs it: --table", "role %q is no superuser and can't make %s %s", r.server.user, strings.ToLower(it.Kind), name)
}

// softKinds are kinds of items whose absence changes nothing about the rest.
var softKinds = []string{"COMMENT", "ACL", "SECURITY LABEL", "EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"}

// hardKinds are kinds of items that only a superuser can make.
var hardKinds = []string{
	"FOREIGN DATA WRAPPER", "PROCEDURAL LANGUAGE", "ACCESS METHOD", "OPERATOR CLASS", "OPERATOR FAMILY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE",
	"EVENT TRIGGER", "SECURITY LABEL", "PUBLICATION TABLES IN SCHEMA",
}

// superuserOnly reports whether only a superuser can make an item.
func superuserOnly(it *basesnapshot.SchemaItem) bool {
	has := func(phrase ...string) bool {
		all := words(it.SQL)
		for i := range all {
			n := 0
			for n < len(phrase) && i+n < len(all) && all[i+n].Is(phrase[n]) {
				n++
			}
			if n == len(phrase) {
				return true
			}
		}
		return false
	}
	switch it.Kind {
	case "PUBLICATION":
		return has("for", "all", "tables")
	case "TYPE":
		return has("input", "=") && has("output", "=")
	case "CAST":
		return has("without", "function")
	case "FUNCTION", "PROCEDURE":
		return has("leakproof") && !has("not", "leakproof")
	}
	return slices.Contains(hardKinds, it.Kind)
}

// leaveOut takes away what the role can't make and the rest can do without; anything else is refused.
func (r *run) leaveOut(ctx context.Context) error {
	theirs, err := r.theirs(ctx)
	if err != nil {
		return err
	}
	gone := map[int]bool{}
	var said []string
	for grown := true; grown; {
		grown = false
		for i := range r.chosen.items {
			it := &r.chosen.items[i]
			if gone[it.ID] || it.RestorePass() == basesnapshot.PassACL && r.o.NoPrivileges {
				continue
			}
			needs := slices.ContainsFunc(it.Deps, func(d int) bool { return gone[d] })
			if !needs && !superuserOnly(it) && !theirs(it) {
				continue
			}
			if !slices.Contains(softKinds, it.Kind) {
				return r.superuserNeeded(it)
			}
			gone[it.ID], grown = true, true
			if !needs {
				said = append(said, describeItem(it))
			}
		}
	}
	r.chosen.items = slices.DeleteFunc(r.chosen.items, func(it basesnapshot.SchemaItem) bool { return gone[it.ID] })
	if len(said) > 0 {
		r.limit("without superuser, left out: " + strings.Join(said, ", "))
	}
	if r.conn.Plain && !r.o.SchemaOnly {
		r.o.Log.Debug("the role may not switch triggers off: they are made after the rows")
	}
	return nil
}

func describeItem(it *basesnapshot.SchemaItem) string {
	switch it.Kind {
	case "ACL":
		return "privileges of " + strings.ToLower(it.Name)
	case "COMMENT":
		return "the comment of " + strings.ToLower(it.Name)
	}
	return strings.ToLower(it.Kind) + " " + it.Name
}

// limit says before the start, and in the report, what can't be done.
func (r *run) limit(text string) {
	r.limits = append(r.limits, text)
	r.note(text)
}

// theirs tells rights to and comments of objects that the restore doesn't make, and that aren't the role's.
func (r *run) theirs(ctx context.Context) (func(*basesnapshot.SchemaItem) bool, error) {
	rows, err := session.Rows(ctx, r.place.admin, `
select 'SCHEMA public' from pg_catalog.pg_namespace where nspname = 'public' and not pg_catalog.pg_has_role(nspowner, 'USAGE')
union all select 'EXTENSION ' || extname from pg_catalog.pg_extension where not pg_catalog.pg_has_role(extowner, 'USAGE')
union all select 'LANGUAGE ' || lanname from pg_catalog.pg_language where not pg_catalog.pg_has_role(lanowner, 'USAGE')`)
	if err != nil {
		return nil, err
	}
	others := map[string]bool{}
	for _, row := range rows {
		// A database that is made is a copy of template0, where only extensions and languages have owners of note.
		others[row[0]] = !r.o.Create || row[0] != "SCHEMA public"
	}
	return func(it *basesnapshot.SchemaItem) bool {
		if it.Kind != "ACL" && it.Kind != "COMMENT" && it.Kind != "SECURITY LABEL" && it.Kind != "ACL LANGUAGE" {
			return false
		}
		if it.Namespace == "pg_catalog" || it.Namespace == "information_schema" || others[strings.ReplaceAll(it.Name, `"`, "")] {
			return true
		}
		// What an extension's script made belongs to the extension's owner: a superuser, mostly.
		return len(it.Deps) > 0 && !slices.ContainsFunc(it.Deps, func(d int) bool {
			dep := r.chosen.byID[d]
			return dep == nil || dep.Kind != "EXTENSION"
		}) && !strings.HasPrefix(it.Name, "EXTENSION ")
	}, nil
}

// leaveExtensionRows leaves the rows of extensions' own tables to their scripts, where the role may not write
// them.
func (r *run) leaveExtensionRows(ctx context.Context) error {
	var left []string
	for _, t := range r.chosen.tables {
		if t.Extension == "" || r.makes(basesnapshot.Name{Namespace: t.Namespace, Name: t.Name}) {
			continue
		}
		may, err := session.Value(ctx, r.place.admin, `select (pg_catalog.has_table_privilege(c.oid, 'INSERT') and pg_catalog.has_table_privilege(c.oid, 'TRUNCATE'))::int::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`, t.Namespace, t.Name)
		if err != nil {
			return err
		}
		if r.o.Create || may != "1" {
			left = append(left, t.String())
		}
	}
	if len(left) == 0 {
		return nil
	}
	r.chosen.leaveRows(left)
	r.limit("without superuser, rows of extensions' own tables stay as the extensions make them: " + strings.Join(left, ", "))
	return nil
}

// giveOwners gives everything to its owner, schemas last: until then all of it is the restoring role's. Owners
// need the right to make objects in the schema, if only for the moment.
func (r *run) giveOwners(ctx context.Context, conn *pgconn.PgConn) error {
	if r.server.superuser || r.o.NoOwner {
		return nil
	}
	items := r.itemsOf(func(it *basesnapshot.SchemaItem) bool {
		return it.OwnerSQL != "" && it.RestorePass() == basesnapshot.PassMain
	})
	revoke, err := r.letOwn(ctx, conn, items)
	if err != nil {
		return err
	}
	schemas := slices.DeleteFunc(slices.Clone(items), func(it *basesnapshot.SchemaItem) bool { return it.Kind != "SCHEMA" })
	items = slices.DeleteFunc(items, func(it *basesnapshot.SchemaItem) bool { return it.Kind == "SCHEMA" })
	if err := r.execOwners(ctx, conn, items); err != nil {
		return err
	}
	for _, sql := range revoke {
		if err := session.Exec(ctx, conn, sql); err != nil {
			return err
		}
	}
	return r.execOwners(ctx, conn, schemas)
}

// letOwn gives owners the right to make objects where they will have some, which PostgreSQL asks for, and returns
// the statements that take it back.
func (r *run) letOwn(ctx context.Context, conn *pgconn.PgConn, items []*basesnapshot.SchemaItem) (revoke []string, err error) {
	done := map[[2]string]bool{}
	for _, it := range items {
		place, has := "", ""
		switch {
		case it.Kind == "PUBLICATION":
			place = "DATABASE " + sqltext.QuoteIdent(r.place.name)
			has = "select pg_catalog.has_database_privilege($1, pg_catalog.current_database(), 'CREATE')::int::text"
		case it.Namespace != "":
			schema := r.names.table(it.Namespace, "")
			place = "SCHEMA " + sqltext.QuoteIdent(schema)
			has = "select pg_catalog.has_schema_privilege($1, " + sqltext.QuoteLiteral(sqltext.QuoteIdent(schema)) + "::regnamespace, 'CREATE')::int::text"
		}
		if place == "" || it.Owner == r.server.user || done[[2]string{place, it.Owner}] {
			continue
		}
		done[[2]string{place, it.Owner}] = true
		found, err := session.Value(ctx, conn, has, it.Owner)
		if err != nil {
			return nil, err
		}
		if found == "1" {
			continue
		}
		if err := session.Exec(ctx, conn, "GRANT CREATE ON "+place+" TO "+sqltext.QuoteIdent(it.Owner)); err != nil {
			return nil, fault.Wrap(err, fault.CodeOf(err), "", "let role %q have objects in %s", it.Owner, strings.ToLower(place))
		}
		revoke = append(revoke, "REVOKE CREATE ON "+place+" FROM "+sqltext.QuoteIdent(it.Owner))
	}
	return revoke, nil
}

func (r *run) execOwners(ctx context.Context, conn *pgconn.PgConn, items []*basesnapshot.SchemaItem) error {
	for _, it := range items {
		if err := session.Exec(ctx, conn, it.OwnerSQL); err != nil {
			return itemError(it, err)
		}
	}
	return nil
}

// asRole turns a statement that pg_dump runs as another user into one that a member of the role can run.
func asRole(sql string) string {
	return strings.NewReplacer("SET SESSION AUTHORIZATION ", "SET ROLE ", "RESET SESSION AUTHORIZATION", "RESET ROLE").Replace(sql)
}

// forcedSecurity reports whether an item switches row security on for a table whose owner is subject to it,
// too: that comes last of all, or the restore couldn't count the rows.
func (r *run) forcedSecurity(it *basesnapshot.SchemaItem) bool {
	if r.server.superuser || r.schemaFirst() || it.Kind != "ROW SECURITY" {
		return false
	}
	return slices.ContainsFunc(r.chosen.items, func(t basesnapshot.SchemaItem) bool {
		return t.Kind == "TABLE" && t.Namespace == it.Namespace && t.Name == it.Name && strings.Contains(t.SQL, " FORCE ROW LEVEL SECURITY")
	})
}

// lastSecurity is the SQL of what forcedSecurity held back.
func (r *run) lastSecurity() string {
	var sql strings.Builder
	for _, it := range r.itemsOf(r.forcedSecurity) {
		sql.WriteString(it.SQL)
	}
	return sql.String()
}

// preflightChanges refuses a range whose schema changes this restore can't replay, and shows what else it can't do
// with the plan.
func (r *run) preflightChanges(ctx context.Context) error {
	r.plan.Warnings = append(slices.Clone(r.plan.Warnings), r.limits...)
	if r.plan.SchemaChanges == 0 {
		return nil
	}
	if r.conn.Plain {
		return fault.New(fault.Usage, "restore as a superuser, or GRANT SET ON PARAMETER session_replication_role TO "+sqltext.QuoteIdent(r.server.user)+" (PostgreSQL 15 and later)",
			"the schema was changed between the base snapshot and the target: to replay that, triggers must be switched off, and role %q may not", r.server.user)
	}
	if !r.o.DataOnly && r.names == nil {
		return nil
	}
	for _, e := range r.plan.entries {
		changes, err := r.o.Archive.SchemaChanges(ctx, e)
		if err != nil {
			return err
		}
		changes = r.inRange(changes)
		for _, c := range changes {
			if c.Message == nil {
				continue
			}
			if _, err := r.choose(c.Message); err != nil {
				return err
			}
		}
	}
	return nil
}
