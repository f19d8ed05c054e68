package basesnapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
)

// dumpFile runs pg_dump itself, and gives the file that pg_restore reads too.
func dumpFile(t testing.TB, pgDump, dsn string) (path string, data []byte) {
	path = filepath.Join(t.TempDir(), "dump")
	out, err := exec.Command(pgDump, "-Fc", "--schema-only", "-Z0", "--encoding=UTF8", "-f", path, dsn).CombinedOutput()
	require.NoError(t, err, string(out))
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	return path, data
}

var listLine = regexp.MustCompile(`^(\d+); (\d+) (\d+) (.*)$`)

// TestTOCIsThatOfPgRestore compares with pg_restore -l, entry by entry.
func TestTOCIsThatOfPgRestore(t *testing.T) {
	_, dsn := newRichDatabase(t)
	path, data := dumpFile(t, testServer().Path("pg_dump"), dsn)
	parsed, err := parseTOC(data)
	require.NoError(t, err)
	require.Equal(t, 14, parsed.Minor)
	requireSameList(t, testServer().Path("pg_restore"), path, parsed)
}

func requireSameList(t *testing.T, pgRestore, path string, parsed *toc) {
	out, err := exec.Command(pgRestore, "-l", path).Output()
	require.NoError(t, err)
	var want, got []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		if listLine.MatchString(line) {
			want = append(want, strings.TrimRight(line, " "))
		}
	}
	for _, it := range parsed.Items {
		switch it.Kind {
		case "ENCODING", "STDSTRINGS", "SEARCHPATH": // not listed before 17
			if !strings.Contains(string(out), " "+it.Kind+" ") {
				continue
			}
		case "DATABASE", "DATABASE PROPERTIES":
			if !strings.Contains(string(out), fmt.Sprintf("%d; %d %d %s", it.ID, it.ClassOID, it.OID, it.Kind)) {
				continue
			}
		}
		namespace := it.Namespace
		if namespace == "" {
			namespace = "-"
		}
		name := strings.NewReplacer("\n", " ", "\r", " ").Replace(it.Name)
		got = append(got, strings.TrimRight(fmt.Sprintf("%d; %d %d %s %s %s %s", it.ID, it.ClassOID, it.OID, it.Kind, namespace, name, it.Owner), " "))
	}
	require.Greater(t, len(want), 50)
	require.Equal(t, want, withoutHidden(got, want))
}

// withoutHidden drops the entries that pg_restore -l doesn't list, those of the database itself.
func withoutHidden(got, want []string) []string {
	listed := map[string]bool{}
	for _, line := range want {
		listed[line] = true
	}
	var kept []string
	for _, line := range got {
		if listed[line] || !strings.Contains(line, "DATABASE") {
			kept = append(kept, line)
		}
	}
	return kept
}

// TestItemsAreThatScript compares our items, run together in their passes, with pg_restore's script.
func TestItemsAreThatScript(t *testing.T) {
	_, dsn := newRichDatabase(t)
	path, data := dumpFile(t, testServer().Path("pg_dump"), dsn)
	requireSameScript(t, testServer().Path("pg_restore"), path, data)
}

func requireSameScript(t *testing.T, pgRestore, path string, data []byte) {
	parsed, err := parseTOC(data)
	require.NoError(t, err)
	var ours strings.Builder
	items := schemaOf(parsed)
	for pass := PassMain; pass <= PassPostACL; pass++ {
		for i := range items {
			if it := &items[i]; it.RestorePass() == pass && !it.OfDatabase {
				ours.WriteString(it.SQL + "\n" + it.OwnerSQL)
			}
		}
	}
	script, err := exec.Command(pgRestore, "-f", "-", path).Output()
	require.NoError(t, err)
	script = relationOwner.ReplaceAll(script, []byte("ALTER TABLE $1"))
	want, got := plainScript(string(script)), plainScript(ours.String())
	require.NotContains(t, got, "secret")
	require.Contains(t, want, "secret")
	require.Equal(t, strings.Split(redactScript(want), "\n"), strings.Split(got, "\n"))
}

var (
	scriptSettings = regexp.MustCompile(`(?m)^(SET \w+ = .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*|--.*)\n`)
	ownerLine      = regexp.MustCompile(`(?m)^(ALTER .* OWNER TO )(.*);$`)
	// pg_restore 18 names the kind, older ones say TABLE of all relations; every server takes both.
	relationOwner = regexp.MustCompile(`(?m)^ALTER (?:VIEW|MATERIALIZED VIEW|SEQUENCE) (.* OWNER TO )`)
)

// plainScript takes away what is not an item's: settings, comments, empty lines, and quotes in the names of
// owner statements, which we always write.
func plainScript(s string) string {
	s = scriptSettings.ReplaceAllString(s, "")
	s = ownerLine.ReplaceAllStringFunc(s, func(line string) string { return strings.ReplaceAll(line, `"`, "") })
	s = regexp.MustCompile(`\n{2,}`).ReplaceAllString(s, "\n")
	return strings.TrimSpace(s)
}

// redactScript does by hand, for testdata/schema.sql, what redactItem does.
func redactScript(s string) string {
	return strings.NewReplacer(
		`'mapping-secret''s'`, `'redacted'`, `E'back\\slash-secret'`, `E'redacted'`, `api_key 'server-secret'`, `api_key 'redacted'`,
		`token 'table-secret'`, `token 'redacted'`,
		`'host=127.0.0.1 port=1 user=u password=''sub-secret x'' sslpassword=other-secret dbname=d'`,
		`'host=''127.0.0.1'' port=''1'' user=''u'' password=''redacted'' sslpassword=''redacted'' dbname=''d'''`,
		`'postgresql://u:uri-secret@127.0.0.1:1/d?sslmode=disable'`,
		`'user=''u'' password=''redacted'' host=''127.0.0.1'' port=''1'' dbname=''d'' sslmode=''disable'''`,
	).Replace(s)
}

