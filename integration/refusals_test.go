package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
	"tidemark/internal/testserver/s3"
)

const nowhere = "postgres://postgres@127.0.0.1:1/shop?sslmode=disable&connect_timeout=2"

// TestRefusalsChangeNothing goes through what people get wrong: each ends with one clear error, a hint,
// the contract's exit code, and everything as it was.
func TestRefusalsChangeNothing(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	source := postgres.Start(t, postgres.Options{Password: password})
	dsn := source.CreateDatabase(t, "shop")
	source.MustExec(t, "shop", "CREATE TABLE account (id int PRIMARY KEY, owner text); INSERT INTO account VALUES (1, 'one')")
	source.MustExec(t, "postgres", "CREATE ROLE weak LOGIN PASSWORD 'weak'")
	source.CreateDatabase(t, "occupied")
	source.MustExec(t, "occupied", "CREATE TABLE mine (id int); INSERT INTO mine VALUES (42)")
	source.CreateDatabase(t, "keyless")
	source.MustExec(t, "keyless", "CREATE TABLE account (id int PRIMARY KEY); CREATE TABLE no_key (a int)")
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	archive.CatchUp(t)
	source.MustExec(t, "shop", "INSERT INTO account VALUES (2, 'two')")
	archive.CatchUp(t)
	physical := postgres.Start(t, postgres.Options{Settings: map[string]string{"wal_level": "replica"}})
	physical.CreateDatabase(t, "shop")
	store := s3.Start(t)
	broken := filepath.Join(t.TempDir(), "tidemark.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("segment-max-agee: 10s\n"), 0o644))

	fresh := func(dsn string) harness.Archive {
		return harness.Archive{URL: filepath.Join(t.TempDir(), "new"), Source: dsn}
	}
	weak := source.DSNFor("weak", "weak", "shop")
	wrong := source.DSNFor("postgres", "wrong", "shop")
	restore := func(args ...string) harness.Command {
		return archive.Restorer("restore", append([]string{"--into", source.DSN("new"), "--create"}, args...)...)
	}
	unreachable := harness.Archive{URL: "s3://bucket/x?region=us-east-1&endpoint=http%3A%2F%2F127.0.0.1%3A1", Source: dsn, Env: store.Environ()}
	forbidden := harness.Archive{URL: store.S3URL("x"), Source: dsn, Env: append(store.Environ(), "AWS_SECRET_ACCESS_KEY=wrong")}

	cases := []struct {
		name  string
		cmd   harness.Command
		code  int
		words string // one of the words that the error has to hold
	}{
		{"occupied target", archive.Restorer("restore", "--into", source.DSN("occupied")), codeUsage, "occupied"},
		{"target exists", archive.Restorer("restore", "--into", source.DSN("occupied"), "--create"), codeUsage, "occupied"},
		{"target is missing", archive.Restorer("restore", "--into", source.DSN("missing")), codeUsage, "missing"},
		{"target server away", archive.Restorer("restore", "--into", nowhere), codeUnreachable, "127.0.0.1"},
		{"wrong password of target", archive.Restorer("restore", "--into", source.DSNFor("postgres", "wrong", "x"), "--create"), codeUsage, "password"},
		{"store away", unreachable.Restorer("list"), codeUnreachable, "127.0.0.1"},
		{"store refuses", forbidden.Restorer("list"), codeUsage, ""},
		{"no archive", fresh(dsn).Restorer("list"), codeUsage, ""},
		{"time before", restore("--to-time", "2001-01-01T00:00:00Z"), codeUncovered, "2001"},
		{"time after", restore("--to-time", "2101-01-01T00:00:00Z"), codeUncovered, "2101"},
		{"LSN before", restore("--to-lsn", "0/1"), codeUncovered, "0/1"},
		{"LSN after", restore("--to-lsn", "FFFF/0"), codeUncovered, "FFFF/0"},
		{"unknown xid", restore("--to-xid", "4000000000"), codeUncovered, "4000000000"},
		{"unknown mark", restore("--to-mark", "nobody made it"), codeUncovered, "nobody made it"},
		{"time without zone", restore("--to-time", "2024-05-01T10:00:00"), codeUsage, "zone"},
		{"two targets", restore("--to-latest", "--to-xid", "5"), codeUsage, "--to-"},
		{"not an LSN", restore("--to-lsn", "16B374D848"), codeUsage, "16B374D848"},
		{"unknown YAML key", harness.Command{Program: "archiver", Args: []string{"run", "--config", broken}}, codeUsage, "segment-max-agee"},
		{"unknown flag", archive.Archiver("run", "--segment-max-agee", "1s"), codeUsage, "segment-max-agee"},
		{"source away", fresh(nowhere).Archiver("run"), codeUnreachable, "127.0.0.1"},
		{"wrong password of source", fresh(wrong).Archiver("run"), codeUsage, "password"},
		{"missing privileges", fresh(weak).Archiver("run"), codeUsage, "weak"},
		{"wal_level", fresh(physical.DSN("shop")).Archiver("run"), codeUsage, "wal_level"},
		{"table without identity", fresh(source.DSN("keyless")).Archiver("run"), codeUsage, "no_key"},
		{"slot exists, archive is empty", fresh(dsn).Archiver("run"), codeGap, "tidemark_shop"},
		{"store away from archiver", unreachable.Archiver("run"), codeUnreachable, "127.0.0.1"},
	}
	before := state(t, source, archive)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := harness.Start(t, c.cmd).Wait(t, 2*time.Minute)
			requireRefusal(t, r, c.code)
			require.Contains(t, r.Stderr, c.words)
			require.NotContains(t, r.Stderr+r.Stdout, password)
			require.Equal(t, before, state(t, source, archive))
		})
	}
	t.Run("slot in use", func(t *testing.T) { testSlotInUse(t, source, archive) })
	t.Run("check", func(t *testing.T) {
		testCheck(t, fresh(physical.DSN("shop")), "wal_level")
		testCheck(t, fresh(source.DSN("keyless")), "no_key")
		testCheck(t, fresh(weak), "weak")
		require.Equal(t, before, state(t, source, archive))
	})
}

