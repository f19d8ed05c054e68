package segment

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, namespace, name string
		want                     bool
	}{
		{"public.orders", "public", "orders", true},
		{"public.orders", "shop", "orders", false},
		{"orders", "shop", "orders", true},
		{"orders", "shop", "orders_2", false},
		{"public.*", "public", "a/b", true},
		{"public.*", "public", "a.b", true},
		{"public.*", "public", "a\nb", true},
		{"*.events_*", "x", "events_1", true},
		{"*.events_*", "x", "event", false},
		{"public.order?", "public", "orders", true},
		{"public.[n-p]rders", "public", "orders", true},
		{"public.[^o]rders", "public", "orders", false},
		{`a\*b`, "public", "a*b", true},
		{`a\*b`, "public", "axb", false},
		{"odd.schema.t", "odd.schema", "t", true},
		{`"odd.schema".t`, "odd.schema", "t", true},
		{`"odd.schema".t`, "odd", "schema.t", false},
		{`"odd.schema".*`, "odd.schema", "x", true},
		{`"odd.schema".*`, "odd", "schema.x", false},
		{`"Weird".x`, "Weird", "x", true},
		{`public."Mixed"`, "public", "Mixed", true},
		{`"Mixed"`, "any", "Mixed", true},
		{`public."a""b.c"`, "public", `a"b.c`, true},
		{`public."""a"""`, "public", `"a"`, true},
		{`public."a*b"`, "public", "a*b", true},
		{`public."a*b"`, "public", "axb", false},
		{`public."a["`, "public", "a[", true},
		{`public."a,b"`, "public", "a,b", true},
		{`public.a"b`, "public", `a"b`, true},
		{`public."a"b`, "public", `"a"b`, true},
	} {
		p, err := ParsePattern(c.pattern)
		require.NoError(t, err, c.pattern)
		require.Equal(t, c.want, p.Match(c.namespace, c.name), "%s of %q.%q", c.pattern, c.namespace, c.name)
	}
	for _, bad := range []string{"", ".", "a.", ".a", "[a", "[]", "[z-a]", `a\`, "a\xff"} {
		_, err := ParsePattern(bad)
		require.Error(t, err, bad)
	}
}

// TestPatternsTakeNamesAsReported, whatever is in them.
func TestPatternsTakeNamesAsReported(t *testing.T) {
	for _, name := range []string{"plain", "Mixed Case", "a.b", `a"b`, `"`, `a""b.c`, "a/b", "a'b", "a,b", "ключ 🐘"} {
		p, err := ParsePattern(QualifiedName("some.schema", name))
		require.NoError(t, err)
		require.True(t, p.Match("some.schema", name), name)
		require.False(t, p.Match("some.schema", name+"x"), name)
	}
}
