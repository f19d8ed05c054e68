package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// WriteJSON writes v as indented JSON and a newline.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Table collects rows and prints them in columns.
type Table struct {
	header []string
	right  []bool
	rows   [][]string
}

// NewTable starts a table. A column whose title begins with ">" is aligned to the right.
func NewTable(columns ...string) *Table {
	t := &Table{}
	for _, c := range columns {
		title, right := strings.CutPrefix(c, ">")
		t.header = append(t.header, title)
		t.right = append(t.right, right)
	}
	return t
}

// Row adds a row; values are printed with fmt.Sprint. Missing ones stay empty, those beyond the
// columns are left out.
func (t *Table) Row(values ...any) {
	row := make([]string, len(t.header))
	for i := range min(len(values), len(row)) {
		row[i] = strings.ReplaceAll(fmt.Sprint(values[i]), "\n", " ")
	}
	t.rows = append(t.rows, row)
}

// Len returns the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write prints the header and the rows, two spaces between columns; nothing for a table without rows.
func (t *Table) Write(w io.Writer) error {
	if len(t.rows) == 0 {
		return nil
	}
	lines := append([][]string{t.header}, t.rows...)
	widths := make([]int, len(t.header))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, t.format(line, widths)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) format(line []string, widths []int) string {
	var b strings.Builder
	for i, cell := range line {
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if t.right[i] {
			cell = pad + cell
		} else {
			cell += pad
		}
		b.WriteString(cell + "  ")
	}
	return strings.TrimRight(b.String(), " ")
}

// Count returns n with commas between groups of three digits.
func Count(n int64) string {
	digits := fmt.Sprint(n)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
