package apply

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

func TestOwnerAloneIsLeftOut(t *testing.T) {
	m := &ddl.Message{Tag: "ALTER TABLE"}
	for sql, want := range map[string]string{
		"ALTER TABLE t OWNER TO x": "",
		` /* ; */ alter table if exists only s."T, OWNER TO t" * owner to "a role" ; --`: "",
		"ALTER TABLE ONLY (s.t) OWNER TO CURRENT_USER":                                   "",
		`ALTER TABLE U&"d!0061t" UESCAPE '!' OWNER TO U&"d\0061t"`:                       "",
		"ALTER TABLE owner OWNER TO owner, OWNER TO x":                                   "",
		"ALTER FUNCTION s.f(int[], VARIADIC numeric(3, 1)[]) OWNER TO x":                 "",
		"ALTER OPERATOR s.|| (int, NONE) OWNER TO x":                                     "",
		"ALTER OPERATOR CLASS s.c USING btree OWNER TO x":                                "",
		"ALTER TEXT SEARCH CONFIGURATION c OWNER TO x":                                   "",
		"ALTER TYPE attribute OWNER TO x":                                                "",

		"ALTER TABLE t ADD COLUMN c int, OWNER TO x":                                               "ALTER TABLE t ADD COLUMN c int",
		"ALTER TABLE t OWNER TO x, ADD c int DEFAULT f(1, 2), ADD d int[] DEFAULT ARRAY[1, 2];":    "ALTER TABLE t ADD c int DEFAULT f(1, 2), ADD d int[] DEFAULT ARRAY[1, 2]",
		"ALTER TABLE t ADD c int -- , OWNER TO y\n, OWNER TO x, ADD d int -- z":                    "ALTER TABLE t ADD c int, ADD d int",
		"ALTER TABLE t ADD c text DEFAULT $q$', OWNER TO x$q$, OWNER TO x":                         "ALTER TABLE t ADD c text DEFAULT $q$', OWNER TO x$q$",
		"ALTER MATERIALIZED VIEW s.v SET (fillfactor = 10, autovacuum_enabled = off), OWNER TO x ": "ALTER MATERIALIZED VIEW s.v SET (fillfactor = 10, autovacuum_enabled = off)",
	} {
		require.Equal(t, want, withoutOwner(m, sql), sql)
	}
	for _, sql := range []string{
		"ALTER TABLE t ADD COLUMN c int -- , OWNER TO x",
		"ALTER TABLE t ADD COLUMN c int /*, OWNER TO x*/",
		"ALTER TABLE t ADD COLUMN c text DEFAULT ', OWNER TO x'",
		`ALTER TABLE t ADD COLUMN ", OWNER TO x" int`,
		"ALTER TABLE t RENAME owner TO x",
		"ALTER TABLE t RENAME COLUMN owner TO x",
		"ALTER TABLE t RENAME CONSTRAINT owner TO x",
		"ALTER TYPE t RENAME ATTRIBUTE owner TO x",
		"ALTER POLICY p ON owner TO x",
		"ALTER FUNCTION f() SET a.owner TO x",
		"ALTER FUNCTION f() SET search_path TO a, OWNER TO x",
		"ALTER TABLE t OWNER TO x; SELECT 1; ALTER TABLE t OWNER TO x",
		"ALTER TABLE t ADD COLUMN c text DEFAULT 'open",
		"ALTER SEQUENCE s OWNED BY t.owner",
	} {
		require.Equal(t, sql, withoutOwner(m, sql))
	}
	const escaped = `ALTER TABLE t ADD c text DEFAULT 'it\', OWNER TO x, ', OWNER TO y`
	require.Equal(t, escaped, withoutOwner(m, escaped), "ends within a constant")
	m.Settings = map[string]string{"standard_conforming_strings": "off"}
	require.Equal(t, `ALTER TABLE t ADD c text DEFAULT 'it\', OWNER TO x, '`, withoutOwner(m, escaped))
	require.False(t, isOwnership(&ddl.Message{Tag: "ALTER TABLE"}), "a change without its statement")
}

func TestSchemaIsMadeWithoutOwnerAndGrants(t *testing.T) {
	const elements = `CREATE TABLE one (id int) GRANT CREATE, USAGE ON SCHEMA s TO x WITH GRANT OPTION GRANT SELECT (id) ON one TO x CREATE VIEW two AS SELECT 1 AS grant, 2 AS create, (SELECT t.grant FROM t) CREATE INDEX i ON one (id)`
	const made = "\nCREATE TABLE one (id int)\nCREATE VIEW two AS SELECT 1 AS grant, 2 AS create, (SELECT t.grant FROM t)\nCREATE INDEX i ON one (id)"
	m := &ddl.Message{Tag: "CREATE SCHEMA", Objects: []ddl.Object{{Type: "table", Name: "one"}, {Type: "schema", Name: "The Owner"}}}
	for sql, want := range map[string]string{
		"CREATE SCHEMA s":                                      "CREATE SCHEMA s",
		"CREATE SCHEMA IF NOT EXISTS s;":                       "CREATE SCHEMA IF NOT EXISTS s",
		"create schema s authorization x":                      "create schema s",
		"CREATE SCHEMA AUTHORIZATION current_role":             `CREATE SCHEMA "The Owner"`,
		"CREATE SCHEMA IF NOT EXISTS AUTHORIZATION x":          `CREATE SCHEMA IF NOT EXISTS "The Owner"`,
		"CREATE SCHEMA s " + elements:                          "CREATE SCHEMA s" + made,
		`CREATE SCHEMA s AUTHORIZATION "x" ` + elements:        "CREATE SCHEMA s" + made,
		"CREATE SCHEMA s GRANT USAGE ON SCHEMA s TO x":         "CREATE SCHEMA s",
		"CREATE SCHEMA s CREATE TABLE t (a text DEFAULT 'open": "CREATE SCHEMA s CREATE TABLE t (a text DEFAULT 'open",
	} {
		require.Equal(t, want, bareSchema(m, sql, true, true), sql)
	}
	require.Equal(t, "CREATE SCHEMA s AUTHORIZATION x"+made, bareSchema(m, "CREATE SCHEMA s AUTHORIZATION x "+elements, false, true))
	kept := bareSchema(m, "CREATE SCHEMA s AUTHORIZATION x "+elements, true, false)
	require.Contains(t, kept, "CREATE SCHEMA s\nCREATE TABLE")
	require.Contains(t, kept, "GRANT CREATE, USAGE ON SCHEMA s TO x WITH GRANT OPTION\nGRANT SELECT (id) ON one TO x\nCREATE VIEW")
}
