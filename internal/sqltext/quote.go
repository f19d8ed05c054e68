package sqltext

import "strings"

// QuoteIdent quotes a name for SQL, always: whether a word needs it depends on the version that reads it.
func QuoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// QuoteName quotes namespace.name, or the name alone if it has no namespace.
func QuoteName(namespace, name string) string {
	if namespace == "" {
		return QuoteIdent(name)
	}
	return QuoteIdent(namespace) + "." + QuoteIdent(name)
}

// QuoteLiteral quotes a string constant, which means the same whatever standard_conforming_strings is.
func QuoteLiteral(s string) string {
	quoted := `'` + strings.ReplaceAll(s, `'`, `''`) + `'`
	if !strings.Contains(s, `\`) {
		return quoted
	}
	return ` E` + strings.ReplaceAll(quoted, `\`, `\\`)
}
