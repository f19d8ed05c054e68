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

// schemaPhase makes roles and everything that comes before the rows.
func (r *run) schemaPhase(ctx context.Context) error {
	if r.o.DataOnly {
		return nil
	}
	items := r.itemsOf(func(it *basesnapshot.SchemaItem) bool { return it.Section != "post-data" && !late(it) })
	return r.phase(ctx, PhaseSchema, "steps", int64(len(items)), func(ctx context.Context) error {
		notes, err := createRoles(ctx, r.place.admin, r.missing)
		if err != nil {
			return err
		}
		r.note(notes...)
		if err := r.joinRoles(ctx); err != nil {
			return err
		}
		conn, err := r.session(ctx)
		if err != nil {
			return err
		}
		defer session.Close(conn)
		for _, it := range items {
			if err := r.makeItem(ctx, conn, it); err != nil {
				return err
			}
			r.advance(1)
		}
		if r.o.SchemaOnly {
			return nil
		}
		return r.prepareNames(ctx)
	})
}

// late reports whether an item waits for the end: privileges, event triggers, publications.
func late(it *basesnapshot.SchemaItem) bool {
	return it.RestorePass() != basesnapshot.PassMain || ofPublication(it)
}

// ofPublication reports whether an item is a publication, part of one, or describes one.
func ofPublication(it *basesnapshot.SchemaItem) bool {
	return strings.HasPrefix(it.Kind, "PUBLICATION") || describes(it) && strings.HasPrefix(it.Name, "PUBLICATION ")
}

// describes reports whether an item is about another, which it depends on and whose kind its name begins with.
func describes(it *basesnapshot.SchemaItem) bool {
	return it.Kind == "COMMENT" || it.Kind == "SECURITY LABEL"
}

// itemsOf picks chosen items, in order.
func (r *run) itemsOf(want func(*basesnapshot.SchemaItem) bool) []*basesnapshot.SchemaItem {
	var out []*basesnapshot.SchemaItem
	for i := range r.chosen.items {
		if it := &r.chosen.items[i]; want(it) {
			out = append(out, it)
		}
	}
	return out
}

// makes reports whether a table is among the chosen items.
func (r *run) makes(table basesnapshot.Name) bool {
	return slices.ContainsFunc(r.chosen.items, func(it basesnapshot.SchemaItem) bool {
		return it.Kind == "TABLE" && it.Namespace == table.Namespace && it.Name == table.Name
	})
}

// makeItem runs an item's statements and gives the object to its owner.
func (r *run) makeItem(ctx context.Context, conn *pgconn.PgConn, it *basesnapshot.SchemaItem) error {
	am := it.TableAM
	if am == "" {
		am = "heap"
	}
	sql := it.SQL
	if it.RestorePass() == basesnapshot.PassACL && !r.server.superuser {
		sql = asRole(sql)
	}
	if it.Kind == "TABLE" || it.Kind == "MATERIALIZED VIEW" {
		sql = "SET default_table_access_method = " + sqltext.QuoteIdent(am) + ";\n" + sql
	}
	if it.InitialSQL != "" && r.server.superuser {
		sql = it.InitialSQL + sql
	}
	err := session.Exec(ctx, conn, sql)
	if it.RestorePass() == basesnapshot.PassACL {
		err = r.grantAsOwner(ctx, conn, it, err)
	}
	if notValid, ok := withoutValidation(it, err); ok && r.o.AcceptInexact {
		if err = session.Exec(ctx, conn, notValid); err == nil {
			r.mu.Lock()
			r.note(fmt.Sprintf("foreign key %s.%s is NOT VALID: rows break it, as PostgreSQL lets them where triggers don't fire", it.Namespace, it.Name))
			r.mu.Unlock()
		}
	}
	if madeByScript(it, err) {
		return nil
	}
	if err != nil {
		return itemError(it, err)
	}
	if err := r.joinExtension(ctx, conn, it); err != nil {
		return itemError(it, err)
	}
	if err := r.markInherited(ctx, conn, it); err != nil {
		return itemError(it, err)
	}
	if err := mendToast(ctx, conn, it, r.quoted(it.Namespace, it.Name)); err != nil {
		return itemError(it, err)
	}
	if r.o.NoOwner || it.OwnerSQL == "" || !r.server.superuser { // giveOwners
		return nil
	}
	if err := session.Exec(ctx, conn, it.OwnerSQL); err != nil {
		return itemError(it, err)
	}
	return nil
}

// grantedBy matches privileges that another role than the owner granted, as pg_dump prints them.
var grantedBy = regexp.MustCompile(`(?m)^SET SESSION AUTHORIZATION (.+);\n((?:GRANT|REVOKE) .+;\n)RESET SESSION AUTHORIZATION;\n`)

