package segment

import "strings"

// QualifiedName puts the names of a namespace and of a table in it together, as catalogs, reports and
// patterns have them: public.orders. A name that holds a dot or a double quote is quoted as in SQL, so that
// no two tables share a qualified name.
func QualifiedName(namespace, name string) string {
	return quoteOdd(namespace) + "." + quoteOdd(name)
}

func quoteOdd(name string) string {
	if !strings.ContainsAny(name, `."`) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// SplitName undoes QualifiedName.
func SplitName(qualified string) (namespace, name string) {
	namespace, rest := cutName(qualified)
	name, _ = cutName(strings.TrimPrefix(rest, "."))
	return namespace, name
}

// cutName takes one name, quoted or not, off the beginning.
func cutName(s string) (name, rest string) {
	if !strings.HasPrefix(s, `"`) {
		name, rest, found := strings.Cut(s, ".")
		if found {
			rest = "." + rest
		}
		return name, rest
	}
	var b strings.Builder
	for s = s[1:]; s != ""; {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			return b.String() + s, ""
		}
		b.WriteString(s[:i])
		if !strings.HasPrefix(s[i+1:], `"`) {
			return b.String(), s[i+1:]
		}
		b.WriteByte('"')
		s = s[i+2:]
	}
	return b.String(), ""
}
