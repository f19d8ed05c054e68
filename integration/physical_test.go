package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// testPhysicalRecovery: PostgreSQL's own recovery of a base backup with archived WAL, to ten targets,
// gives the same data as ours.
func testPhysicalRecovery(t *testing.T, w *world, target *postgres.Server) {
	log := inside(w, w.archive.Log(t))
	require.Greater(t, len(log), 100)
	ends := transactionEnds(t, w)
	targets, reversed := timeTargets(log, ends, 7)
	require.NotZero(t, reversed, "no commit times run against commit order")
	t.Logf("%d of %d time targets lie where commit times run against commit order", reversed, len(targets))
	for range 3 {
		tx := log[rand.IntN(len(log))]
		targets = append(targets, physicalTarget{setting: "recovery_target_xid", theirs: fmt.Sprint(tx.XID),
			flag: "--to-xid", ours: fmt.Sprint(tx.XID), inclusive: rand.IntN(2) == 0})
	}
	for i, p := range targets {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			want := physicalRecovery(t, w, p)
			args := []string{p.flag, p.ours}
			if !p.inclusive {
				args = append(args, "--exclusive")
			}
			checkRestore(t, w.archive, target, want, args...)
		})
	}
}

// physicalTarget is a target in PostgreSQL's words and in ours.
type physicalTarget struct {
	setting, theirs string
	flag, ours      string
	inclusive       bool
}

// inside leaves out what a restore can't reach: the transactions before the first base snapshot, and
// the last, which no later one bounds.
func inside(w *world, log []harness.Transaction) []harness.Transaction {
	first := w.live[0].LSN
	i := sort.Search(len(log), func(i int) bool { return log[i].LSN >= first })
	return log[i : len(log)-1]
}

// physicalRecovery runs a physical recovery to a target and hashes what it gives.
func physicalRecovery(t *testing.T, w *world, p physicalTarget) workload.Hashes {
	s, err := postgres.Launch(postgres.Options{
		Populate: func(dataDir string) error {
			if err := postgres.CopyTree(w.backup)(dataDir); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dataDir, "recovery.signal"), nil, 0o600)
		},
		Settings: map[string]string{
			"archive_mode": "off", "restore_command": "cp " + w.wal + "/%f %p",
			p.setting: p.theirs, "recovery_target_inclusive": strconv.FormatBool(p.inclusive),
			"recovery_target_action": "promote",
		},
	})
	require.NoError(t, err)
	defer s.Close()
	require.Eventually(t, func() bool {
		if !s.Running() {
			return true
		}
		recovering, err := s.Query(context.Background(), "postgres", "SELECT pg_is_in_recovery()")
		return err == nil && recovering == "f"
	}, 3*time.Minute, 50*time.Millisecond, "recovery to %+v: %s", p, s.LogTail(1000))
	require.True(t, s.Running(), "recovery to %+v: %s", p, s.LogTail(1000))
	hashes, err := workload.HashDatabase(context.Background(), s.DSN("shop"))
	require.NoError(t, err)
	return hashes
}

// transactionEnd is a record that physical recovery may stop at: commits and aborts of any database.
type transactionEnd struct {
	lsn    segment.LSN
	time   segment.Timestamp
	commit bool
}

var endRecord = regexp.MustCompile(`lsn: ([0-9A-F/]+), .*desc: (COMMIT|ABORT)(?:_PREPARED)?.*?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC`)

// transactionEnds reads the ends of all transactions from the archived WAL, in WAL order.
func transactionEnds(t *testing.T, w *world) (ends []transactionEnd) {
	files, err := filepath.Glob(filepath.Join(w.wal, "0000000100000*[0-9A-F]"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	cmd := exec.Command(w.source.Path("pg_waldump"), "--path", w.wal, "--rmgr", "Transaction",
		filepath.Base(files[0]), filepath.Base(files[len(files)-1]))
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.Output()
	require.NoError(t, err)
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20) // a commit lists every invalidation
	for lines.Scan() {
		m := endRecord.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		lsn, err := segment.ParseLSN(m[1])
		require.NoError(t, err)
		at, err := time.Parse("2006-01-02 15:04:05.999999", m[3])
		require.NoError(t, err)
		ends = append(ends, transactionEnd{lsn, segment.TimestampOf(at), m[2] == "COMMIT"})
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, ends)
	return ends
}

// timeTargets draws times, first ones at which commit times run backwards, leaving out those where
// the two rules differ by design: recovery also stops at aborts and at commits that decode to nothing.
func timeTargets(log []harness.Transaction, ends []transactionEnd, n int) (targets []physicalTarget, reversed int) {
	var candidates []segment.Timestamp
	for i := 1; i < len(log); i++ {
		if log[i].Time < log[i-1].Time {
			candidates = append(candidates, log[i].Time)
		}
	}
	rand.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	backwards := len(candidates)
	for range 200 {
		i := rand.IntN(len(log) - 1)
		candidates = append(candidates, log[i].Time+segment.Timestamp(rand.Int64N(2)))
	}
	for i, at := range candidates {
		inclusive := rand.IntN(2) == 0
		if i < backwards && len(targets) >= n-2 || !sameStop(log, ends, at, inclusive) {
			continue
		}
		if i < backwards {
			reversed++
		}
		targets = append(targets, physicalTarget{setting: "recovery_target_time",
			theirs: at.Time().Format("2006-01-02 15:04:05.000000+00"), flag: "--to-time", ours: at.String(), inclusive: inclusive})
		if len(targets) == n {
			break
		}
	}
	return targets, reversed
}

// sameStop tells whether no archived commit lies between where recovery stops and where we do.
func sameStop(log []harness.Transaction, ends []transactionEnd, at segment.Timestamp, inclusive bool) bool {
	past := func(ts segment.Timestamp) bool { return ts > at || !inclusive && ts == at }
	theirs := segment.LSN(0)
	for _, e := range ends {
		if past(e.time) {
			theirs = e.lsn
			break
		}
	}
	ours := sort.Search(len(log), func(i int) bool { return log[i].LSN >= theirs })
	return theirs > log[0].LSN && ours < len(log) && past(log[ours].Time) && firstPast(log, past) == ours
}

func firstPast(log []harness.Transaction, past func(segment.Timestamp) bool) int {
	for i, tx := range log {
		if past(tx.Time) {
			return i
		}
	}
	return len(log)
}
