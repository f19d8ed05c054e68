package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/sqltext"
)

// statementText is a statement in pieces.
type statementText struct {
	all   []sqltext.Token
	real  []int           // indexes of the pieces that are more than space
	words []sqltext.Token // those pieces, without a semicolon at the end
}

// cutStatement cuts the statement of a change as its server read it. Nil: it can't be.
func cutStatement(m *ddl.Message, sql string) *statementText {
	all, err := sqltext.Tokens(sql, m.Settings["standard_conforming_strings"] != "off")
	if err != nil {
		return nil
	}
	s := &statementText{all: all}
	for i, t := range all {
		if t.Kind != sqltext.Space {
			s.real, s.words = append(s.real, i), append(s.words, t)
		}
	}
	for len(s.words) > 0 && s.at(len(s.words)-1, ";") {
		s.words = s.words[:len(s.words)-1]
	}
	if slices.ContainsFunc(s.words, func(t sqltext.Token) bool { return t.Is(";") }) {
		return nil
	}
	return s
}

// at reports whether these words or signs come one after the other from the i-th piece on.
func (s *statementText) at(i int, words ...string) bool {
	for k, w := range words {
		if i+k >= len(s.words) || !s.words[i+k].Is(w) {
			return false
		}
	}
	return true
}

// text is what stands from one piece up to another, with what lies between them.
func (s *statementText) text(from, to int) string {
	if from >= to {
		return ""
	}
	return sqltext.Join(s.all[s.real[from] : s.real[to-1]+1])
}

// name passes over a name, with those it is qualified by; -1: there is none. An operator is one too.
func (s *statementText) name(i int) int {
	for ; i < len(s.words); i += 2 {
		t := s.words[i]
		if _, ok := t.Identifier(); !ok && (t.Kind != sqltext.Other || strings.Contains("()[],;.", t.Text)) {
			return -1
		}
		if isEscaped(t) && s.at(i+1, "uescape") {
			i += 2
		}
		if !s.at(i+1, ".") {
			return i + 1
		}
	}
	return -1
}

func isEscaped(t sqltext.Token) bool {
	return t.Kind == sqltext.Other && strings.HasPrefix(sqltext.Lower(t.Text), `u&"`)
}

// group passes over what stands in parentheses or brackets; -1: it doesn't end.
func (s *statementText) group(i int) int {
	for depth := 0; i < len(s.words); i++ {
		switch {
		case s.at(i, "(") || s.at(i, "["):
			depth++
		case s.at(i, ")") || s.at(i, "]"):
			depth--
		}
		if depth == 0 {
			return i + 1
		}
	}
	return -1
}

// Kinds of objects in ALTER … OWNER TO. For a relation it may be one of several actions.
var (
	relationKinds = [][]string{{"table"}, {"foreign", "table"}, {"view"}, {"materialized", "view"}, {"sequence"}, {"index"}}
	otherKinds    = [][]string{{"aggregate"}, {"collation"}, {"conversion"}, {"domain"}, {"event", "trigger"}, {"foreign", "data", "wrapper"}, {"function"}, {"language"},
		{"procedural", "language"}, {"operator", "class"}, {"operator", "family"}, {"operator"}, {"procedure"}, {"publication"}, {"routine"}, {"schema"}, {"server"},
		{"statistics"}, {"text", "search", "configuration"}, {"text", "search", "dictionary"}, {"type"}}
)

// actions finds the actions of an ALTER, of which several are parted by commas: where each begins, and behind the last
// one where one more would. ok is false for anything else.
func (s *statementText) actions() (begins []int, ok bool) {
	if !s.at(0, "alter") {
		return nil, false
	}
	of := func(kinds [][]string) int {
		i := slices.IndexFunc(kinds, func(words []string) bool { return s.at(1, words...) })
		if i < 0 {
			return -1
		}
		return 1 + len(kinds[i])
	}
	if i := of(relationKinds); i > 0 {
		i = s.relation(i)
		return s.commas(i), i > 0
	}
	i := of(otherKinds)
	if i > 0 {
		i = s.name(i)
	}
	if i > 0 && s.at(i, "(") {
		i = s.group(i) // a routine's arguments
	}
	if i > 0 && s.at(i, "using") {
		i = s.name(i + 1) // an operator class's access method
	}
	return []int{i, len(s.words) + 1}, i > 0
}

// relation passes over what says which relation an ALTER is about; -1: it isn't understood.
func (s *statementText) relation(i int) int {
	if s.at(i, "if", "exists") {
		i += 2
	}
	if s.at(i, "only") {
		i++
	}
	if s.at(i, "(") {
		i = s.group(i)
	} else {
		i = s.name(i)
	}
	if i > 0 && s.at(i, "*") {
		i++
	}
	return i
}

// commas finds what is parted by commas from a piece on.
func (s *statementText) commas(from int) (begins []int) {
	if from < 0 {
		return nil
	}
	begins = []int{from}
	for i := from; i >= 0 && i < len(s.words); {
		switch {
		case s.at(i, ","):
			i++
			begins = append(begins, i)
		default:
			i = s.group(i)
		}
	}
	return append(begins, len(s.words)+1)
}

// owner reports whether an action gives an owner and nothing else.
func (s *statementText) owner(from, to int) bool {
	return s.at(from, "owner", "to") && s.name(from+2) == to
}

