package apply

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

func TestTablespaceIsLeftOutAlone(t *testing.T) {
	for sql, want := range map[string]string{
		`ALTER TABLE t SET TABLESPACE "fa st"`:                           "",
		`alter table only s."T t" * set tablespace fast nowait;`:         "",
		"ALTER INDEX IF EXISTS s.i SET TABLESPACE fast":                  "",
		"ALTER TABLE ALL IN TABLESPACE a OWNED BY b SET TABLESPACE fast": "",
		"ALTER TABLE t ADD COLUMN c int, SET TABLESPACE fast":            "ALTER TABLE t ADD COLUMN c int",
		"ALTER TABLE t SET TABLESPACE fast, ADD COLUMN c int":            "ALTER TABLE t  ADD COLUMN c int",
		"CREATE TABLE t (a int PRIMARY KEY USING INDEX TABLESPACE fast)": "CREATE TABLE t (a int PRIMARY KEY )",
		"CREATE TABLE t (a int) TABLESPACE fast":                         "CREATE TABLE t (a int) ",
	} {
		require.Equal(t, want, withoutTablespace(sql), sql)
	}
}

// TestStatementIsMadeWithoutItsTablespace: the rest of it is.
func TestStatementIsMadeWithoutItsTablespace(t *testing.T) {
	d := newTarget(t, "tablespaces")
	e := &execution{schema: &Schema{NoOwner: true}}
	conn, err := d.connect(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	e.session = new(sessionState)
	require.NoError(t, e.session.read(t.Context(), conn))
	_, err = conn.Exec(t.Context(), "BEGIN").ReadAll()
	require.NoError(t, err)
	e.message = &ddl.Message{Tag: "ALTER TABLE", SQL: "ALTER TABLE public.numbers ADD COLUMN c int, SET TABLESPACE nowhere", User: "postgres"}
	require.NoError(t, e.attempts(t.Context(), conn, e.message.SQL))
	e.message = &ddl.Message{Tag: "ALTER TABLE", SQL: "ALTER TABLE public.numbers SET TABLESPACE nowhere", User: "postgres"}
	require.NoError(t, e.attempts(t.Context(), conn, e.message.SQL))
	_, err = conn.Exec(t.Context(), "COMMIT").ReadAll()
	require.NoError(t, err)
	require.Equal(t, "1", d.value("select count(*)::text from pg_attribute where attrelid = 'numbers'::regclass and attname = 'c'"))
}
