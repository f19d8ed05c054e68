package basesnapshot

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// TestSchemaFingerprintChangesWithTheSchemaAlone: it decides over what a restore may replay, and over base snapshots.
func TestSchemaFingerprintChangesWithTheSchemaAlone(t *testing.T) {
	for _, version := range []string{"", "18"} {
		t.Run("version "+version, func(t *testing.T) {
			server := postgres.Start(t, postgres.Options{Version: version})
			server.CreateDatabase(t, "app")
			conn := server.Connect(t, "app")
			defer conn.Close(context.Background())
			var number int
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&number))
			look := func() string {
				f, err := SchemaFingerprint(t.Context(), conn, number)
				require.NoError(t, err)
				return f
			}
			server.MustExec(t, "app", "CREATE TABLE a (id serial PRIMARY KEY, v text, big text); CREATE TABLE b (id int); CREATE MATERIALIZED VIEW mv AS SELECT * FROM a; CLUSTER a USING a_pkey")
			before := look()
			for _, sql := range []string{
				"INSERT INTO a (v, big) SELECT 'x', repeat('y', 10000) FROM generate_series(1, 10)", "TRUNCATE a RESTART IDENTITY", "ANALYZE", "VACUUM FULL a", "CLUSTER a",
				"REINDEX TABLE a", "REFRESH MATERIALIZED VIEW mv", "CREATE TEMP TABLE gone (id serial PRIMARY KEY, v text DEFAULT 'x'); CREATE TEMP VIEW v AS SELECT 1; DROP TABLE gone",
				"SELECT setval('a_id_seq', 40)", "CREATE SCHEMA tidemark; CREATE SEQUENCE tidemark.s; CREATE FUNCTION tidemark.ddl_f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE tidemark.t (id int PRIMARY KEY, v text)",
				"BEGIN; ALTER TABLE a ADD c int; ROLLBACK",
			} {
				server.MustExec(t, "app", sql)
				require.Equal(t, before, look(), sql)
			}
			for _, sql := range []string{
				"ALTER TABLE a ADD c int", "CREATE INDEX ON a (v)", "COMMENT ON TABLE a IS 'x'", "GRANT SELECT ON a TO PUBLIC", "ALTER TABLE a SET (fillfactor = 50)",
				"ALTER TABLE a REPLICA IDENTITY FULL", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
				"CREATE TYPE mood AS ENUM ('sad')", "ALTER TYPE mood ADD VALUE 'ok'", "ALTER SEQUENCE a_id_seq INCREMENT 5", "ALTER TABLE b RENAME TO c", "ALTER TABLE c SET UNLOGGED",
				"DROP TABLE c", "CREATE SCHEMA s", "ALTER TABLE a SET SCHEMA s", "REVOKE EXECUTE ON FUNCTION pg_catalog.now() FROM PUBLIC", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
			} {
				server.MustExec(t, "app", sql)
				after := look()
				require.NotEqual(t, before, after, sql)
				before = after
			}
		})
	}
}

func TestOwnItemsAreNoPartOfTheSchema(t *testing.T) {
	trigger := ddl.EventTriggers[0]
	for _, it := range []SchemaItem{
		{Kind: "SCHEMA", Name: "tidemark"}, {Kind: "FUNCTION", Namespace: "tidemark", Name: "ddl_f()"}, {Kind: "ACL", Name: "SCHEMA tidemark"},
		{Kind: "EVENT TRIGGER", Name: trigger}, {Kind: "COMMENT", Name: `EVENT TRIGGER "` + trigger + `"`},
	} {
		require.True(t, isOwn(it), "%+v", it)
	}
	for _, it := range []SchemaItem{
		{Kind: "TABLE", Namespace: "public", Name: "tidemark"}, {Kind: "EVENT TRIGGER", Name: "mine"}, {Kind: "TABLE", Namespace: "public", Name: trigger},
		{Kind: "PUBLICATION", Name: "tidemark"}, {Kind: "ROLE", Name: "tidemark"},
	} {
		require.False(t, isOwn(it), "%+v", it)
	}
}
