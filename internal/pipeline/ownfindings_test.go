package pipeline

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckNamesWhatIsInTheWayOfTheCapture(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	found := func() (ids []string) {
		findings, err := Check(t.Context(), w.cfg)
		require.NoError(t, err)
		for _, f := range findings {
			if f.ID == "event_trigger_order" || f.ID == "schema_tidemark" {
				ids = append(ids, f.ID+" "+f.Object)
				w.exec(f.Fix)
			}
		}
		return ids
	}
	require.Empty(t, found())
	w.exec(`CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER "000 first" ON ddl_command_end EXECUTE FUNCTION e();
CREATE EVENT TRIGGER later ON ddl_command_end EXECUTE FUNCTION e(); CREATE TABLE tidemark.mine (id serial PRIMARY KEY); CREATE FUNCTION tidemark.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
	require.Equal(t, []string{`event_trigger_order "000 first"`, "schema_tidemark tidemark.mine", "schema_tidemark tidemark.mine()"}, found())
	require.Empty(t, found(), "the fixes mend it")
}