// withoutOwner takes out of an ALTER whom something is to belong to; "": it is about nothing else.
func withoutOwner(m *ddl.Message, sql string) string {
	s := cutStatement(m, sql)
	if s == nil {
		return sql
	}
	begins, ok := s.actions()
	if !ok {
		return sql
	}
	var kept []string
	for n, from := range begins[:len(begins)-1] {
		if to := begins[n+1] - 1; !s.owner(from, to) {
			kept = append(kept, s.text(from, to))
		}
	}
	switch len(kept) {
	case len(begins) - 1:
		return sql
	case 0:
		return ""
	}
	return s.text(0, begins[0]) + " " + strings.Join(kept, ", ")
}

// isOwnership reports whether a change only says whom something belongs to.
func isOwnership(m *ddl.Message) bool {
	return m.Tag == "REASSIGN OWNED" || strings.HasPrefix(m.Tag, "ALTER ") && m.SQL != "" && withoutOwner(m, m.SQL) == ""
}

// dropFirst are what others are a part of, and can't be dropped before.
var dropFirst = []string{"extension", "schema", "table", "foreign table"}

// dropOwned drops what a DROP OWNED dropped at the source. Here it would drop something else, the connecting role's: all
// that was restored, or nothing. What it takes of privileges, it takes where the role is another.
func (e *execution) dropOwned() string {
	m := e.message
	rank := func(o ddl.Object) int {
		if i := slices.Index(dropFirst, o.Type); i >= 0 {
			return i
		}
		return len(dropFirst)
	}
	var out []string
	for _, o := range slices.SortedStableFunc(slices.Values(m.Dropped), func(a, b ddl.Object) int { return rank(a) - rank(b) }) {
		kind := ownable[o.Type]
		if o.Type == "extension" || o.Type == "event trigger" {
			kind = strings.ToUpper(o.Type)
		}
		if kind != "" {
			out = append(out, "DROP "+kind+" IF EXISTS "+o.Identity+" CASCADE")
		}
	}
	if !e.schema.NoPrivileges && !ownedBy(m, e.session.user) {
		out = append(out, m.SQL)
	}
	return strings.Join(out, "; ")
}

// droppingNoMore executes a statement and, if that is a DROP OWNED, fails where it drops relations that it did not drop at the source: ones that
// the role got from another transaction while this one was open, and that committed before.
func (e *execution) droppingNoMore(ctx context.Context, conn *pgconn.PgConn, run func() error) error {
	if e.message.Tag != "DROP OWNED" {
		return run()
	}
	const relations = `select i.identity from pg_catalog.pg_class c, pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) i
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't' and c.oid >= 16384`
	before, err := queryOn(ctx, conn, relations)
	if err != nil {
		return err
	}
	if err := run(); err != nil {
		return err
	}
	after, err := queryOn(ctx, conn, relations)
	if err != nil {
		return err
	}
	left := map[string]bool{}
	for _, row := range after {
		left[string(row[0])] = true
	}
	for _, o := range e.message.Dropped {
		left[o.Identity] = true
	}
	for _, row := range before {
		if !left[string(row[0])] {
			return fmt.Errorf("here it would also drop %s, which was made while its transaction was open", row[0])
		}
	}
	return nil
}

// ownedBy reports whether a DROP OWNED is, or may be, about a role.
func ownedBy(m *ddl.Message, role string) bool {
	s := cutStatement(m, m.SQL)
	return s == nil || slices.ContainsFunc(s.words, func(t sqltext.Token) bool {
		name, ok := t.Identifier()
		return ok && name == role || t.Is("current_user") || t.Is("current_role") || t.Is("session_user") || isEscaped(t)
	})
}

// bareSchema takes out of a CREATE SCHEMA whom the schema is to belong to, and what it grants.
func bareSchema(m *ddl.Message, sql string, noOwner, noPrivileges bool) string {
	s := cutStatement(m, sql)
	if s == nil || !s.at(0, "create", "schema") {
		return sql
	}
	from := 2
	if s.at(from, "if", "not", "exists") {
		from += 3
	}
	to := from
	if !s.at(from, "authorization") {
		to = s.name(from)
	}
	name, rest := s.text(from, to), to
	if to > 0 && s.at(to, "authorization") {
		rest = s.name(to + 1)
	}
	if to < 0 || rest < 0 {
		return sql
	}
	head := s.text(0, rest)
	if i := slices.IndexFunc(m.Objects, func(o ddl.Object) bool { return o.Type == "schema" }); noOwner && rest > to && (name != "" || i >= 0) {
		if name == "" {
			name = sqltext.QuoteIdent(m.Objects[i].Name) // that of its owner
		}
		head = s.text(0, from) + " " + name
	}
	elements := s.elements(rest, noPrivileges)
	return strings.Join(append([]string{head}, elements...), "\n")
}

// elements are what a CREATE SCHEMA makes in it. The words that they begin with are reserved: elsewhere one is a name
// behind AS or a period, a privilege, or WITH GRANT OPTION.
func (s *statementText) elements(from int, noGrants bool) (out []string) {
	begin, on := from, true // on: of a GRANT the privileges are over
	end := func(to int) {
		if !noGrants || !s.at(begin, "grant") {
			out = append(out, s.text(begin, to))
		}
	}
	for i := from; i >= 0 && i < len(s.words); i = s.group(i) {
		begins := s.at(i, "create") && on || s.at(i, "grant")
		if i > from && begins && !s.at(i-1, "as") && !s.at(i-1, ".") && !s.at(i-1, "with") {
			end(i)
			begin = i
		}
		if i == begin {
			on = !s.at(i, "grant")
		}
		on = on || s.at(i, "on")
	}
	if from < len(s.words) {
		end(len(s.words))
	}
	return out
}
