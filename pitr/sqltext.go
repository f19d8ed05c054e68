package pitr

import (
	"strings"

	"tidemark/internal/fault"
)

// tokenKind is what a piece of SQL text is.
type tokenKind byte

const (
	spaceToken  tokenKind = iota // white space and comments
	wordToken                    // an identifier or keyword without quotes
	quotedToken                  // "an identifier"
	stringToken                  // 'a constant', also E'…', B'…', X'…', N'…' and U&'…', and $$…$$
	otherToken                   // a number, a parameter, an operator, or one of ( ) [ ] , ; .
)

// sqlToken is a piece of SQL text; all pieces together are the text.
type sqlToken struct {
	kind tokenKind
	text string
}

// tokens cuts SQL into pieces as src/backend/parser/scan.l does, with standard_conforming_strings = on.
// An error is text that ends within a constant, a name or a comment.
func tokens(sql string) ([]sqlToken, error) {
	var out []sqlToken
	for len(sql) > 0 {
		kind, n := nextToken(sql)
		if n <= 0 {
			return nil, fault.New(fault.Failed, "", "SQL ends within a constant, a name or a comment: %.60q", sql)
		}
		out = append(out, sqlToken{kind, sql[:n]})
		sql = sql[n:]
	}
	return out, nil
}

// nextToken measures the first piece of sql in bytes; -1 if it doesn't end.
func nextToken(sql string) (tokenKind, int) {
	c := sql[0]
	switch {
	case strings.IndexByte(" \t\n\r\f\v", c) >= 0:
		return spaceToken, len(sql) - len(strings.TrimLeft(sql, " \t\n\r\f\v"))
	case strings.HasPrefix(sql, "--"):
		if i := strings.IndexAny(sql, "\n\r"); i >= 0 {
			return spaceToken, i
		}
		return spaceToken, len(sql)
	case strings.HasPrefix(sql, "/*"):
		return spaceToken, commentEnd(sql)
	case c == '\'':
		return stringToken, quotedEnd(sql, 0, '\'', false)
	case c == '"':
		return quotedToken, quotedEnd(sql, 0, '"', false)
	case c == '$':
		return dollarToken(sql)
	case wordStart(c):
		return wordOrPrefixed(sql)
	case c >= '0' && c <= '9':
		n := 1
		for n < len(sql) && (wordPart(sql[n]) || sql[n] == '.') {
			n++
		}
		return otherToken, n
	case strings.IndexByte(operatorChars, c) >= 0:
		return otherToken, operatorEnd(sql)
	}
	return otherToken, 1
}

const operatorChars = "+-*/<>=~!@#%^&|`?"

// operatorEnd measures an operator, which ends where a comment begins.
func operatorEnd(sql string) int {
	n := 1
	for n < len(sql) && strings.IndexByte(operatorChars, sql[n]) >= 0 && !strings.HasPrefix(sql[n:], "--") && !strings.HasPrefix(sql[n:], "/*") {
		n++
	}
	return n
}

func wordStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func wordPart(c byte) bool { return wordStart(c) || c >= '0' && c <= '9' || c == '$' }

// wordOrPrefixed measures a word, or a constant or name with a prefix such as E'…'.
func wordOrPrefixed(sql string) (tokenKind, int) {
	switch c := sql[0] | 0x20; {
	case len(sql) > 1 && sql[1] == '\'' && strings.IndexByte("ebxn", c) >= 0:
		return stringToken, quotedEnd(sql, 1, '\'', c == 'e')
	case len(sql) > 2 && c == 'u' && sql[1] == '&' && sql[2] == '\'':
		return stringToken, quotedEnd(sql, 2, '\'', false)
	case len(sql) > 2 && c == 'u' && sql[1] == '&' && sql[2] == '"':
		return otherToken, quotedEnd(sql, 2, '"', false) // a name with escapes: never one of ours
	}
	n := 1
	for n < len(sql) && wordPart(sql[n]) {
		n++
	}
	return wordToken, n
}

// quotedEnd finds the end of what is quoted from byte at on; a doubled quote stands for one.
func quotedEnd(sql string, at int, quote byte, backslash bool) int {
	for i := at + 1; i < len(sql); i++ {
		switch {
		case backslash && sql[i] == '\\':
			i++
		case sql[i] == quote && i+1 < len(sql) && sql[i+1] == quote:
			i++
		case sql[i] == quote:
			return i + 1
		}
	}
	return -1
}

func commentEnd(sql string) int {
	depth := 0
	for i := 0; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// dollarToken measures $tag$…$tag$, or a parameter.
func dollarToken(sql string) (tokenKind, int) {
	n := 1
	for n < len(sql) && wordPart(sql[n]) && sql[n] != '$' {
		n++
	}
	if n == len(sql) || sql[n] != '$' || n > 1 && !wordStart(sql[1]) {
		return otherToken, n
	}
	tag := sql[:n+1]
	end := strings.Index(sql[n+1:], tag)
	if end < 0 {
		return stringToken, -1
	}
	return stringToken, n + 1 + end + len(tag)
}

// identifier gives the name that a piece stands for, and whether it stands for one.
func (t sqlToken) identifier() (string, bool) {
	switch t.kind {
	case wordToken:
		return asciiLower(t.text), true
	case quotedToken:
		return strings.ReplaceAll(t.text[1:len(t.text)-1], `""`, `"`), true
	}
	return "", false
}

// is reports whether the piece is this keyword or sign; keywords in lower case.
func (t sqlToken) is(word string) bool {
	return t.kind == wordToken && asciiLower(t.text) == word || t.kind == otherToken && t.text == word
}

// asciiLower folds a name as PostgreSQL does in a multibyte encoding.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
