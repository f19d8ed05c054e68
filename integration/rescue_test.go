package integration

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
	"tidemark/pitr"
)

// TestRescueIntoLiveDatabase goes the way of the night on which somebody deleted rows: a copy of the table beside the
// live one, a comparison, and the rows put back; and the archive stays whole meanwhile.
func TestRescueIntoLiveDatabase(t *testing.T) {
	t.Parallel()
	source := postgres.Start(t, postgres.Options{})
	dsn := source.CreateDatabase(t, "shop")
	source.MustExec(t, "shop", `CREATE TYPE state AS ENUM ('new', 'paid'); CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, s state, note text);
CREATE TABLE keyless (a int); ALTER TABLE keyless REPLICA IDENTITY FULL; INSERT INTO orders (s, note) SELECT 'paid', 'n' || i FROM generate_series(1, 50) i`)
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	archive.CatchUp(t)
	source.MustExec(t, "shop", "UPDATE orders SET s = 'new' WHERE id < 10; INSERT INTO keyless VALUES (1)")
	good := source.MustQuery(t, "shop", "select pg_current_wal_insert_lsn()::text")
	source.MustExec(t, "shop", "DELETE FROM orders WHERE id % 5 = 0; UPDATE orders SET note = 'changed' WHERE id = 1")
	archive.CatchUp(t)
	target := []string{"--to-lsn", good, "--exclusive", "--table", "public.orders"}

	restored := rescue(t, 0, archive.Restorer("restore", append([]string{"--into", dsn, "--as-schema", "rescue"}, target...)...))
	require.Contains(t, restored.Stdout, "restored schema rescue of shop to LSN "+good)
	require.Equal(t, "10", source.MustQuery(t, "shop", "select count(*)::text from rescue.orders r left join orders o using (id) where o.id is null"))

	compared := rescue(t, 8, archive.Restorer("compare", append([]string{"--with", dsn, "-o", "json"}, target...)...))
	lines := strings.Split(strings.TrimSpace(compared.Stdout), "\n")
	require.Len(t, lines, 12, "a line for each row, and the summary")
	var summary pitr.CompareReport
	require.NoError(t, json.Unmarshal([]byte(lines[11]), &struct{ Tables *[]pitr.TableDifference }{&summary.Tables}))
	require.Equal(t, []int64{10, 1, 0}, []int64{summary.Tables[0].Missing, summary.Tables[0].Different, summary.Tables[0].Extra})

	// One row is still different.
	applied := rescue(t, 8, archive.Restorer("compare", append([]string{"--with", dsn, "--apply", "missing"}, target...)...))
	require.Contains(t, applied.Stdout, "different  public.orders id=1 archive: note=n1 live: note=changed")
	source.MustExec(t, "shop", "UPDATE orders SET note = 'n1' WHERE id = 1; DROP SCHEMA rescue CASCADE")
	rescue(t, 0, archive.Restorer("compare", append([]string{"--with", dsn}, target...)...))
	require.Equal(t, "51", source.MustQuery(t, "shop", "insert into orders (s) values ('new') returning id::text"))

	// What was done in the live database is archived as everything else is.
	archive.CatchUp(t)
	rescue(t, 0, archive.Restorer("restore", "--into", source.DSN("after"), "--create"))
	same := "select count(*) || md5(string_agg(o::text, ',' order by id)) from orders o"
	require.Equal(t, source.MustQuery(t, "shop", same), source.MustQuery(t, "after", same))
	require.Equal(t, "f", source.MustQuery(t, "after", "select (to_regnamespace('rescue') is not null)::text")[:1])
	rescue(t, 0, archive.Restorer("compare", "--with", source.DSN("shop"), "--scratch", source.DSN("spare")))

	// A table that is younger than the base snapshot can be chosen, by its name as reports have it.
	source.MustExec(t, "shop", `CREATE TABLE "New/t.able" (id int PRIMARY KEY); INSERT INTO "New/t.able" VALUES (1), (2)`)
	archive.CatchUp(t)
	for name, pattern := range map[string]string{"young": `public."New/t.able"`, "younger": "public.New*"} {
		rescue(t, 0, archive.Restorer("restore", "--into", source.DSN(name), "--create", "--table", pattern))
		require.Equal(t, "2", source.MustQuery(t, name, `select count(*)::text from "New/t.able"`))
		require.Equal(t, "t", source.MustQuery(t, name, "select (to_regclass('orders') is null)::text")[:1])
	}
	left := rescue(t, 0, archive.Restorer("restore", "--into", source.DSN("young"), "--if-empty", "-o", "json"))
	var kept map[string]any
	require.NoError(t, json.Unmarshal([]byte(left.Stdout), &kept), "a script finds an object here too")
	require.Equal(t, []any{true, false, nil}, []any{kept["left_as_is"], kept["data_integrity_verified"], kept["reached_lsn"]})
	refused := rescue(t, 2, archive.Restorer("restore", "--into", source.DSN("youngest"), "--create", "--table", "public.nothing"))
	require.Contains(t, refused.Stderr, "matches [public.nothing]")
}

// rescue runs a command that is to end with the code.
func rescue(t *testing.T, code int, c harness.Command) harness.Result {
	t.Helper()
	r := harness.Run(t, c)
	require.Equal(t, code, r.Code, "%s", r.Stderr)
	return r
}
