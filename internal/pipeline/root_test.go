package pipeline

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRootsThatCantBeWrittenAreSaid: roots only repeat the log, so archiving goes on without them; but
// whoever reads the archiver's log must learn of it.
func TestRootsThatCantBeWrittenAreSaid(t *testing.T) {
	w := newWorld(t, nil)
	w.store.OnPut(func(key string) error {
		if strings.HasPrefix(key, "catalog/root/") {
			return errors.New("no roots today")
		}
		return nil
	})
	r := w.start(func(c *Config) { c.Until = "current" })
	require.NoError(t, r.wait())
	require.Contains(t, r.log.String(), "no roots today")
}
