package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplitPatterns(t *testing.T) {
	for text, want := range map[string][]string{
		"a":                {"a"},
		"a,public.b*":      {"a", "public.b*"},
		`public."a,b",c`:   {`public."a,b"`, "c"},
		`public."a"",b"`:   {`public."a"",b"`},
		`public.a\,b,c`:    {"public.a,b", "c"},
		`a"b,c`:            {`a"b`, "c"},
		`"a","b"`:          {`"a"`, `"b"`},
		`public.a\*,"x.y"`: {`public.a\*`, `"x.y"`},
	} {
		require.Equal(t, want, splitPatterns(text), text)
	}
}
