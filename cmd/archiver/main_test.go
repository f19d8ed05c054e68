package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"tidemark/internal/cli"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"archiver": main}) }

// TestScripts holds the command line to its contract where no server is needed.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		RequireExplicitExec: true,
	})
}

// exits runs a command and checks its exit code: exits 2 archiver run.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		code = fmt.Sprint(exit.ExitCode())
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s (%v)", code, args[0], err)
	}
}

func TestFlagsAreKnownToSharedFiles(t *testing.T) {
	require.Empty(t, cli.Unlisted(&grammar{}))
}

func TestMonitoringEndpoint(t *testing.T) {
	m, addr, err := serve("127.0.0.1:0", prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer m.close()
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
	m.ready(true)
	code, body := get("/readyz")
	require.Equal(t, http.StatusOK, code, body)
	m.ready(false)
	code, _ = get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	code, _ = get("/metrics")
	require.Equal(t, http.StatusOK, code)
}