// grantAsOwner executes an item's privileges again, those as the owner's that a role granted which may not: it was the owner when it did, and
// got a successor whose transaction had begun before and didn't see them. No statement can make them its own.
func (r *run) grantAsOwner(ctx context.Context, conn *pgconn.PgConn, it *basesnapshot.SchemaItem, err error) error {
	passedOver := session.GrantPassedOver(conn)
	pgErr, refused := asPgError(err)
	refused = refused && pgErr.Code == "42501" || err == nil && passedOver
	if !refused || !r.server.superuser {
		return err
	}
	var roles [][]string // one alone where that does, so that the others' stay theirs
	var all []string
	for _, m := range grantedBy.FindAllStringSubmatch(it.SQL, -1) {
		if !slices.Contains(all, m[1]) {
			all, roles = append(all, m[1]), append(roles, []string{m[1]})
		}
	}
	for _, who := range append(roles, all) {
		sql := it.SQL
		for _, role := range who {
			sql = strings.ReplaceAll(sql, "SET SESSION AUTHORIZATION "+role+";\n", "SET SESSION AUTHORIZATION DEFAULT;\n")
		}
		err = session.Exec(ctx, conn, sql)
		if passedOver = session.GrantPassedOver(conn); err == nil && !passedOver {
			r.note(fmt.Sprintf("privileges on %s that %s granted are the owner's here: it may not grant them any more", it.Name, strings.Join(who, ", ")))
			return nil
		}
	}
	if err == nil {
		err = fault.New(fault.Failed, "", "a role that granted privileges may not do so any more")
	}
	return err
}

// markInherited says which columns a table only inherits, where its statement had to define them all.
func (r *run) markInherited(ctx context.Context, conn *pgconn.PgConn, it *basesnapshot.SchemaItem) error {
	here := *it
	here.Namespace = r.names.table(it.Namespace, it.Name) // not that of a live table
	sql := here.InheritedSQL()
	if sql == "" {
		return nil
	}
	if !r.server.superuser {
		r.note(fmt.Sprintf("columns that %s.%s inherits count as its own too: only a superuser can say otherwise", it.Namespace, it.Name))
		return nil
	}
	return session.Exec(ctx, conn, sql)
}

// madeByScript reports whether an item that the extension's script was not known to make is there all the same.
func madeByScript(it *basesnapshot.SchemaItem, err error) bool {
	pgErr, ok := asPgError(err)
	if !ok || it.Extension == "" {
		return false
	}
	switch pgErr.Code {
	case "42710", "42723", "42P06", "42P07", "42P16": // a duplicate object, function, schema, table; a second primary key
		return true
	case "23505": // a text search object: its command finds out by the catalog's index
		return pgErr.SchemaName == "pg_catalog"
	case "42809", "55000": // a partition that is attached, a column that is an identity
		return it.Kind == "TABLE ATTACH" || it.Kind == "SEQUENCE"
	}
	return false
}

// joinExtension makes what was added to an extension at the source its member again.
func (r *run) joinExtension(ctx context.Context, conn *pgconn.PgConn, it *basesnapshot.SchemaItem) error {
	if it.MemberSQL == "" {
		return nil
	}
	err := session.Exec(ctx, conn, it.MemberSQL)
	if pgErr, ok := asPgError(err); ok && pgErr.Code == "42501" && !r.server.superuser {
		r.mu.Lock()
		r.note(fmt.Sprintf("%s %s.%s is no member of extension %s: only the extension's owner can make it one", strings.ToLower(it.Kind), it.Namespace, it.Name, it.Extension))
		r.mu.Unlock()
		return nil
	}
	return err
}

func itemError(it *basesnapshot.SchemaItem, err error) error {
	name := it.Name
	if it.Namespace != "" {
		name = it.Namespace + "." + name
	}
	hint := ""
	pgErr, ok := asPgError(err)
	if _, breaks := withoutValidation(it, err); breaks {
		hint = "look whether the source has those rows too: they may have been written where triggers don't fire; --accept-inexact makes it NOT VALID"
	} else if ok && pgErr.Code == "42501" {
		hint = "restore as a superuser, or with --no-owner --no-privileges"
	}
	return fault.Wrap(err, fault.CodeOf(err), hint, "make %s %s", strings.ToLower(it.Kind), name)
}

// withoutValidation gives the statement that makes a foreign key for rows to come only, if err says that there are rows
// that break it.
func withoutValidation(it *basesnapshot.SchemaItem, err error) (sql string, ok bool) {
	pgErr, isPg := asPgError(err)
	if !isPg || pgErr.Code != "23503" || it.Kind != "FK CONSTRAINT" {
		return "", false
	}
	return strings.TrimSuffix(strings.TrimSpace(it.SQL), ";") + " NOT VALID;", true
}
