package report

import (
	"fmt"
	"os"
	"strings"
)

// The table of docs/performance.md stands between these lines.
const (
	tableBegins = "<!-- results: written by make bench-docs -->"
	tableEnds   = "<!-- end of results -->"
)

// Markdown returns the rows as a table, with what they were measured on.
func (r *Results) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %d cores; last measured %s; medians of the runs, interleaved.\n\n", r.Postgres, r.Cores, r.Began.Format("2006-01-02"))
	b.WriteString("| name | what | transport | rows a transaction | ours | the other | value | goal | | commit, processor, runs |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, row := range r.Rows {
		other := ""
		if row.Theirs != nil {
			other = fmt.Sprintf("%.4g %s (%s)", Median(row.Theirs.Runs), row.Theirs.Unit, row.Theirs.Name)
		}
		value := fmt.Sprintf("%.3g", row.Value)
		if row.Unit != "" {
			value += " " + row.Unit
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.4g %s | %s | **%s** | %s | %s | %s, %s, %d |\n", row.Name, row.What, row.Transport, row.Rows,
			Median(row.Ours.Runs), row.Ours.Unit, other, value, row.Goal, row.Verdict(),
			row.Commit, processor(row.Machine), len(row.Ours.Runs))
	}
	return b.String()
}

// processor is the first part of a machine's description.
func processor(machine string) string {
	name, _, _ := strings.Cut(machine, ",")
	return name
}

// WriteTable puts the table into a page, in place of the one that it has.
func (r *Results) WriteTable(path string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(page), tableBegins)
	_, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table: %q and %q", path, tableBegins, tableEnds)
	}
	return os.WriteFile(path, []byte(before+tableBegins+"\n\n"+r.Markdown()+"\n"+tableEnds+after), 0o644)
}
