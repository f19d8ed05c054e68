package objectstore

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on keys: S3's on the whole (less room for a prefix), file systems' on a part.
const (
	maxKey  = 900
	maxPart = 255
)

// CheckKey says whether every driver can hold key: non-empty parts of printable UTF-8 between slashes,
// none beginning with a dot. Names that begin with a dot belong to the store's own housekeeping (our
// temp files, NFS's .nfs… and .snapshot, macOS's .DS_Store) and never show up in a list. The error
// is an ErrInvalidKey.
func CheckKey(key string) error { return checkKey("check", key) }

func checkKey(op, key string) error {
	if fault := keyFault(key); fault != "" {
		return &opError{op: op, key: printable(key), kind: ErrInvalidKey, detail: fault}
	}
	return nil
}

// keyFault says what is wrong with a key, "" for nothing.
func keyFault(key string) string {
	switch {
	case key == "":
		return "it is empty"
	case len(key) > maxKey:
		return "it is longer than 900 bytes"
	}
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return "it has an empty part"
		case part[0] == '.':
			return "a part begins with a dot"
		case len(part) > maxPart:
			return "a part is longer than 255 bytes"
		}
	}
	return textFault(key)
}

// textFault says what is wrong with the characters of a key or a prefix, "" for nothing.
func textFault(s string) string {
	if !utf8.ValidString(s) {
		return "it is not UTF-8"
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\\' || r == unicode.ReplacementChar {
			return "it has a control character or a backslash"
		}
	}
	return ""
}

// checkPrefix accepts what can begin a key: "", or a key that may end anywhere.
func checkPrefix(prefix string) error {
	fault := textFault(prefix)
	if strings.HasPrefix(prefix, "/") || strings.Contains(prefix, "//") {
		fault = "it has an empty part"
	}
	if strings.HasPrefix(prefix, ".") || strings.Contains(prefix, "/.") {
		fault = "a part begins with a dot"
	}
	if fault != "" {
		return &opError{op: "list", key: printable(prefix), kind: ErrInvalidKey, detail: fault}
	}
	return nil
}

// printable makes a refused key safe to print on one line.
func printable(key string) string {
	if len(key) > 120 {
		key = key[:120] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(key, "?"))
}
