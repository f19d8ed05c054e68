package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. It is written with a unit: 32MiB (1024-based), 32MB (1000-based), 4096.
type Size int64

var units = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// UnmarshalText reads a size. Negative sizes and unknown units are errors.
func (s *Size) UnmarshalText(text []byte) error {
	word := strings.TrimSpace(string(text))
	digits := strings.TrimRight(word, "kKMGTiB ")
	unit := strings.TrimSpace(word[len(digits):])
	n, err := strconv.ParseFloat(digits, 64)
	for _, u := range units {
		if err == nil && u.name == unit && n >= 0 && n*u.bytes < math.MaxInt64 {
			*s = Size(n * u.bytes)
			return nil
		}
	}
	return fmt.Errorf("%q is not a size such as 32MiB, 500kB or 4096", word)
}

// MarshalText writes the form that String gives.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String returns the size with the largest 1024-based unit of which there is at least one and one
// decimal where it is not a whole number: 32 MiB, 1.5 GiB, 300 B.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		n := float64(s) / units[i].bytes
		if n >= 1 || n <= -1 {
			return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0") + " " + units[i].name
		}
	}
	return strconv.FormatInt(int64(s), 10) + " B"
}
