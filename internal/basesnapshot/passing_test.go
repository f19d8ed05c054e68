package basesnapshot

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFunctionsOverTemporaryTypesAreLeftOut: nobody else could make them.
func TestFunctionsOverTemporaryTypesAreLeftOut(t *testing.T) {
	name, dsn := newDatabase(t)
	conn := testServer().Connect(t, name)
	_, err := conn.Exec(t.Context(), `CREATE TEMP TABLE passing (a int);
		CREATE FUNCTION of_passing(passing) RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON FUNCTION of_passing(passing) IS 'gone soon';
		CREATE FUNCTION stays() RETURNS int LANGUAGE sql AS 'SELECT 1 /* pg_temp_3.passing */'`)
	require.NoError(t, err)
	_, m := take(t, options(dsn, newStore(t)))
	has := func(kind, name string) bool {
		return slices.ContainsFunc(m.Schema, func(it SchemaItem) bool { return it.Kind == kind && it.Name == name })
	}
	require.True(t, has("FUNCTION", "stays()"))
	for _, it := range m.Schema {
		require.NotContains(t, it.Name, "of_passing")
	}
}
