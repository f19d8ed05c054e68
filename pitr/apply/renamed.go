package apply

import (
	"context"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
)

// rename is a schema or type that got another name. Renaming one locks no table: a transaction that has
// written to one before, and commits after, comes with the old name, since the server decodes it with the
// catalog that it saw itself.
type rename struct {
	namespace, name     string // a type's; of a schema only the namespace
	toNamespace, toName string
}

const identifier = `(?-i:("(?:[^"]|"")+"|[^\s".;]+))`

var renaming = regexp.MustCompile(`(?is)^(?-i:\s|/\*.*?\*/|--[^\n]*\n)*ALTER\s+(SCHEMA|TYPE|DOMAIN)\s+(?:` + identifier + `\s*\.\s*)?` + identifier + `\s+RENAME\s+TO\s+` + identifier + `\s*;?\s*(?-i:--[^\n]*\s*)?$`)

// renameOf reads the new name of a schema or type out of a change; nil if it is about something else.
func renameOf(m *ddl.Message) *rename {
	if m.Tag != "ALTER SCHEMA" && m.Tag != "ALTER TYPE" && m.Tag != "ALTER DOMAIN" {
		return nil
	}
	found := renaming.FindStringSubmatch(m.SQL)
	if found == nil {
		return nil
	}
	from, to := unquoted(found[3]), unquoted(found[4])
	if strings.EqualFold(found[1], "SCHEMA") {
		return &rename{namespace: from, toNamespace: to}
	}
	namespace := unquoted(found[2])
	if len(m.Objects) > 0 && m.Objects[0].Schema != "" {
		namespace = m.Objects[0].Schema
	}
	return &rename{namespace: namespace, name: from, toNamespace: namespace, toName: to}
}

// unquoted is the name that an identifier in a statement stands for.
func unquoted(s string) string {
	if inner, ok := strings.CutPrefix(s, `"`); ok {
		return strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
	}
	return strings.ToLower(s)
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

// remember notes a new name on the target, for as long as replay goes on.
func (h *holds) remember(ctx context.Context, conn *pgconn.PgConn, m *ddl.Message) error {
	r := renameOf(m)
	if r == nil {
		return nil
	}
	if err := h.prepare(ctx, conn); err != nil {
		return err
	}
	h.renamed = append(h.renamed, *r)
	_, err := queryOn(ctx, conn, "insert into "+h.table("renamed")+" (namespace, name, to_namespace, to_name) values ($1, $2, $3, $4)", r.namespace, r.name, r.toNamespace, r.toName)
	return fault.Wrap(err, codeOf(err), "", "remember a new name")
}

func (h *holds) readRenamed(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := queryOn(ctx, conn, "select namespace, name, to_namespace, to_name from "+h.table("renamed")+" order by n")
	h.renamed = nil
	for _, r := range rows {
		h.renamed = append(h.renamed, rename{string(r[0]), string(r[1]), string(r[2]), string(r[3])})
	}
	return fault.Wrap(err, codeOf(err), "", "read names that were changed")
}
