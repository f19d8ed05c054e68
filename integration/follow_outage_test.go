package integration

import (
	"bufio"
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
	"tidemark/internal/testserver/s3"
	"tidemark/segment"
)

var servingAt = regexp.MustCompile(`msg="serving metrics" addr=(\S+)`)

// metricsOf reads what a process exports.
func metricsOf(t *testing.T, p *harness.Process) map[string]float64 {
	t.Helper()
	var addr []string
	p.WaitFor(t, "metrics", time.Minute, func() bool { addr = servingAt.FindStringSubmatch(p.Stderr()); return addr != nil })
	resp, err := http.Get("http://" + addr[1] + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && strings.HasPrefix(name, "tidemark_follow_") {
			values[strings.TrimPrefix(name, "tidemark_follow_")], err = strconv.ParseFloat(value, 64)
			require.NoError(t, err)
		}
	}
	return values
}

func isReady(t *testing.T, p *harness.Process) bool {
	t.Helper()
	resp, err := http.Get("http://" + servingAt.FindStringSubmatch(p.Stderr())[1] + "/readyz")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode == http.StatusOK
}

// TestFollowSurvivesOutages takes the store and the target away from a running follower, looks at what it says of itself, and
// lets it go on from a copy of the archive in another place.
func TestFollowSurvivesOutages(t *testing.T) {
	t.Parallel()
	source, target := postgres.Start(t, postgres.Options{}), postgres.Start(t, postgres.Options{})
	dsn, into := source.CreateDatabase(t, "source"), target.DSN("standby")
	source.MustExec(t, "source", "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp()); INSERT INTO t VALUES (0)")
	store := s3.Start(t)
	proxy := harness.StartProxy(t, store.Address)
	at := func(address string) harness.Archive {
		return harness.Archive{Source: dsn, Env: store.Environ(), URL: "s3://" + s3.Bucket + "/followed?region=" + s3.Region + "&endpoint=" + url.QueryEscape("http://"+address)}
	}
	archive, far := at(store.Address), at(proxy.Address)
	run := archive.StartRun(t, "--segment-max-age", "200ms")
	archive.WaitProtected(t, run)
	f := harness.Start(t, far.Restorer("follow", "--into", into, "--create", "--listen", "127.0.0.1:0"))
	count := func() string {
		n, err := target.Query(context.Background(), "standby", "SELECT count(*)::text FROM t")
		if err != nil {
			return ""
		}
		return n
	}
	n := 0
	insert := func(rows int) segment.LSN {
		for range rows {
			n++
			source.MustExec(t, "source", "INSERT INTO t VALUES ("+strconv.Itoa(n)+")")
		}
		lsn, err := segment.ParseLSN(source.MustQuery(t, "source", "SELECT pg_current_wal_flush_lsn()"))
		require.NoError(t, err)
		archive.WaitArchived(t, run, lsn)
		return lsn
	}
	followed := func() {
		t.Helper()
		f.WaitFor(t, "apply all", 2*time.Minute, func() bool { return count() == strconv.Itoa(n+1) })
	}
	insert(3)
	followed()
	require.True(t, isReady(t, f))

	targetDown, targetUp := func() { require.NoError(t, target.Stop(postgres.Immediate)) }, func() { require.NoError(t, target.Run()) }
	for name, outage := range map[string]struct{ cut, mend func() }{
		"store refuses":        {proxy.Refuse, func() { proxy.Accept(t) }},
		"store is mute":        {func() { proxy.Blackhole(t) }, proxy.Heal},
		"target is down":       {targetDown, targetUp},
		"target is down again": {targetDown, targetUp},
	} {
		before := metricsOf(t, f)
		outage.cut()
		insert(3)
		if name == "store refuses" {
			// The archive as the follower reaches it can't be read: status says so, and what was last seen.
			s := followStatus(t, far, into)
			require.False(t, s.ArchiveRead)
			require.Equal(t, "following", s.State)
			require.Less(t, s.AppliedLSN, followStatus(t, archive, into).ArchiveEndLSN)
		}
		f.WaitFor(t, "notice that "+name, 2*time.Minute, func() bool {
			now := metricsOf(t, f)
			return now["silent_seconds"] > 1.5 || now["interruptions_total"] > before["interruptions_total"]
		})
		outage.mend()
		followed()
		f.WaitFor(t, "be ready again", time.Minute, func() bool { return isReady(t, f) })
		require.True(t, f.Running(), name)
	}
	end := insert(1)
	waitFollowed(t, archive, f, into, end)
	require.Zero(t, f.Stop(t).Code, f.Stderr())

	f = harness.Start(t, archive.Restorer("follow", "--into", into, "--delay", "1h", "--listen", "127.0.0.1:0"))
	f.WaitFor(t, "follow", time.Minute, func() bool { return followStatus(t, archive, into).State == "following" })
	checkLag(t, f, archive, source, into, insert)
	require.Zero(t, f.Stop(t).Code, f.Stderr())
	require.Zero(t, run.Stop(t).Code, run.Stderr())

	elsewhere := harness.Archive{URL: t.TempDir()}
	copyBucket(t, store, "followed/", elsewhere.URL)
	require.NoError(t, store.Stop())
	f = harness.Start(t, elsewhere.Restorer("follow", "--into", into, "--listen", "127.0.0.1:0"))
	waitFollowed(t, elsewhere, f, into, archiveEnd(t, elsewhere))
	require.Equal(t, strconv.Itoa(n+1), count(), "the copy does not bring all")
	m := metricsOf(t, f)
	require.Zero(t, m["lag_bytes"])
	require.Zero(t, m["lag_seconds"])
	require.Equal(t, float64(archiveEnd(t, elsewhere)), m["archive_end_lsn_bytes"])
	require.Equal(t, m["archive_end_lsn_bytes"], m["applied_lsn_bytes"])
	require.Zero(t, f.Stop(t).Code, f.Stderr())
}

