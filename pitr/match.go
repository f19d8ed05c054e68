package pitr

import (
	"path"
	"strings"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// tableFilter chooses tables by patterns; without patterns it takes all.
type tableFilter []string

// newTableFilter checks patterns: namespace.name or name alone (in any namespace), with * ? and [a-z]
// as in a shell. Errors are usage faults.
func newTableFilter(patterns []string) (tableFilter, error) {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" || strings.Contains(p, "/") {
			return nil, fault.New(fault.Usage, `write it as public.orders, orders, public.* or "*.events_*"`, "--table: %q is not a pattern", p)
		}
	}
	return tableFilter(patterns), nil
}

// match reports whether a table is chosen. A pattern with a dot is held against namespace.name, one
// without against the name.
func (f tableFilter) match(namespace, name string) bool {
	if len(f) == 0 {
		return true
	}
	for _, p := range f {
		subject := name
		if strings.Contains(p, ".") {
			subject = namespace + "." + name
		}
		if ok, _ := path.Match(p, subject); ok {
			return true
		}
	}
	return false
}

// matchQualified is match for "namespace.name", unquoted, as catalog entries have it. A namespace with
// a dot in it is taken to end at the first.
func (f tableFilter) matchQualified(table string) bool {
	namespace, name := segment.SplitName(table)
	return f.match(namespace, name)
}
