// Package sqltext cuts SQL into its pieces, and quotes what is put into it.
package sqltext

import (
	"strings"

	"tidemark/internal/fault"
)

// Kind is what a piece of SQL text is.
type Kind byte

// The kinds.
const (
	Space  Kind = iota // white space and comments
	Word               // an identifier or keyword without quotes
	Quoted             // "an identifier"
	String             // 'a constant', also E'…', B'…', X'…', N'…' and U&'…', and $$…$$
	Other              // a number, a parameter, an operator, or one of ( ) [ ] , ; .
)

// Token is a piece of SQL text; all pieces together are the text.
type Token struct {
	Kind Kind
	Text string
}

// Tokens cuts SQL into pieces as src/backend/parser/scan.l does. Conforming is what standard_conforming_strings is: where
// it is false, a backslash in a plain constant takes the next character for itself.
// An error is text that ends within a constant, a name or a comment.
func Tokens(sql string, conforming bool) ([]Token, error) {
	var out []Token
	for len(sql) > 0 {
		kind, n := next(sql, conforming)
		if n <= 0 {
			return nil, fault.New(fault.Failed, "", "SQL ends within a constant, a name or a comment: %.60q", sql)
		}
		out = append(out, Token{kind, sql[:n]})
		sql = sql[n:]
	}
	return out, nil
}

// Join is the text that pieces were cut from.
func Join(tokens []Token) string {
	var out strings.Builder
	for _, t := range tokens {
		out.WriteString(t.Text)
	}
	return out.String()
}

// next measures the first piece of sql in bytes; -1 if it doesn't end.
func next(sql string, conforming bool) (Kind, int) {
	c := sql[0]
	switch {
	case strings.IndexByte(" \t\n\r\f\v", c) >= 0:
		return Space, len(sql) - len(strings.TrimLeft(sql, " \t\n\r\f\v"))
	case strings.HasPrefix(sql, "--"):
		if i := strings.IndexAny(sql, "\n\r"); i >= 0 {
			return Space, i
		}
		return Space, len(sql)
	case strings.HasPrefix(sql, "/*"):
		return Space, commentEnd(sql)
	case c == '\'':
		return String, quotedEnd(sql, 0, '\'', !conforming)
	case c == '"':
		return Quoted, quotedEnd(sql, 0, '"', false)
	case c == '$':
		return dollarToken(sql)
	case wordStart(c):
		return wordOrPrefixed(sql, conforming)
	case c >= '0' && c <= '9':
		n := 1
		for n < len(sql) && (wordPart(sql[n]) || sql[n] == '.') {
			n++
		}
		return Other, n
	case strings.IndexByte(OperatorChars, c) >= 0:
		return Other, operatorEnd(sql)
	}
	return Other, 1
}

// OperatorChars are those that operators consist of.
const OperatorChars = "+-*/<>=~!@#%^&|`?"

// operatorEnd measures an operator, which ends where a comment begins.
func operatorEnd(sql string) int {
	n := 1
	for n < len(sql) && strings.IndexByte(OperatorChars, sql[n]) >= 0 && !strings.HasPrefix(sql[n:], "--") && !strings.HasPrefix(sql[n:], "/*") {
		n++
	}
	return n
}

func wordStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func wordPart(c byte) bool { return wordStart(c) || c >= '0' && c <= '9' || c == '$' }

// wordOrPrefixed measures a word, or a constant or name with a prefix such as E'…'.
func wordOrPrefixed(sql string, conforming bool) (Kind, int) {
	switch c := sql[0] | 0x20; {
	case len(sql) > 1 && sql[1] == '\'' && strings.IndexByte("ebxn", c) >= 0:
		return String, quotedEnd(sql, 1, '\'', c == 'e' || c == 'n' && !conforming)
	case len(sql) > 2 && c == 'u' && sql[1] == '&' && sql[2] == '\'':
		return String, quotedEnd(sql, 2, '\'', false)
	case len(sql) > 2 && c == 'u' && sql[1] == '&' && sql[2] == '"':
		return Other, quotedEnd(sql, 2, '"', false) // a name with escapes: never one of ours
	}
	n := 1
	for n < len(sql) && wordPart(sql[n]) {
		n++
	}
	return Word, n
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
func dollarToken(sql string) (Kind, int) {
	n := 1
	for n < len(sql) && wordPart(sql[n]) && sql[n] != '$' {
		n++
	}
	if n == len(sql) || sql[n] != '$' || n > 1 && !wordStart(sql[1]) {
		return Other, n
	}
	tag := sql[:n+1]
	end := strings.Index(sql[n+1:], tag)
	if end < 0 {
		return String, -1
	}
	return String, n + 1 + end + len(tag)
}

// Identifier gives the name that a piece stands for, and whether it stands for one.
func (t Token) Identifier() (string, bool) {
	switch t.Kind {
	case Word:
		return Lower(t.Text), true
	case Quoted:
		return strings.ReplaceAll(t.Text[1:len(t.Text)-1], `""`, `"`), true
	}
	return "", false
}

// Is reports whether the piece is this keyword or sign; keywords in lower case.
func (t Token) Is(word string) bool {
	return t.Kind == Word && Lower(t.Text) == word || t.Kind == Other && t.Text == word
}

// Lower folds a name as PostgreSQL does in a multibyte encoding.
func Lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
