package walstream

import (
	"regexp"
	"strings"

	"tidemark/internal/fault"
)

// tablePattern is one --table pattern: schema.table or table (in any schema), with * for any run of
// characters and ? for one.
type tablePattern struct {
	text          string
	schema, table *regexp.Regexp
}

// patterns is a list of them. None means every table.
type patterns []tablePattern

func parsePatterns(texts []string) (patterns, error) {
	var list patterns
	for _, text := range texts {
		schema, table, dotted := strings.Cut(text, ".")
		if !dotted {
			schema, table = "*", text
		}
		if schema == "" || table == "" {
			return nil, fault.New(fault.Usage, "a pattern looks like public.orders, public.* or order_*", "%q is no table pattern", text)
		}
		list = append(list, tablePattern{text: text, schema: glob(schema), table: glob(table)})
	}
	return list, nil
}

func glob(s string) *regexp.Regexp {
	s = regexp.QuoteMeta(s)
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\*`, `.*`), `\?`, `.`)
	return regexp.MustCompile(`(?s)\A` + s + `\z`) // what QuoteMeta and the two replacements leave always compiles
}

// match reports whether a table is wanted.
func (p patterns) match(namespace, name string) bool {
	if len(p) == 0 {
		return true
	}
	for _, t := range p {
		if t.match(namespace, name) {
			return true
		}
	}
	return false
}

func (t tablePattern) match(namespace, name string) bool {
	return t.schema.MatchString(namespace) && t.table.MatchString(name)
}
