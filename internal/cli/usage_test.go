package cli

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
)

// TestHintOfAStoreThatDenies is about what denied it: a file's rights or credentials.
func TestHintOfAStoreThatDenies(t *testing.T) {
	for want, err := range map[string]error{
		"ls -l":             fmt.Errorf("%w: %w", objectstore.ErrDenied, syscall.EACCES),
		"read and write":    fmt.Errorf("%w: %w", objectstore.ErrDenied, syscall.EROFS),
		"AWS_ACCESS_KEY_ID": objectstore.ErrDenied,
	} {
		var b strings.Builder
		PrintError(&b, err)
		require.Contains(t, b.String(), want)
		require.Equal(t, want == "AWS_ACCESS_KEY_ID", strings.Contains(b.String(), "AWS"))
	}
}
