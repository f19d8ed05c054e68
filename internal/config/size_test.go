package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizes(t *testing.T) {
	for in, want := range map[string]Size{
		"32MiB": 32 << 20, "32 MiB": 32 << 20, "1.5GiB": 3 << 29, "500kB": 500e3, "4096": 4096, "10B": 10, "0": 0,
	} {
		var s Size
		require.NoError(t, s.UnmarshalText([]byte(in)), in)
		require.Equal(t, want, s, in)
	}
	for _, in := range []string{"", "MiB", "32MiBs", "-1", "1e99", "32Mi", "lots"} {
		var s Size
		require.ErrorContains(t, s.UnmarshalText([]byte(in)), "is not a size", in)
	}
}

func TestSizesPrint(t *testing.T) {
	for s, want := range map[Size]string{0: "0 B", 300: "300 B", 1 << 20: "1 MiB", 3 << 29: "1.5 GiB", 5 << 40: "5 TiB"} {
		require.Equal(t, want, s.String())
	}
}
