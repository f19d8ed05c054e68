package pitr

import (
	"slices"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// tableFilter chooses tables by patterns; without patterns it takes all.
type tableFilter []segment.Pattern

// newTableFilter reads patterns (see segment.Pattern). Errors are usage faults.
func newTableFilter(patterns []string) (tableFilter, error) {
	var f tableFilter
	for _, text := range patterns {
		p, err := segment.ParsePattern(text)
		if err != nil {
			return nil, fault.New(fault.Usage, `write it as public.orders, orders, public.*, "*.events_*" or '"Odd.schema".*'`, "--table: %q is not a pattern", text)
		}
		f = append(f, p)
	}
	return f, nil
}

// match reports whether a table is chosen.
func (f tableFilter) match(namespace, name string) bool {
	return len(f) == 0 || slices.ContainsFunc(f, func(p segment.Pattern) bool { return p.Match(namespace, name) })
}

// matchQualified is match for a qualified name, as catalog entries have it.
func (f tableFilter) matchQualified(table string) bool {
	namespace, name := segment.SplitName(table)
	return f.match(namespace, name)
}
