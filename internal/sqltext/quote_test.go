package sqltext

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuotes(t *testing.T) {
	require.Equal(t, `"plain"`, QuoteIdent("plain"))
	require.Equal(t, `"a ""b"".c"`, QuoteIdent(`a "b".c`))
	require.Equal(t, `"s"."n"`, QuoteName("s", "n"))
	require.Equal(t, `"n"`, QuoteName("", "n"))
	require.Equal(t, `'it''s'`, QuoteLiteral("it's"))
	require.Equal(t, ` E'C:\\it''s'`, QuoteLiteral(`C:\it's`))
}