// TestNewerPgDumps does the same with the format of PostgreSQL 17 and later, where that can be had.
func TestNewerPgDumps(t *testing.T) {
	binaries, err := postgres.FindBinaries("18")
	require.NoError(t, err)
	if _, err := os.Stat(binaries.Path("pg_restore")); err != nil {
		t.Logf("this installation of 18 has no pg_restore; the synthetic dump below stands for it")
		return
	}
	_, dsn := newRichDatabase(t)
	path, data := dumpFile(t, binaries.Path("pg_dump"), dsn)
	requireSameScript(t, binaries.Path("pg_restore"), path, data)
}

// tocWriter writes what pg_dump does: WriteHead and WriteToc of each version.
type tocWriter struct{ b []byte }

func (w *tocWriter) int(v int) {
	sign := byte(0)
	if v < 0 {
		sign, v = 1, -v
	}
	w.b = binary.LittleEndian.AppendUint32(append(w.b, sign), uint32(v))
}

func (w *tocWriter) str(s string) { w.int(len(s)); w.b = append(w.b, s...) }

func syntheticTOC(minor byte, items ...SchemaItem) []byte {
	w := &tocWriter{b: append([]byte(tocMagic), 1, minor, 0, 4, 8, tocCustom)}
	if minor >= 15 {
		w.b = append(w.b, 0)
	} else {
		w.int(0)
	}
	for range 7 {
		w.int(5)
	}
	w.str("db")
	w.str("15.1")
	w.str("18.1")
	w.int(len(items))
	for _, it := range items {
		w.int(it.ID)
		w.int(0)
		w.str(strconv.Itoa(int(it.ClassOID)))
		w.str(strconv.Itoa(int(it.OID)))
		w.str(it.Name)
		w.str(it.Kind)
		w.int(2)
		w.str(it.SQL)
		w.str(it.DropSQL)
		w.int(-1) // COPY
		w.str(it.Namespace)
		w.str(it.Tablespace)
		w.str(it.TableAM)
		if minor >= 16 {
			w.int(int((it.RelKind + "\x00")[0]))
		}
		w.str(it.Owner)
		w.str("false")
		for _, d := range it.Deps {
			w.str(strconv.Itoa(d))
		}
		w.int(-1)
		w.b = append(w.b, 3, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return append(w.b, "data blocks follow"...)
}

func TestEachFormatVersionIsRead(t *testing.T) {
	item := SchemaItem{ID: 7, Kind: "TABLE", Section: "pre-data", Namespace: "s", Name: "t", Owner: "o", SQL: "CREATE TABLE s.t ();\n",
		DropSQL: "DROP TABLE s.t;\n", TableAM: "heap", Deps: []int{3, 4}, ClassOID: 1259, OID: 16400}
	for minor := byte(14); minor <= 16; minor++ {
		want := item
		if minor == 16 {
			want.RelKind = "p"
		}
		got, err := parseTOC(syntheticTOC(minor, want, want))
		require.NoError(t, err)
		require.Equal(t, []SchemaItem{want, want}, got.Items)
		require.Equal(t, "18.1", got.DumpVersion)
	}
	partitioned := item
	partitioned.RelKind = "p"
	got, err := parseTOC(syntheticTOC(16, partitioned))
	require.NoError(t, err)
	schema := schemaOf(got)
	require.Equal(t, "CREATE TABLE s.t ();\n\nALTER TABLE \"s\".\"t\" SET ACCESS METHOD \"heap\";\n", schema[0].SQL)
	for _, minor := range []byte{13, 17} {
		_, err := parseTOC(syntheticTOC(minor, item))
		require.ErrorIs(t, err, errToc)
		require.ErrorContains(t, err, "not known")
	}
}

func TestCutTOCIsAnError(t *testing.T) {
	data := syntheticTOC(15, SchemaItem{ID: 1, Kind: "TABLE", Name: "t", Deps: []int{1}})
	data = data[:len(data)-len("data blocks follow")]
	for size := range data {
		_, err := parseTOC(data[:size])
		require.ErrorIs(t, err, errToc, "%d bytes", size)
	}
}

func FuzzTOC(f *testing.F) {
	for minor := byte(14); minor <= 16; minor++ {
		f.Add(syntheticTOC(minor, SchemaItem{ID: 1, Kind: "USER MAPPING", SQL: "OPTIONS (password 'x')", Name: "t", Deps: []int{1}},
			SchemaItem{Kind: "SUBSCRIPTION", SQL: "CREATE SUBSCRIPTION s CONNECTION 'postgres://a:b@c/d'"}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := parseTOC(data)
		if err != nil {
			if !errors.Is(err, errToc) {
				t.Fatal(err)
			}
			return
		}
		schemaOf(parsed)
	})
}

func TestPgDumpIsFoundAndChecked(t *testing.T) {
	ctx := context.Background()
	d, err := findPgDump(ctx, "", 15)
	require.NoError(t, err)
	require.Equal(t, 15, d.Major)
	_, err = findPgDump(ctx, testServer().Path("pg_dump"), 99)
	require.ErrorContains(t, err, "pg_dump must be of PostgreSQL 99 or newer")
	_, err = findPgDump(ctx, "/nowhere/pg_dump", 15)
	require.ErrorContains(t, err, "/nowhere/pg_dump can't be used")
	_, err = findPgDump(ctx, "/bin/true", 15)
	require.ErrorContains(t, err, "doesn't say that it is pg_dump")
}
