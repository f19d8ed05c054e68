package pitr

import (
	"slices"
	"strings"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/sqltext"
)

// schemaMap says which objects of the archive go into another schema than their own. A nil map leaves all
// where they are.
type schemaMap struct {
	to    string // unquoted
	names map[qualifiedName]bool
}

// qualifiedName is an object of the source; functions and operators go without their arguments.
type qualifiedName struct{ namespace, name string }

// has reports whether the object goes into the other schema.
func (m *schemaMap) has(namespace, name string) bool {
	return m != nil && m.names[qualifiedName{namespace, name}]
}

// table gives the schema on the target of a table that is restored or replayed. With another schema that is
// it, whatever the table: what isn't there must fail and not touch a live one.
func (m *schemaMap) table(namespace, _ string) string {
	if m == nil {
		return namespace
	}
	return m.to
}

// object gives the schema on the target of a type: those of extensions stay where they are.
func (m *schemaMap) object(namespace, name string) string {
	if m.has(namespace, name) {
		return m.to
	}
	return namespace
}

// schema is the other schema; "" without one.
func (m *schemaMap) schema() string {
	if m == nil {
		return ""
	}
	return m.to
}

// quoted quotes the name on the target of a relation that is restored.
func (r *run) quoted(namespace, name string) string {
	return sqltext.QuoteName(r.names.table(namespace, name), name)
}

// add notes the names that an item brings: that of what it makes, and those that PostgreSQL makes with it.
func (m *schemaMap) add(it *basesnapshot.SchemaItem) {
	note := func(name string) { m.names[qualifiedName{it.Namespace, name}] = true }
	switch it.Kind {
	case "TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX", "STATISTICS", "TYPE", "SHELL TYPE", "DOMAIN", "COLLATION", "CONVERSION",
		"TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE":
		note(it.Name)
		note(arrayTypeName(it.Name))
	case "CONSTRAINT":
		if name := constraintName(it.SQL); name != "" {
			note(name)
		}
		return
	case "FUNCTION", "PROCEDURE", "AGGREGATE", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY":
		if name := firstQualified(it.SQL, it.Namespace); name != "" {
			note(name)
		}
		return
	}
	if it.Kind == "TYPE" {
		if name := multirangeName(it.SQL, it.Namespace); name != "" {
			note(name)
			note(arrayTypeName(name))
		}
	}
}

// arrayTypeName is what PostgreSQL calls the array of a type, unless that name is taken (makeArrayTypeName in
// src/backend/catalog/pg_type.c).
func arrayTypeName(name string) string {
	if len(name)+1 > maxName {
		name = strings.ToValidUTF8(name[:maxName-1], "")
	}
	return "_" + name
}

// words are the pieces of a text that mean something; nil if it can't be cut.
func words(sql string) []sqltext.Token {
	all, err := sqltext.Tokens(sql, true)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(t sqltext.Token) bool { return t.Kind == sqltext.Space })
}

// constraintName is the name in ADD CONSTRAINT name.
func constraintName(sql string) string {
	all := words(sql)
	for i := range all {
		if all[i].Is("constraint") && i+1 < len(all) {
			name, _ := all[i+1].Identifier()
			return name
		}
	}
	return ""
}

// firstQualified is the first name or operator in a text that stands in the schema.
func firstQualified(sql, namespace string) string {
	all := words(sql)
	for i := range all {
		if x, name := qualifiedAt(all, i); name != "" && x == namespace {
			return name
		}
	}
	return ""
}

// multirangeName is the name in multirange_type_name = schema.name.
func multirangeName(sql, namespace string) string {
	all := words(sql)
	for i := range all {
		if all[i].Is("multirange_type_name") && i+2 < len(all) {
			if x, name := qualifiedAt(all, i+2); x == namespace {
				return name
			}
		}
	}
	return ""
}

// qualifiedAt reads schema.name or schema.operator at a piece that begins one; "" if none does.
func qualifiedAt(all []sqltext.Token, i int) (namespace, name string) {
	if i+2 >= len(all) || !all[i+1].Is(".") || i > 0 && all[i-1].Is(".") {
		return "", ""
	}
	namespace, ok := all[i].Identifier()
	if !ok {
		return "", ""
	}
	if name, ok = all[i+2].Identifier(); !ok && all[i+2].Kind == sqltext.Other && strings.Contains(sqltext.OperatorChars, all[i+2].Text[:1]) {
		name = all[i+2].Text
	}
	return namespace, name
}

// rewrite puts the other schema in front of each name that goes there, wherever a statement has it: as a
// qualified name, and in constants that stand for one ('shop.orders_id_seq'::regclass). Text within
// function bodies stays what it is. Statements of pg_dump qualify every name.
func (m *schemaMap) rewrite(sql string) (string, error) {
	all, err := sqltext.Tokens(sql, true)
	if err != nil {
		return "", err
	}
	var real []int // indexes of the pieces that mean something
	for i, t := range all {
		if t.Kind != sqltext.Space {
			real = append(real, i)
		}
	}
	view := make([]sqltext.Token, len(real))
	for n, i := range real {
		view[n] = all[i]
	}
	for n, i := range real {
		if x, name := qualifiedAt(view, n); name != "" && m.has(x, name) {
			all[i].Text = sqltext.QuoteIdent(m.to)
		}
		if view[n].Kind == sqltext.String {
			if err := m.rewriteConstant(all, real, view, n); err != nil {
				return "", err
			}
		}
	}
	return sqltext.Join(all), nil
}

// rewriteConstant rewrites a constant that is cast to a name's OID. One that goes by way of text, and so would be
// looked up anew with each use, becomes a plain one: the schema is renamed in the end.
func (m *schemaMap) rewriteConstant(all []sqltext.Token, real []int, view []sqltext.Token, n int) error {
	cast := func(k int, to string) bool {
		return k+1 < len(view) && view[k].Is(":") && view[k+1].Is(":") && k+2 < len(view) && isCast(view[k+2], to)
	}
	late := false
	switch {
	case cast(n+1, "reg"):
	case n > 0 && view[n-1].Is("(") && cast(n+1, "text") && n+4 < len(view) && view[n+4].Is(")") && cast(n+5, "reg"):
		late = true
	default:
		return nil
	}
	content, ok := constantText(view[n].Text)
	if !ok {
		return nil
	}
	moved, err := m.rewrite(content)
	if err != nil || moved == content {
		return err
	}
	all[real[n]].Text = sqltext.QuoteLiteral(moved)
	if late {
		for k := n + 1; k <= n+3; k++ {
			all[real[k]].Text = ""
		}
	}
	return nil
}

// isCast reports whether a piece is text, or one of the types that stand for an object's OID.
func isCast(t sqltext.Token, to string) bool {
	if t.Kind != sqltext.Word {
		return false
	}
	if to == "text" {
		return t.Is("text")
	}
	return strings.HasPrefix(sqltext.Lower(t.Text), to)
}

// constantText is the value of a plain constant.
func constantText(s string) (string, bool) {
	if len(s) < 2 || s[0] != '\'' {
		return "", false
	}
	return strings.ReplaceAll(s[1:len(s)-1], "''", "'"), true
}
