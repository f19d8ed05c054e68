package workload

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"sort"
	"strings"
)

// ownEventTrigger matches the statements that make Tidemark's event triggers.
var ownEventTrigger = regexp.MustCompile(`EVENT TRIGGER "?(00_)?tidemark`)

// boundCheck is the CHECK that DETACH PARTITION CONCURRENTLY leaves. Of a partition of partitions it has one AND inside another, which no
// statement can give it: the parser makes one AND of them, from what pg_dump writes too.
var boundCheck = regexp.MustCompile(`CONSTRAINT .* CHECK \(.* IS NOT NULL\) AND `)

// columnGrant is a privilege on a column. Another than the owner may have granted it without being allowed to any more, where the table got
// a new owner at that moment: no statement can make that, those of pg_dump included, and RESET SESSION AUTHORIZATION behind it is not compared.
var columnGrant = regexp.MustCompile(`^GRANT [A-Z]+\(`)

// DumpSchema returns the statements that pg_dump makes of a database's schema, sorted, without
// comments and what differs from run to run: two databases with the same schema give the same text.
// Tidemark's own schema and event triggers are left out. Further arguments go to pg_dump.
func DumpSchema(pgDump, dsn string, args ...string) (string, error) {
	cmd := exec.Command(pgDump, append(args, "--dbname", dsn, "--schema-only", "--no-publications", "--exclude-schema", "tidemark")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("pg_dump: %w: %s", err, stderr.String())
	}
	return SortDump(string(out), func(object string) bool { return !ownEventTrigger.MatchString(object) }), nil
}

// SortDump sorts the objects of what pg_dump printed, without comments and what differs from run to run,
// and leaves out those that keep says no to.
func SortDump(out string, keep func(object string) bool) string {
	// A comment of the form "-- Name: x; Type: TABLE" stands above each object.
	var objects []string
	for _, part := range strings.Split(out, "\n--\n-- ") {
		_, body, _ := strings.Cut(part, "\n--\n")
		var lines []string
		for line := range strings.Lines(body) {
			line = strings.TrimRight(line, "\n")
			if line == "" || strings.HasPrefix(line, "--") || strings.HasPrefix(line, "SET ") ||
				strings.HasPrefix(line, `\restrict`) || strings.HasPrefix(line, `\unrestrict`) {
				continue
			}
			if line == "RESET SESSION AUTHORIZATION;" && len(lines) > 0 && columnGrant.MatchString(lines[len(lines)-1]) {
				continue
			}
			if boundCheck.MatchString(line) {
				line = strings.NewReplacer("(", "", ")", "").Replace(line)
			}
			lines = append(lines, line)
		}
		if object := strings.Join(lines, "\n"); object != "" && keep(object) {
			objects = append(objects, object)
		}
	}
	sort.Strings(objects)
	return strings.Join(objects, "\n\n") + "\n"
}
