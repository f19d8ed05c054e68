package pitr

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestListSaysWhatItDoesNotHold: a table that was made later and that the archive's list leaves out comes back without rows.
func TestListSaysWhatItDoesNotHold(t *testing.T) {
	w := newListedWorld(t, "by_list", "CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)", "FOR TABLE app.a", "app.*")
	w.changes("INSERT INTO app.a VALUES (1)")
	w.archive()
	const note = "the archive holds rows of tables that match app.*: others that were made after the base snapshot have none"
	rep := w.restore(Target{Kind: ToLatest}, "by_list_1", nil)
	require.NotContains(t, rep.Notes, note)
	require.Contains(t, strings.Join(rep.Notes, " "), "unpublished table public.other")
	w.changes(".CREATE TABLE later (id int PRIMARY KEY)", "INSERT INTO later VALUES (1)")
	w.archive()
	rep = w.restore(Target{Kind: ToLatest}, "by_list_2", nil)
	require.Contains(t, rep.Notes, note)
}
