package pitr

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// WriteText prints the plan for people, times in UTC and in zone. It returns the writer's error.
func (plan *Plan) WriteText(w io.Writer, zone *time.Location) error {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-16s %s\n", label, fmt.Sprintf(format, args...))
	}
	line("target", "%s", plan.Target.Describe(zone))
	line("history", "%d", plan.History)
	s := plan.Snapshot
	line("base snapshot", "%s at LSN %s, %s", s.ID, s.LSN, DescribeTime(s.Time, zone))
	line("", "%s tables, %s rows, %s", humanize.Comma(s.Tables), humanize.Comma(s.Rows), humanize.IBytes(uint64(s.Bytes)))
	line("replay", "%s transactions from %s segments (%s objects)", humanize.Comma(plan.Transactions),
		humanize.Comma(plan.Segments), humanize.Comma(plan.Objects))
	line("", "%s", plan.changes())
	line("to read", "%s", humanize.IBytes(uint64(plan.Bytes)))
	line("last kept", "%s", plan.LastKept.describe(zone, "no archived commit before it: the base snapshot as it is"))
	line("first left out", "%s", plan.FirstLeftOut.describe(zone, "nothing later is archived"))
	if plan.SchemaChanges > 0 {
		line("schema changes", "%s", humanize.Comma(plan.SchemaChanges))
	}
	for _, i := range plan.Inexact {
		line("not exact", "%s", describeInexact(i))
	}
	plan.writeTables(&b)
	for _, warning := range plan.Warnings {
		line("warning", "%s", warning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const shownTables = 30

// changes sums up the rows of all tables.
func (plan *Plan) changes() string {
	s := fmt.Sprintf("%s rows inserted, %s updated, %s deleted", humanize.Comma(plan.Inserts), humanize.Comma(plan.Updates), humanize.Comma(plan.Deletes))
	if plan.Truncates > 0 {
		s += fmt.Sprintf(", %s tables truncated", humanize.Comma(plan.Truncates))
	}
	return s
}

func (plan *Plan) writeTables(b *strings.Builder) {
	if plan.TablesUnlisted {
		b.WriteString("\nThe range is long: tables are not listed one by one here. A restore counts and checks each.\n")
	}
	if len(plan.Tables) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%-40s %12s %12s %12s %9s\n", "replayed", "inserts", "updates", "deletes", "truncates")
	for _, t := range plan.Tables[:min(shownTables, len(plan.Tables))] {
		fmt.Fprintf(b, "%-40s %12s %12s %12s %9s\n", t.Table, humanize.Comma(t.Inserts), humanize.Comma(t.Updates),
			humanize.Comma(t.Deletes), humanize.Comma(t.Truncates))
	}
	if n := len(plan.Tables) - shownTables; n > 0 {
		fmt.Fprintf(b, "and %d more tables\n", n)
	}
	if plan.TablesCut {
		b.WriteString("and tables that the catalog does not list\n")
	}
}

// describe names a commit in one line, or says none.
func (c *Commit) describe(zone *time.Location, none string) string {
	if c == nil {
		return none
	}
	s := fmt.Sprintf("%s  xid %d  LSN %s  %s", DescribeTime(c.Time, zone), c.XID, c.LSN, c.Changes())
	if c.Foreign {
		s += "  (from another node, with its time)"
	}
	return s
}

// Describe names the commit in one line: time, xid, LSN, rows by table.
func (c *Commit) Describe(zone *time.Location) string { return c.describe(zone, "none") }

// Changes sums up what the commit did: "public.orders -48,201 rows; public.audit +1 row".
func (c *Commit) Changes() string {
	if len(c.Tables) == 0 {
		return "no rows"
	}
	var parts []string
	for i, t := range c.Tables {
		if i == 4 && len(c.Tables) > 5 {
			parts = append(parts, fmt.Sprintf("%d more tables", len(c.Tables)-i))
			break
		}
		parts = append(parts, t.Table+" "+t.changes())
	}
	return strings.Join(parts, "; ")
}

func (t PlanTable) changes() string {
	var parts []string
	for _, c := range []struct {
		what string
		n    int64
	}{{"insert", t.Inserts}, {"update", t.Updates}, {"delete", t.Deletes}} {
		if c.n > 0 {
			parts = append(parts, c.what+" "+humanize.Comma(c.n))
		}
	}
	if t.Truncates > 0 {
		parts = append(parts, "truncate")
	}
	return strings.Join(parts, ", ")
}
