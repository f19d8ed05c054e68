package basesnapshot

import (
	"net/url"
	"regexp"
	"strings"

	"tidemark/internal/sqltext"
)

// redacted stands where a password stood.
const redacted = "redacted"

// secretName matches names of options and settings that hold secrets.
var secretName = regexp.MustCompile(`(?i)passw|passphrase|secret|token|credential|(private|access|api)[_ -]?key|passfile|^sslkey$`)

// settings that match secretName and hold none.
var plainNames = map[string]bool{"password_encryption": true, "password_required": true, "passwordcheck.min_password_length": true}

func isSecretName(name string) bool {
	return secretName.MatchString(name) && !plainNames[strings.ToLower(name)]
}

// redactItem takes passwords out of an item's SQL. What pg_dump prints is regular: each statement is
// scanned as SQL tokens, and string constants in the places that hold secrets are replaced.
func redactItem(it *SchemaItem) {
	var hide func(option string) bool
	switch it.Kind {
	case "USER MAPPING":
		hide = func(option string) bool { return option != "user" && option != "username" && !plainNames[option] }
	case "SERVER", "FOREIGN DATA WRAPPER", "FOREIGN TABLE":
		hide = isSecretName
	case "SUBSCRIPTION":
		it.SQL = replaceLiterals(it.SQL, func(before string, value string) string {
			if strings.EqualFold(before, "CONNECTION") {
				return redactConninfo(value)
			}
			return value
		}, &it.Redacted)
		return
	case "DATABASE PROPERTIES":
		hide = isSecretName
	default:
		return
	}
	it.SQL = replaceLiterals(it.SQL, func(before, value string) string {
		if before != "" && hide(before) {
			return redacted
		}
		return value
	}, &it.Redacted)
}

// replaceLiterals calls f for each string constant of sql with the word before it (an option's name, a
// keyword; "TO" and "=" are skipped) and puts in what f returns. changed is set if anything changed.
func replaceLiterals(sql string, f func(before, value string) string, changed *bool) string {
	var out strings.Builder
	word := ""
	for i := 0; i < len(sql); {
		c := sql[i]
		switch {
		case c == '\'':
			// quote_literal writes E'...' where the value has a backslash.
			escapes := i > 0 && sql[i-1] == 'E' && (i < 2 || !isWordByte(sql[i-2]))
			value, n := quotedText(sql[i:], '\'', escapes)
			if v := f(word, value); v != value {
				*changed = true
				literal := sqltext.QuoteLiteral(v)
				if escapes {
					literal = strings.TrimPrefix(literal, " E") // which stands there
				}
				out.WriteString(literal)
			} else {
				out.WriteString(sql[i : i+n])
			}
			i += n
			continue
		case c == '"':
			name, n := quotedText(sql[i:], '"', false)
			word = name
			out.WriteString(sql[i : i+n])
			i += n
			continue
		case isWordByte(c):
			n := 1
			for i+n < len(sql) && isWordByte(sql[i+n]) {
				n++
			}
			if w := sql[i : i+n]; !strings.EqualFold(w, "TO") && !strings.HasPrefix(sql[i:], "E'") {
				word = w
			}
			out.WriteString(sql[i : i+n])
			i += n
			continue
		}
		out.WriteByte(c)
		i++
	}
	return out.String()
}

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// quotedText reads a constant or identifier in which the quote is doubled; it returns the text and the
// length with quotes. Without an end it takes all.
func quotedText(s string, quote byte, escapes bool) (string, int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if escapes && s[i] == '\\' && i+1 < len(s) {
			i++
			b.WriteByte(s[i])
			continue
		}
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return b.String(), i + 1
	}
	return b.String(), len(s)
}

// redactConninfo takes secrets out of a libpq connection string; what can't be read is replaced whole.
func redactConninfo(conninfo string) string {
	params, err := parseConninfo(conninfo)
	if err != nil {
		return redacted
	}
	any := false
	for i, p := range params {
		if isSecretName(p.name) {
			params[i].value, any = redacted, true
		}
	}
	if !any {
		return conninfo
	}
	var parts []string
	for _, p := range params {
		value := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p.value)
		parts = append(parts, p.name+"='"+value+"'")
	}
	return strings.Join(parts, " ")
}

// connParam is one parameter of a connection string.
type connParam struct{ name, value string }

// parseConninfo reads both forms of a libpq connection string into its parameters, in order
// (conninfo_parse and conninfo_uri_parse in src/interfaces/libpq/fe-connect.c).
func parseConninfo(s string) ([]connParam, error) {
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return parseConnURI(s)
	}
	var params []connParam
	for {
		s = strings.TrimLeft(s, " \t\r\n\f\v")
		if s == "" {
			return params, nil
		}
		name, rest, ok := strings.Cut(s, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t\r\n'") {
			return nil, errConninfo
		}
		value, rest, err := conninfoValue(strings.TrimLeft(rest, " \t\r\n\f\v"))
		if err != nil {
			return nil, err
		}
		params = append(params, connParam{name, value})
		s = rest
	}
}

func conninfoValue(s string) (value, rest string, err error) {
	var b strings.Builder
	quoted := strings.HasPrefix(s, "'")
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			return b.String(), s[i+1:], nil
		case !quoted && strings.IndexByte(" \t\r\n\f\v", c) >= 0:
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errConninfo
	}
	return b.String(), "", nil
}

func parseConnURI(s string) ([]connParam, error) {
	// The host part may list several hosts, which net/url doesn't take: only user and parameters matter here.
	_, rest, _ := strings.Cut(s, "://")
	authority, query, _ := strings.Cut(rest, "?")
	userinfo, hosts := "", authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		userinfo, hosts = authority[:at], authority[at+1:]
	}
	hosts, dbname, _ := strings.Cut(hosts, "/")
	var params []connParam
	add := func(name, escaped string) error {
		if escaped == "" {
			return nil
		}
		v, err := url.PathUnescape(escaped)
		params = append(params, connParam{name, v})
		return err
	}
	user, password, _ := strings.Cut(userinfo, ":")
	host, port := splitHosts(hosts)
	for _, p := range []connParam{{"user", user}, {"password", password}, {"host", host}, {"port", port}, {"dbname", dbname}} {
		if err := add(p.name, p.value); err != nil {
			return nil, errConninfo
		}
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.PathUnescape(name); err != nil || add(name, value) != nil {
			return nil, errConninfo
		}
	}
	return params, nil
}

// splitHosts turns "a:1,b:2" into "a,b" and "1,2".
func splitHosts(s string) (hosts, ports string) {
	if s == "" {
		return "", ""
	}
	var hs, ps []string
	for part := range strings.SplitSeq(s, ",") {
		host, port := part, ""
		if strings.HasPrefix(part, "[") {
			if end := strings.IndexByte(part, ']'); end > 0 {
				host, port = part[1:end], strings.TrimPrefix(part[end+1:], ":")
			}
		} else if h, p, ok := strings.Cut(part, ":"); ok {
			host, port = h, p
		}
		hs, ps = append(hs, host), append(ps, port)
	}
	ports = strings.Join(ps, ",")
	if strings.Trim(ports, ",") == "" {
		ports = ""
	}
	return strings.Join(hs, ","), ports
}
