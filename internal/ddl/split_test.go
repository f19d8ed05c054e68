package ddl_test

import (
	"context"
	"math/rand"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// pieces are statements as the scanner sees them: what is between quotes is there to mislead.
var pieces = []string{
	"CREATE TABLE a (b int)", "SELECT ';'", "SELECT 'it''s;'", `SELECT E'\';'`, `SELECT E'\\'`, `SELECT e'a''\';b'`, `SELECT '\'`, `SELECT U&'\0041;' UESCAPE '!'`, `SELECT "a;""b;"`, `SELECT U&"d\0061;t"`,
	"SELECT $$;$$", "SELECT $a$ ; $$ ; $b$ ; $a$", "SELECT $a$x$b$a$", "SELECT $a$$a$", "SELECT $$$$", "SELECT $é$;$é$", "SELECT a$b$c FROM d$$", "SELECT $1, $2", "SELECT x$y$ , ';' , $z$;$z$",
	"SELECT /* ; ' */ 1", "SELECT /* /* ; */ ; \" */ 1", "SELECT -- ; '\n 1", "SELECT 1 - -1", "SELECT 2*/*;*/3", "SELECT 'a'\n  'b;'", "SELECT E'a'\n '\\';b'", "SELECT 'a' -- x;\n 'b;'",
	"SELECT (1); ", "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
	"CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC ; END", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$SELECT 1;$$LANGUAGE", "SELECT B'1', X'f', N'x;'", "BEGIN", "END", "SELECT CASE WHEN 1 = 1 THEN 2 END", "SELECT 'ü;', \"ö;\"",
	"SELECT a/b, c*d, e-f", "SELECT 1e5::int, 0.5, .5", "SELECT '/*;', '--;', \"--\"", "SELECT '\n;\n'",
}

// testSplit joins statements at random and expects them back.
func testSplit(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "split", "", ddl.Options{})
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	between := []string{";", " ; ", ";\n", ";;", "; -- x;'\n", ";/* ;' */", " -- \"\n;", ";\t/* /* */ ; */\n"}
	for range 150 {
		var text string
		var want []string
		for range 1 + r.Intn(8) {
			p := pieces[r.Intn(len(pieces))]
			text += p + between[r.Intn(len(between))]
			want = append(want, strings.TrimRight(p, "; "))
		}
		var got []string
		var complete bool
		err := s.conn.QueryRow(context.Background(), `SELECT ARRAY(SELECT substr($1, u.s, u.l) FROM unnest(d.starts, d.lens) WITH ORDINALITY AS u(s, l, n) ORDER BY u.n), d.complete
			FROM tidemark.ddl_split($1, true) d`, text).Scan(&got, &complete)
		require.NoError(t, err)
		require.True(t, complete, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"SELECT 'a", "SELECT $a$ x $$", "SELECT (1", "SELECT \"x", "SELECT /* /* */", "SELECT 1)"} {
		var complete bool
		require.NoError(t, s.conn.QueryRow(context.Background(), "SELECT complete FROM tidemark.ddl_split($1, true)", text).Scan(&complete))
		require.False(t, complete, text)
	}
	for text, want := range map[string][]string{`SELECT 'a\';b'; SELECT 2`: {`SELECT 'a\';b'`, "SELECT 2"}, `SELECT 'a\\'; SELECT 2`: {`SELECT 'a\\'`, "SELECT 2"}} {
		var got []string
		require.NoError(t, s.conn.QueryRow(context.Background(), "SELECT ARRAY(SELECT substr($1, u.s, u.l) FROM unnest(d.starts, d.lens) AS u(s, l)) FROM tidemark.ddl_split($1, false) d", text).Scan(&got))
		require.Equal(t, want, got)
	}
}
