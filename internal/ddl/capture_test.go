package ddl_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

func TestCapture(t *testing.T) {
	server := postgres.Start(t, postgres.Options{})
	t.Run("forms", func(t *testing.T) { testForms(t, server) })
	t.Run("kinds", func(t *testing.T) { testKinds(t, server, "alone", "string", "execute") })
	t.Run("made", func(t *testing.T) { testMade(t, server) })
	t.Run("temporary", func(t *testing.T) { testTemporary(t, server) })
	t.Run("inexact", func(t *testing.T) { testInexact(t, server) })
	t.Run("bounds", func(t *testing.T) { testBounds(t, server) })
	t.Run("secrets", func(t *testing.T) { testSecrets(t, server) })
	t.Run("users", func(t *testing.T) { testUsers(t, server) })
	t.Run("nothing to revoke", func(t *testing.T) { testNothingToRevoke(t, server) })
	t.Run("grants of the moment", func(t *testing.T) { testGrantsOfTheMoment(t, server) })
	t.Run("install", func(t *testing.T) { testInstall(t, server) })
	t.Run("privilege", func(t *testing.T) { testNoPrivilege(t, server) })
	t.Run("identities", func(t *testing.T) { testIdentities(t, server) })
	t.Run("encodings", func(t *testing.T) { testEncodings(t, server) })
	t.Run("long", func(t *testing.T) { testLong(t, server) })
	t.Run("odd", func(t *testing.T) { testOdd(t, server) })
	t.Run("unseen", func(t *testing.T) { testUnseen(t, server) })
	t.Run("extension rows", func(t *testing.T) { testExtensionRows(t, server) })
	t.Run("sessions", func(t *testing.T) { testSessions(t, server) })
	t.Run("split", func(t *testing.T) { testSplit(t, server) })
	t.Run("order", func(t *testing.T) { testOrder(t, server) })
	t.Run("settings", func(t *testing.T) { testSettings(t, server) })
	t.Run("abbreviations", func(t *testing.T) { testAbbreviations(t, server) })
	t.Run("fixed snapshot", func(t *testing.T) { testFixedSnapshot(t, server) })
	t.Run("from current", func(t *testing.T) { testFromCurrent(t, server) })
	t.Run("locks", func(t *testing.T) { testLocks(t, server) })
	t.Run("attacks", func(t *testing.T) { testAttacks(t, server) })
}

// TestOtherVersions captures on the oldest and the newest server.
func TestOtherVersions(t *testing.T) {
	for _, version := range []string{"14", "18"} {
		t.Run(version, func(t *testing.T) {
			server := postgres.Start(t, postgres.Options{Version: version})
			t.Run("forms", func(t *testing.T) { testForms(t, server) })
			t.Run("kinds", func(t *testing.T) { testKinds(t, server, "string") })
			t.Run("made", func(t *testing.T) { testMade(t, server) })
			t.Run("inexact", func(t *testing.T) { testInexact(t, server) })
			t.Run("identities", func(t *testing.T) { testIdentities(t, server) })
			if version == "18" {
				t.Run("switched off", func(t *testing.T) { testSwitchedOff(t, server) })
			}
		})
	}
}

// testForms runs statements in all the forms in which they can come.
func testForms(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "forms", "", ddl.Options{})
	var all []*ddl.Message
	for _, c := range formCases {
		if c.extended {
			s.extended(c.run)
		} else {
			s.must(c.run)
		}
		messages := s.messages()
		require.Equal(t, c.want, sqls(messages), c.run)
		all = append(all, messages...)
	}
	s.sameAfterReplay(all, "")
}

type formCase struct {
	run      string
	extended bool
	want     []string
}

