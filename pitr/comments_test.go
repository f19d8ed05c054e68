package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Comments on publications come after them, and those on what is left out are left out.
func TestCommentsOnPublicationsAndSubscriptions(t *testing.T) {
	w := newWorld(t, "commented", `
CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION "Their ""p" FOR TABLE t; COMMENT ON PUBLICATION "Their ""p" IS 'of t';
CREATE SUBSCRIPTION "Their s" CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE); COMMENT ON SUBSCRIPTION "Their s" IS 'from there'`)
	w.sql("COMMENT ON PUBLICATION " + testPublication + " IS 'the archiver''s'")
	w.snapshot()
	w.sql("INSERT INTO t VALUES (1)")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "commented_into", nil)
	w.sameRows("commented_into")
	require.Equal(t, "Their \"p: of t", server.MustQuery(t, "commented_into", "select string_agg(pubname || ': ' || obj_description(oid, 'pg_publication'), ', ') from pg_publication"))
}
