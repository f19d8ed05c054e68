package apply

import (
	"testing"

	"github.com/stretchr/testify/require"
)

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