var formCases = []formCase{
	{run: "CREATE TABLE alone (id int PRIMARY KEY, t text)", want: []string{"CREATE TABLE alone (id int PRIMARY KEY, t text)"}},
	{run: "ALTER TABLE alone ADD COLUMN c int", extended: true, want: []string{"ALTER TABLE alone ADD COLUMN c int"}},
	{run: "-- first; a comment\n/* and ; another */ CREATE TABLE c1 (a int) ; -- behind\n", want: []string{"CREATE TABLE c1 (a int)"}},
	{
		run:  "CREATE TABLE m1 (a int); INSERT INTO m1 VALUES (1); CREATE INDEX ON m1 (a); SELECT 1; ALTER TABLE m1 RENAME a TO \"B;\"; CREATE ROLE nobody_special; GRANT SELECT ON m1 TO PUBLIC;;",
		want: []string{"CREATE TABLE m1 (a int)", "CREATE INDEX m1_a_idx ON m1 (a)", "ALTER TABLE m1 RENAME a TO \"B;\"", "GRANT SELECT ON m1 TO PUBLIC"},
	},
	{
		run:  "BEGIN; CREATE TABLE s1 (a int); SAVEPOINT p; CREATE TABLE s2 (a int); ROLLBACK TO p; CREATE TABLE s3 (a int); SAVEPOINT q; CREATE TABLE s4 (a int); RELEASE q; CREATE TABLE s5 (a int); COMMIT; CREATE TABLE s6 (a int)",
		want: []string{"CREATE TABLE s1 (a int)", "CREATE TABLE s3 (a int)", "CREATE TABLE s4 (a int)", "CREATE TABLE s5 (a int)", "CREATE TABLE s6 (a int)"},
	},
	{run: "BEGIN; CREATE TABLE gone (a int); ROLLBACK", want: []string{}},
	{run: "DO $$ BEGIN CREATE TABLE d1 (a int); ALTER TABLE d1 ADD b text DEFAULT 'it''s; x'; END $$", want: []string{"CREATE TABLE d1 (a int)", "ALTER TABLE d1 ADD b text DEFAULT 'it''s; x'"}},
	{
		run:  "DO $$ BEGIN EXECUTE 'CREATE TABLE e1 (a int)'; EXECUTE 'CREATE TABLE e2 (a int); CREATE TABLE e3 (a int); COMMENT ON TABLE e2 IS ''x;y'''; END $$; CREATE TABLE e4 (a int)",
		want: []string{"CREATE TABLE e1 (a int)", "CREATE TABLE e2 (a int)", "CREATE TABLE e3 (a int)", "COMMENT ON TABLE e2 IS 'x;y'", "CREATE TABLE e4 (a int)"},
	},
	{
		run:  "DO $$ BEGIN FOR i IN 1..2 LOOP EXECUTE format('CREATE TABLE l%s (a int); CREATE TABLE k%s (a int)', i, i); EXECUTE 'CREATE TABLE again (a int); DROP TABLE again'; END LOOP; END $$",
		want: []string{"CREATE TABLE l1 (a int)", "CREATE TABLE k1 (a int)", "CREATE TABLE again (a int)", "DROP TABLE again", "CREATE TABLE l2 (a int)", "CREATE TABLE k2 (a int)", "CREATE TABLE again (a int)", "DROP TABLE again"},
	},
	{
		run:  "DO $$ BEGIN FOR i IN 1..2 LOOP BEGIN EXECUTE 'CREATE TABLE x1 (a int); CREATE TABLE x2 (a int); SELECT 1/0'; EXCEPTION WHEN division_by_zero THEN CREATE TABLE IF NOT EXISTS x3 (a int); END; END LOOP; END $$",
		want: []string{"CREATE TABLE IF NOT EXISTS x3 (a int)"},
	},
	{
		run:  "CREATE FUNCTION f1() RETURNS void LANGUAGE sql AS $$ CREATE TABLE fs1 (a int); ; COMMENT ON TABLE fs1 IS 'c'; $$; SELECT f1()",
		want: []string{"CREATE FUNCTION f1() RETURNS void LANGUAGE sql AS $$ CREATE TABLE fs1 (a int); ; COMMENT ON TABLE fs1 IS 'c'; $$", "CREATE TABLE fs1 (a int)", "COMMENT ON TABLE fs1 IS 'c'"},
	},
}
