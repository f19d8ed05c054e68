package sqltext

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzTokens(f *testing.F) {
	for _, s := range []string{`a.b 'c''' E'\'' $x$ $ $x$ --`, `/*/**/*/ "q""" 1.5e3 $1 U&"d" u&'x' a$b`} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, conforming bool) {
		all, err := Tokens(s, conforming)
		if err != nil {
			return
		}
		for _, tok := range all {
			require.NotEmpty(t, tok.Text)
		}
		require.Equal(t, s, Join(all))
	})
}
