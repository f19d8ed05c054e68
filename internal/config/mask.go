package config

import "regexp"

const masked = "*****"

var (
	// user:password@ of a connection URL; a password with an unescaped slash is no valid URL, but is shown in errors.
	dsnPassword = regexp.MustCompile(`(postgres(?:ql)?://[^\s/?#@:]*:)(\S*)(@)`)
	// user:password@ in any other URL.
	urlPassword = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@:]*:)([^\s/?#]*)(@)`)
	// password=..., also in a URL's query: quoted with backslash escapes, or up to a space or &.
	keyPassword = regexp.MustCompile(`(?i)\b((?:ssl|pg)?password|passwd|pwd|secret|secret[_-]?(?:access[_-]?)?key|access[_-]?key|session[_-]?token|x-amz-(?:signature|security-token|credential)|sas[_-]?token|sig)(\s*=\s*)('(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?|[^\s&'"][^\s&]*)`)
	// PASSWORD '...' in a statement.
	sqlPassword = regexp.MustCompile(`(?i)\b(password)(\s+)'(?:[^']|'')*'?`)
)

// Mask returns text with every password and key replaced by asterisks: those of URLs
// (postgres://user:secret@host, ?password=), of key=value connection strings (password='se cret') and
// of statements (PASSWORD 'secret'). User names, hosts and everything else stay.
func Mask(text string) string {
	text = dsnPassword.ReplaceAllString(text, "${1}"+masked+"${3}")
	text = urlPassword.ReplaceAllString(text, "${1}"+masked+"${3}")
	text = keyPassword.ReplaceAllString(text, "${1}${2}"+masked)
	return sqlPassword.ReplaceAllString(text, "${1}${2}"+masked)
}
