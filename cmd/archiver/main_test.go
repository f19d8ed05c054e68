package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"tidemark/internal/cli"
	"tidemark/internal/cli/clitest"
	"tidemark/internal/verify/testarchive"
	"tidemark/objectstore"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"archiver": main}) }

// TestScripts holds the command line to its contract where no server is needed.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			store, err := objectstore.Open(context.Background(), filepath.Join(e.WorkDir, "sample"))
			if err != nil {
				return err
			}
			testarchive.New(e.T().(testarchive.TB), store).Sample()
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": clitest.Exits},
		RequireExplicitExec: true,
	})
}

func TestFlagsAreKnownToSharedFiles(t *testing.T) {
	require.Empty(t, cli.Unlisted(&grammar{}))
}

func TestMonitoringEndpoint(t *testing.T) {
	m, addr, err := cli.Serve("127.0.0.1:0", prometheus.NewRegistry(), "yes", "no", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer m.Close()
	get := func(path string) (int, string) {
		res, err := http.Get("http://" + addr + path)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}
	code, _ := get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code, "ready before anything is protected")
	code, _ = get("/healthz")
	require.Equal(t, http.StatusOK, code, "liveness depends on nothing")
	m.Ready(true)
	code, body := get("/readyz")
	require.Equal(t, http.StatusOK, code, body)
	m.Ready(false)
	code, _ = get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	code, _ = get("/metrics")
	require.Equal(t, http.StatusOK, code)
}
