package apply

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// rename is a schema or type that got another name, or a type that got another schema. Neither locks a table: a transaction that has
// written to one before, and commits after, comes with the old name, since the server decodes it with the
// catalog that it saw itself.
type rename struct {
	namespace, name     string // a type's; of a schema only the namespace
	toNamespace, toName string
}

// What finds the types that another thing takes along: a table its row type, where columns are of it; an extension its own.
const (
	rowType = `select c.relname from pg_catalog.pg_class c join pg_catalog.pg_type t on t.oid = c.reltype
where c.oid = $1::oid and exists (select from pg_catalog.pg_attribute a where a.atttypid in (t.oid, t.typarray) and a.attrelid <> c.oid)`
	extensionTypes = `select t.typname from pg_catalog.pg_type t join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_type'::regclass and d.objid = t.oid
where d.refclassid = 'pg_catalog.pg_extension'::regclass and d.refobjid = $1::oid and d.deptype = 'e'`
)

// renamesOf says what new names of schemas and types a naming has brought.
func renamesOf(ctx context.Context, conn *pgconn.PgConn, s naming) (out []rename, err error) {
	if s.class == "pg_namespace" {
		return []rename{{namespace: s.from.name, toNamespace: s.to.name}}, nil
	}
	takes := map[string]string{"pg_class": rowType, "pg_extension": extensionTypes}[s.class]
	if s.class != "pg_type" && takes == "" || s.from.space == "0" {
		return nil, nil
	}
	var spaces [2]string
	for i, oid := range []string{s.from.space, s.to.space} {
		rows, err := queryOn(ctx, conn, "select nspname from pg_catalog.pg_namespace where oid = $1::oid", oid)
		if err != nil || len(rows) == 0 {
			return nil, err
		}
		spaces[i] = string(rows[0][0])
	}
	if s.class == "pg_type" {
		return []rename{{spaces[0], s.from.name, spaces[1], s.to.name}}, nil
	}
	rows, err := queryOn(ctx, conn, takes, s.oid)
	for _, r := range rows {
		from := string(r[0])
		if s.class == "pg_class" {
			from = s.from.name
		}
		out = append(out, rename{spaces[0], from, spaces[1], string(r[0])})
	}
	return out, err
}

// schemaNow is the name that a schema has by now, of which the stream gave an earlier one.
func (h *holds) schemaNow(namespace string) string {
	for _, r := range h.renamed {
		if r.name == "" && r.namespace == namespace {
			namespace = r.toNamespace
		}
	}
	return namespace
}

// typeNow is the same for a type. That of its arrays is renamed with it.
func (h *holds) typeNow(namespace, name string) (string, string) {
	for _, r := range h.renamed {
		switch {
		case r.namespace != namespace:
		case r.name == "":
			namespace = r.toNamespace
		case r.name == name:
			namespace, name = r.toNamespace, r.toName
		case isArrayName(name, r.name):
			namespace, name = r.toNamespace, "_"+r.toName
		}
	}
	return namespace, name
}

// remember notes new names on the target, for as long as replay goes on.
func (h *holds) remember(ctx context.Context, conn *pgconn.PgConn, steps []naming) error {
	for _, s := range steps {
		renames, err := renamesOf(ctx, conn, s)
		if err != nil {
			return err
		}
		for _, r := range renames {
			if err := h.prepare(ctx, conn); err != nil {
				return err
			}
			h.renamed = append(h.renamed, r)
			if _, err := queryOn(ctx, conn, "insert into "+h.table("renamed")+" (namespace, name, to_namespace, to_name) values ($1, $2, $3, $4)", r.namespace, r.name, r.toNamespace, r.toName); err != nil {
				return fault.Wrap(err, codeOf(err), "", "remember a new name")
			}
		}
	}
	return nil
}

func (h *holds) readRenamed(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := queryOn(ctx, conn, "select namespace, name, to_namespace, to_name from "+h.table("renamed")+" order by n")
	h.renamed = nil
	for _, r := range rows {
		h.renamed = append(h.renamed, rename{string(r[0]), string(r[1]), string(r[2]), string(r[3])})
	}
	return fault.Wrap(err, codeOf(err), "", "read names that were changed")
}
