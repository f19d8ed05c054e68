package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"tidemark/internal/cli"
	"tidemark/internal/cli/clitest"
	"tidemark/internal/verify/testarchive"
	"tidemark/objectstore"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"restorer": main}) }

// TestScripts runs the program on an archive that was made without a database: testarchive.Sample.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("TIDEMARK_ARCHIVE", filepath.Join(e.WorkDir, "archive"))
			store, err := objectstore.Open(context.Background(), filepath.Join(e.WorkDir, "archive"))
			if err != nil {
				return err
			}
			testarchive.New(e.T().(testarchive.TB), store).Sample()
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": clitest.Exits, "flip": flip},
		RequireExplicitExec: true,
	})
}

// flip flips a bit in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.Remove(path))
	ts.Check(os.WriteFile(path, data, 0o600))
}

// TestOneFileServesBothBinaries: every setting is known to the other binary, too.
func TestOneFileServesBothBinaries(t *testing.T) {
	require.Empty(t, cli.Unlisted(&grammar{}))
}