// checkLag compares what a follower says of its lag with what it is: a row waits for its time.
func checkLag(t *testing.T, f *harness.Process, archive harness.Archive, source *postgres.Server, into string, insert func(int) segment.LSN) {
	t.Helper()
	end := insert(2)
	f.WaitFor(t, "see the rows", time.Minute, func() bool { return metricsOf(t, f)["archive_end_lsn_bytes"] >= float64(end) })
	age := func(back int) float64 {
		v, err := strconv.ParseFloat(source.MustQuery(t, "source", "SELECT extract(epoch FROM clock_timestamp() - at) FROM t WHERE id = (SELECT max(id) FROM t) - "+strconv.Itoa(back)), 64)
		require.NoError(t, err)
		return v
	}
	first := age(1)
	m, s := metricsOf(t, f), followStatus(t, archive, into)
	last := age(2) // the heartbeat after that row, which was applied, is a commit, too, and may have come late
	for what, seconds := range map[string]float64{"metric": m["lag_seconds"], "status": s.LagSeconds} {
		require.GreaterOrEqual(t, seconds, first-0.5, what) // the commit comes a little after the row's time
		require.LessOrEqual(t, seconds, last+0.1, what)
	}
	require.Positive(t, m["lag_bytes"])
	require.Equal(t, m["archive_end_lsn_bytes"]-m["applied_lsn_bytes"], m["lag_bytes"])
	require.Equal(t, float64(s.AppliedLSN), m["applied_lsn_bytes"])
	require.GreaterOrEqual(t, s.ArchiveEndLSN, end)
	require.Equal(t, int64(s.ArchiveEndLSN)-int64(s.AppliedLSN), s.LagBytes)
	require.True(t, s.ArchiveRead)
}

// copyBucket copies the archive under a prefix to a folder.
func copyBucket(t *testing.T, s *s3.Server, prefix, to string) {
	t.Helper()
	client, err := minio.New(s.Address, &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, "")})
	require.NoError(t, err)
	for o := range client.ListObjects(t.Context(), s3.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		require.NoError(t, o.Err)
		require.NoError(t, client.FGetObject(t.Context(), s3.Bucket, o.Key, filepath.Join(to, strings.TrimPrefix(o.Key, prefix)), minio.GetObjectOptions{}))
	}
}

// TestFollowStopsWhereItIsNotExact: what the publication withheld for a moment is no reason to go on as if nothing were.
func TestFollowStopsWhereItIsNotExact(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	dsn, into := server.CreateDatabase(t, "source"), server.DSN("standby")
	server.MustExec(t, "source", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)")
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	archive.CatchUp(t)
	f := harness.Start(t, archive.Restorer("follow", "--into", into, "--create"))
	f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, into).State == "following" })
	server.MustExec(t, "source", "INSERT INTO t VALUES (1)")
	archive.CatchUp(t)
	waitFollowed(t, archive, f, into, archiveEnd(t, archive))
	server.MustExec(t, "source", "ALTER PUBLICATION tidemark SET (publish = 'insert')")
	server.MustExec(t, "source", "DELETE FROM t WHERE id = 0")
	server.MustExec(t, "source", "ALTER PUBLICATION tidemark SET (publish = 'insert, update, delete, truncate')")
	server.MustExec(t, "source", "INSERT INTO t VALUES (2)")
	archive.CatchUp(t)
	r := f.Wait(t, time.Minute)
	require.Equal(t, 3, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "publication")
	require.Contains(t, r.Stderr, "LSN")
	require.Contains(t, r.Stderr, "--accept-inexact")
	again := harness.Run(t, archive.Restorer("follow", "--into", into))
	require.Equal(t, 3, again.Code, again.Stderr)
	rows := func() string {
		return server.MustQuery(t, "standby", "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t")
	}
	require.Equal(t, "0 1", rows(), "something after the change is applied")
	f = harness.Start(t, archive.Restorer("follow", "--into", into, "--accept-inexact"))
	waitFollowed(t, archive, f, into, archiveEnd(t, archive))
	require.Equal(t, "0 1 2", rows(), "what was withheld can't come")
	require.Zero(t, f.Stop(t).Code, f.Stderr())
	server.MustExec(t, "source", "INSERT INTO t VALUES (0)") // its delete was withheld: the row is there already
	archive.CatchUp(t)
	f = harness.Start(t, archive.Restorer("follow", "--into", into)) // accepted once is accepted
	waitFollowed(t, archive, f, into, archiveEnd(t, archive))
	require.Equal(t, "0 1 2", rows())
	require.Zero(t, f.Stop(t).Code, f.Stderr())
}
