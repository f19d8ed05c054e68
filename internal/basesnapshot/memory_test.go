package basesnapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
)

// memoryVariable makes this test binary the process whose memory is measured: "DSN folder".
const memoryVariable = "BASESNAPSHOT_MEMORY"

// TestMemoryStaysFlatForHugeValues copies two rows of 256 MiB of text each at the same time, in a process of its own.
func TestMemoryStaysFlatForHugeValues(t *testing.T) {
	if job := os.Getenv(memoryVariable); job != "" {
		dsn, folder, _ := strings.Cut(job, " ")
		takeAndRead(t, dsn, folder)
		return
	}
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE a (v bytea); CREATE TABLE b (v bytea); ALTER TABLE a ALTER v SET STORAGE EXTERNAL; ALTER TABLE b ALTER v SET STORAGE EXTERNAL")
	for _, table := range []string{"a", "b"} {
		testServer().MustExec(t, name, "INSERT INTO "+table+" SELECT string_agg(sha512(('"+table+"' || i)::bytea), '') FROM generate_series(1, 2097152) i")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryStaysFlatForHugeValues$", "-test.v")
	cmd.Env = append(os.Environ(), memoryVariable+"="+dsn+" "+t.TempDir())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	m := regexp.MustCompile(`peak (\d+) kB`).FindSubmatch(out)
	require.NotNil(t, m, string(out))
	peak, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	t.Logf("peak of resident memory: %d MiB", peak>>10)
	require.Less(t, peak>>10, 80)
}

func takeAndRead(t *testing.T, dsn, folder string) {
	const text = 2*128<<20 + 4 // of a row
	store, err := objectstore.Open(context.Background(), folder)
	require.NoError(t, err)
	_, m := take(t, options(dsn, store))
	require.EqualValues(t, text, tableOf(t, m, "public.b").RawBytes)
	for _, table := range m.Tables {
		r, err := OpenChunk(context.Background(), store, table.Chunks[0])
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, r)
		require.NoError(t, err)
		require.EqualValues(t, text, n)
	}
	fmt.Printf("peak %d kB\n", peakResident(t))
}

// peakResident returns the largest resident memory that the process has had, in KiB; 0 where the system
// doesn't tell (not Linux).
func peakResident(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/status")
	if os.IsNotExist(err) {
		return 0
	}
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int
	_, err = fmt.Sscan(rest, &kib)
	require.NoError(t, err)
	return kib
}
