package apply

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

func TestRenameOf(t *testing.T) {
	for sql, want := range map[string]*rename{
		`ALTER SCHEMA a RENAME TO b`:                               {namespace: "a", toNamespace: "b"},
		"/* x; */ -- y\nalter schema \"Odd \"\"N.\" rename to B ;": {namespace: `Odd "N.`, toNamespace: "b"},
		`ALTER TYPE public."Mood" RENAME TO feeling`:               {namespace: "public", name: "Mood", toNamespace: "public", toName: "feeling"},
		`ALTER DOMAIN percent RENAME TO ratio`:                     {namespace: "", name: "percent", toNamespace: "", toName: "ratio"},
		`ALTER TYPE mood RENAME VALUE 'a' TO 'b'`:                  nil,
		`ALTER TYPE pair RENAME ATTRIBUTE x TO y`:                  nil,
		`ALTER DOMAIN d RENAME CONSTRAINT x TO y`:                  nil,
		`ALTER SCHEMA a OWNER TO b`:                                nil,
	} {
		tag := "ALTER SCHEMA"
		require.Equal(t, want, renameOf(&ddl.Message{Tag: tag, SQL: sql}), sql)
	}
	require.Nil(t, renameOf(&ddl.Message{Tag: "ALTER TABLE", SQL: "ALTER TABLE a RENAME TO b"}))
	m := &ddl.Message{Tag: "ALTER TYPE", SQL: "ALTER TYPE mood RENAME TO feeling", Objects: []ddl.Object{{Type: "type", Schema: "shop", Name: "feeling"}}}
	require.Equal(t, &rename{"shop", "mood", "shop", "feeling"}, renameOf(m))
}

func TestNamesAsTheyAreNow(t *testing.T) {
	h := &holds{renamed: []rename{{"a", "", "b", ""}, {"b", "mood", "b", "feeling"}, {"b", "", "c", ""}}}
	require.Equal(t, "c", h.schemaNow("a"))
	require.Equal(t, "x", h.schemaNow("x"))
	namespace, name := h.typeNow("a", "mood")
	require.Equal(t, "c.feeling", namespace+"."+name)
	namespace, name = h.typeNow("a", "_mood")
	require.Equal(t, "c._feeling", namespace+"."+name)
	namespace, name = h.typeNow("b", "other")
	require.Equal(t, "c.other", namespace+"."+name)
}
