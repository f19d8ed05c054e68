package basesnapshot

import "strings"

// splitCreateTable takes apart what pg_dump prints for a table: the text before the list of columns, the elements of
// the list, and what follows it.
func splitCreateTable(sql string) (head string, elements []string, tail string, ok bool) {
	if !strings.HasPrefix(sql, "CREATE ") {
		return "", nil, "", false
	}
	open := scanSQL(sql, 0, func(c byte, _ int) bool { return c == '(' || c == ';' })
	if open < 0 || sql[open] != '(' {
		return "", nil, "", false
	}
	end := closing(sql, open)
	if end < 0 {
		return "", nil, "", false
	}
	list := sql[open+1 : end]
	for start := 0; start <= len(list); {
		n := scanSQL(list, start, func(c byte, depth int) bool { return c == ',' && depth == 0 })
		if n < 0 {
			n = len(list)
		}
		if e := strings.TrimSpace(list[start:n]); e != "" {
			elements = append(elements, e)
		}
		start = n + 1
	}
	return sql[:open], elements, sql[end+1:], true
}

// closing returns where the parenthesis at open is closed, -1 if nowhere.
func closing(sql string, open int) int {
	return scanSQL(sql, open, func(c byte, depth int) bool { return c == ')' && depth == 0 })
}

// scanSQL looks, outside of quotes, for the first byte from start on that satisfies found, and returns its place or
// -1. The depth is that of parentheses opened since start, the byte's own not counted.
func scanSQL(sql string, start int, found func(c byte, depth int) bool) int {
	depth := 0
	for i := start; i < len(sql); i++ {
		c := sql[i]
		switch c {
		case '\'', '"':
			escapes := c == '\'' && i > 0 && sql[i-1] == 'E' && (i < 2 || !isWordByte(sql[i-2]))
			_, n := quotedText(sql[i:], c, escapes)
			i += n - 1
			continue
		case ')':
			depth--
		}
		if found(c, depth) {
			return i
		}
		if c == '(' {
			depth++
		}
	}
	return -1
}

// elementColumn returns the name of the column that an element of the list defines; a constraint defines none.
func elementColumn(element string) (string, bool) {
	if strings.HasPrefix(element, `"`) {
		name, _ := quotedText(element, '"', false)
		return name, true
	}
	name, _, _ := strings.Cut(element, " ")
	switch name {
	case "CONSTRAINT", "NOT": // pg_dump 18 prints some NOT NULL constraints by themselves
		return "", false
	}
	return name, true
}
