package segment

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Pattern chooses tables by their names: namespace.name, or name alone (in any namespace), with * ? and [a-z]
// as in a shell, of which * stands for any characters at all. What is in double quotes is taken as it is, as
// reports and SQL write names: "odd.schema"."a*b". A name that only looks quoted is found as well.
type Pattern struct {
	dotted          bool
	plain           *regexp.Regexp // of namespace.name where dotted, else of name
	namespace, name *regexp.Regexp // of a pattern with quotes; name is nil without
}

var errPattern = errors.New("not a pattern")

// ParsePattern reads a pattern.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{dotted: strings.Contains(text, ".")}
	var err error
	if text == "" || !utf8.ValidString(text) || text[0] == '.' || text[len(text)-1] == '.' {
		return p, errPattern
	}
	if strings.Contains(text, `"`) {
		p.namespace, p.name = quotedPattern(text)
	}
	p.plain, err = globOf(text)
	if p.name != nil {
		err = nil // brackets may stand in the quotes
	}
	return p, err
}

// Match reports whether a table is chosen.
func (p Pattern) Match(namespace, name string) bool {
	if p.name != nil && p.name.MatchString(name) && (p.namespace == nil || p.namespace.MatchString(namespace)) {
		return true
	}
	if p.plain == nil {
		return false
	}
	if p.dotted {
		name = namespace + "." + name
	}
	return p.plain.MatchString(name)
}

// quotedPattern reads one or two names with quoted parts; a text that isn't made of them gives nothing.
func quotedPattern(text string) (namespace, name *regexp.Regexp) {
	parts := []string{""}
	last := &parts[0]
	for i, piece := range strings.Split(text, `"`) {
		switch {
		case i%2 == 1:
			*last += regexp.QuoteMeta(piece)
			continue
		case i > 0 && piece == "" && i < strings.Count(text, `"`):
			*last += `"` // a doubled quote ends the quoted part and begins it again
			continue
		}
		for j, run := range strings.Split(piece, ".") {
			if j > 0 {
				parts = append(parts, "")
				last = &parts[len(parts)-1]
			}
			glob, err := glob(run)
			if err != nil {
				return nil, nil
			}
			*last += glob
		}
	}
	if strings.Count(text, `"`)%2 == 1 || len(parts) > 2 || parts[0] == "" || *last == "" {
		return nil, nil
	}
	if name = whole(*last); len(parts) == 2 {
		namespace = whole(parts[0])
	}
	return namespace, name
}

func globOf(text string) (*regexp.Regexp, error) {
	expression, err := glob(text)
	if err != nil {
		return nil, err
	}
	return whole(expression), nil
}

// whole compiles what glob made of valid UTF-8, which always compiles.
func whole(expression string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)\A` + expression + `\z`)
}

// glob returns the regular expression of a text with wildcards.
func glob(text string) (string, error) {
	var b strings.Builder
	for text != "" {
		switch text[0] {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '\\':
			if text = text[1:]; text == "" {
				return "", errPattern
			}
			b.WriteString(regexp.QuoteMeta(text[:1]))
		case '[':
			class, rest, found := strings.Cut(text[1:], "]")
			expression := "[" + strings.NewReplacer(`[`, `\[`).Replace(class) + "]"
			if _, err := regexp.Compile(expression); !found || err != nil {
				return "", errPattern
			}
			b.WriteString(expression)
			text = rest
			continue
		default:
			end := len(text)
			if i := strings.IndexAny(text, `*?\[`); i >= 0 {
				end = i
			}
			b.WriteString(regexp.QuoteMeta(text[:end]))
			text = text[end:]
			continue
		}
		text = text[1:]
	}
	return b.String(), nil
}
