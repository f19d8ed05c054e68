package evolve

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// errNothing says that a template asks for an object of which there is none.
var errNothing = errors.New("nothing to change")

// filling is the work of filling one template.
type filling struct {
	s        *session
	filled   map[string]picked // by placeholder
	relation uint32            // picked last
	kind     int               // of the column type that was drawn last
}

// fill makes statements of a template. Placeholders stand in braces and mean the same each time, {text} and {type} apart:
//
//	{table}       an object, by its name as it must be written (see pickers); {table#2} is another draw
//	{table.on}    the name that goes with it; {table.bare} its name without the schema; {table.schema} that schema; {table.silent} draws only
//	{at}{new}     a new object, with its schema; {new} alone is a fresh name
//	{type}        a column type, {const} a constant of the type drawn last, {volatile} an expression of it
//	{n} {text} {role} {bound}
//
// and [[a|b|c]] is one of a, b and c. Statements are parted by ";;".
func (s *session) fill(ctx context.Context, template string) ([]string, error) {
	f := &filling{s: s, filled: map[string]picked{}}
	template = f.choose(template)
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{")
		out.WriteString(before)
		if !found {
			break
		}
		token, after, found := strings.Cut(rest, "}")
		if !found {
			return nil, fmt.Errorf("a brace is open: %s", template)
		}
		text, err := f.token(ctx, token)
		if err != nil {
			return nil, err
		}
		out.WriteString(text)
		template = after
	}
	var statements []string
	for _, statement := range strings.Split(out.String(), ";;") {
		statements = append(statements, strings.TrimSpace(statement))
	}
	return statements, nil
}

// choose settles the alternatives, innermost last.
func (f *filling) choose(template string) string {
	for {
		end := strings.Index(template, "]]")
		if end < 0 {
			return template
		}
		begin := strings.LastIndex(template[:end], "[[")
		options := strings.Split(template[begin+2:end], "|")
		template = template[:begin] + options[f.s.rng.IntN(len(options))] + template[end+2:]
	}
}

func (f *filling) token(ctx context.Context, token string) (string, error) {
	s := f.s
	name, part, _ := strings.Cut(token, ".")
	base, _, _ := strings.Cut(name, "#")
	switch base {
	case "text":
		return s.text(), nil
	case "type":
		f.kind = s.rng.IntN(len(columnTypes))
		return columnTypes[f.kind].name, nil
	case "const":
		return columnTypes[f.kind].constant, nil
	case "volatile":
		return columnTypes[f.kind].random, nil
	}
	p, ok := f.filled[name]
	if !ok {
		var err error
		if p, err = f.draw(ctx, base); err != nil {
			return "", err
		}
		f.filled[name] = p
	}
	if p.relation != 0 {
		f.relation = p.relation
	}
	switch {
	case part == "silent":
		return "", nil
	case part == "schema":
		return p.schema, nil
	case part == "on":
		return s.shorten(p.on), nil
	case part == "bare" || p.schema == "":
		return p.name, nil
	default:
		return s.shorten(p.schema + "." + p.name), nil
	}
}

func (f *filling) draw(ctx context.Context, placeholder string) (picked, error) {
	s := f.s
	switch placeholder {
	case "n":
		return picked{name: fmt.Sprint(1 + s.rng.IntN(1000))}, nil
	case "new":
		return picked{name: s.newName()}, nil
	case "at":
		schema, ok, err := s.pick(ctx, "schema", 0)
		if err == nil && !ok {
			err = errNothing
		}
		if s.path != "" && s.rng.IntN(2) == 0 {
			return picked{}, err
		}
		return picked{name: schema.name + "."}, err
	case "role":
		return picked{name: roles[s.rng.IntN(len(roles))]}, nil
	case "bound":
		s.bounds++
		from := 1000 * (1 + s.bounds*10 + s.number)
		return picked{name: fmt.Sprintf("FROM (%d) TO (%d)", from, from+1000)}, nil
	case "contrib":
		return picked{name: extensions[s.rng.IntN(len(extensions))]}, nil
	}
	if _, known := pickers[placeholder]; !known {
		return picked{}, fmt.Errorf("no placeholder is called %s", placeholder)
	}
	p, ok, err := s.pick(ctx, placeholder, f.relation)
	if err == nil && !ok {
		err = errNothing
	}
	return p, err
}

