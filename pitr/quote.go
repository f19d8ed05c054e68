package pitr

import "strings"

// quoteIdent quotes a name for SQL.
func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteName quotes namespace.name.
func quoteName(namespace, name string) string { return quoteIdent(namespace) + "." + quoteIdent(name) }

// quoteLiteral quotes a string constant; standard_conforming_strings is on in every session.
func quoteLiteral(s string) string {
	if strings.Contains(s, `\`) {
		return ` E'` + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `'`, `''`) + `'`
	}
	return `'` + strings.ReplaceAll(s, `'`, `''`) + `'`
}
