package apply

import "regexp"

const (
	identifier   = `(?-i:("(?:[^"]|"")+"|[^\s".;]+))`
	inTablespace = `SET\s+TABLESPACE\s+(?-i:("(?:[^"]|"")+"|[^\s;,()"]+))(\s+NOWAIT)?`
)

var (
	nextTablespace = regexp.MustCompile(`(?is),\s*` + inTablespace)
	setTablespace  = regexp.MustCompile(`(?is)\b` + inTablespace + `\s*,?`)
	nothingElse    = regexp.MustCompile(`(?is)^\s*ALTER\s+(TABLE|INDEX|MATERIALIZED\s+VIEW)\s+(ALL\s+IN\s+TABLESPACE\b.*|(IF\s+EXISTS\s+)?(ONLY\s+)?(` + identifier + `\s*\.\s*)?` + identifier + `(\s*\*)?)\s*;?\s*$`)
)

// withoutTablespace takes out of a statement which tablespace something is to be in; "": it is about nothing else.
func withoutTablespace(sql string) string {
	without := setTablespace.ReplaceAllString(nextTablespace.ReplaceAllString(sql, ""), "")
	if without != sql && nothingElse.MatchString(without) {
		return ""
	}
	return tablespace.ReplaceAllString(without, "")
}