// state is all that a refused command could have changed.
func state(t *testing.T, source *postgres.Server, archive harness.Archive) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(strings.Join(objects(t, archive.URL), "\n"))
	for _, sql := range []string{
		"SELECT string_agg(slot_name || confirmed_flush_lsn, ',' ORDER BY slot_name) FROM pg_replication_slots",
		"SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database",
	} {
		b.WriteString("\n" + source.MustQuery(t, "postgres", sql))
	}
	for _, database := range []string{"shop", "occupied", "keyless"} {
		b.WriteString("\n" + database + ": " + source.MustQuery(t, database,
			"SELECT concat_ws(' ', (SELECT string_agg(pubname, ',') FROM pg_publication), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_event_trigger))"))
	}
	return b.String()
}

// testSlotInUse: while somebody else reads the slot, run leaves.
func testSlotInUse(t *testing.T, source *postgres.Server, archive harness.Archive) {
	reader := exec.Command(source.Path("pg_recvlogical"), "--dbname", source.DSN("shop"), "--slot", "tidemark_shop", "--start",
		"--file", os.DevNull, "--option", "proto_version=1", "--option", "publication_names=tidemark")
	require.NoError(t, reader.Start())
	defer func() {
		_ = reader.Process.Kill()
		_ = reader.Wait()
	}()
	require.Eventually(t, func() bool {
		active, err := source.Query(context.Background(), "postgres", "SELECT active FROM pg_replication_slots")
		return err == nil && active == "t"
	}, 30*time.Second, 20*time.Millisecond)
	r := archive.StartRun(t).Wait(t, time.Minute)
	requireRefusal(t, r, codeConflict)
}

// testCheck: check answers with exit code 8 and names what is wrong and its cure.
func testCheck(t *testing.T, archive harness.Archive, words string) {
	r := harness.Run(t, archive.Archiver("check"))
	require.Equal(t, codeFinding, r.Code, "%s%s", r.Stdout, r.Stderr)
	require.Contains(t, r.Stdout, words)
	cure := harness.Run(t, archive.Archiver("check", "--sql"))
	require.Equal(t, codeFinding, cure.Code)
	require.Regexp(t, `(?i)ALTER|GRANT`, cure.Stdout)
	for statement := range strings.Lines(cure.Stdout) {
		require.True(t, strings.HasSuffix(statement, ";\n"), "psql needs an end of the statement: %s", statement)
	}
}
