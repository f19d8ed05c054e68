// Package integration holds the tests that need real servers and the built programs: what Tidemark
// promises, checked from outside.
package integration

import (
	"os"
	"testing"

	"tidemark/integration/harness"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.RemovePrograms()
	os.Exit(code)
}
