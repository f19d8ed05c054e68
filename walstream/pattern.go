package walstream

import (
	"slices"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// tablePattern is one --table pattern.
type tablePattern struct {
	segment.Pattern
	text string
}

// patterns is a list of them. None means every table.
type patterns []tablePattern

func parsePatterns(texts []string) (patterns, error) {
	var list patterns
	for _, text := range texts {
		p, err := segment.ParsePattern(text)
		if err != nil {
			return nil, fault.New(fault.Usage, "a pattern looks like public.orders, public.* or order_*", "%q is no table pattern", text)
		}
		list = append(list, tablePattern{p, text})
	}
	return list, nil
}

// match reports whether a table is wanted.
func (p patterns) match(namespace, name string) bool {
	return len(p) == 0 || slices.ContainsFunc(p, func(t tablePattern) bool { return t.Match(namespace, name) })
}