// shorten leaves a schema out that the search path begins with.
func (s *session) shorten(name string) string {
	if s.path != "" {
		return strings.TrimPrefix(name, s.path+".")
	}
	return name
}

// newName returns a name that nothing has, quoted where it must be. One in ten needs every care.
func (s *session) newName() string {
	s.names++
	name := fmt.Sprintf("n%d_%d", s.number, s.names)
	if s.rng.IntN(10) == 0 {
		return `"` + odd[s.rng.IntN(len(odd))] + name + `"`
	}
	return name
}

var odd = []string{`Up Per`, `semi;colon `, `quo""te`, `it's `, `$$`, `-- `, `/* `, `üñï 列`, `select `, `back\slash`, `%s`, `dot.`}

// text returns a literal, one in three written in a way that is easily split at the wrong place.
func (s *session) text() string {
	hard := []string{`'a; b'`, `'it''s; -- no comment'`, `E'back\'slash; \\'`, `$$dollar; '$$`, `$x$ $$ ; $x$`, `U&'d\0061ta;'`, `'/* ; '`, `'列 ü'`}
	if s.rng.IntN(3) == 0 {
		return hard[s.rng.IntN(len(hard))]
	}
	return fmt.Sprintf("'text %d'", s.rng.IntN(1000))
}

var roles = []string{"evolve_alice", "evolve_bob", `"evolve Çarol"`}

// extensions are trusted ones of the server package, in scripts of very different sizes.
var extensions = []string{"hstore", "citext", "ltree", "pg_trgm", "cube", "intarray", "btree_gist", "unaccent", "tablefunc", "isn"}

// columnType is a type, a constant of it, and an expression that gives another value for each row.
type columnType struct{ name, constant, random string }

var columnTypes = []columnType{
	{"int", "42", "(random() * 1000)::int"},
	{"smallint", "-3", "(random() * 1000)::smallint"},
	{"bigint", "9223372036854775807", "(random() * 1e12)::bigint"},
	{"text", "'a; ''b'''", "md5(random()::text)"},
	{"varchar(40)", "'forty'", "md5(random()::text)"},
	{"char(6)", "'six'", "left(md5(random()::text), 6)"},
	{"numeric(12,3)", "3.141", "round((random() * 1000)::numeric, 3)"},
	{"double precision", "1.5e-7", "random()"},
	{"boolean", "true", "random() < 0.5"},
	{"date", "'2024-02-29'", "date '2020-01-01' + (random() * 1000)::int"},
	{"timestamptz", "'2024-02-29 12:00:00+05'", "clock_timestamp()"},
	{"timestamp", "'epoch'", "timestamp '2020-01-01' + random() * interval '1 year'"},
	{"interval", "'1 day 02:03:04'", "random() * interval '1 day'"},
	{"uuid", "'00000000-0000-0000-0000-000000000001'", "gen_random_uuid()"},
	{"jsonb", `'{"a": [1, null]}'`, "jsonb_build_object('r', random())"},
	{"bytea", `'\x00ff'`, "decode(md5(random()::text), 'hex')"},
	{"int[]", "'{1,NULL,3}'", "ARRAY[(random() * 10)::int, NULL]"},
	{"text[]", `'{"a,b",NULL}'`, "ARRAY[md5(random()::text)]"},
	{"int4range", "'[1,5)'", "int4range(0, 1 + (random() * 100)::int)"},
	{"inet", "'192.0.2.1/24'", "inet '192.0.2.0' + (random() * 200)::int"},
	{"play.mood", "'ok'", "'ok'::play.mood"},
	{"play.pair", "ROW(1, 'y')", "ROW(random() * 100, 'r')::play.pair"},
	{"play.mood[]", "'{ok,sad}'", "ARRAY['sad'::play.mood]"},
	{"money", "12", "(random() * 100)::numeric::money"},
}
