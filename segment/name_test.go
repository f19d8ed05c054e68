package segment

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzQualifiedName(f *testing.F) {
	f.Add("a.b", "c", "a", "b.c")
	f.Add(`a"`, `".b`, `a".`, `"b`)
	f.Add("public", "orders", "", "")
	f.Fuzz(func(t *testing.T, namespace, name, otherNamespace, otherName string) {
		q := QualifiedName(namespace, name)
		gotNamespace, gotName := SplitName(q)
		require.Equal(t, namespace, gotNamespace, q)
		require.Equal(t, name, gotName, q)
		if namespace != otherNamespace || name != otherName {
			require.NotEqual(t, q, QualifiedName(otherNamespace, otherName))
		}
	})
}

func TestQualifiedNameQuotesOnlyWhatItMust(t *testing.T) {
	require.Equal(t, "public.my orders", QualifiedName("public", "my orders"))
	require.Equal(t, `"a.b".c`, QualifiedName("a.b", "c"))
}
