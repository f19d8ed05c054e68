package integration

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
	"tidemark/objectstore"
	"tidemark/segment"
)

// feedBench is a source with two copies: one that follows its archive, one that subscribes to it.
type feedBench struct {
	source, standby, subscriber *postgres.Server
	archive                     harness.Archive
	conn                        *pgx.Conn // to the source
}

const (
	benchRounds = 3
	benchTable  = "CREATE TABLE event (id bigint PRIMARY KEY, stream uuid NOT NULL, version int NOT NULL, at timestamptz NOT NULL DEFAULT now(), data jsonb NOT NULL)"
	benchMark   = "CREATE TABLE mark (n int PRIMARY KEY)"
)

// benchWrites are the transactions that are measured, of so many rows each: an event store's, and one that
// inserts half of its rows, updates three in ten and deletes two in ten.
var benchWrites = []struct{ name, body string }{
	{"insert", `INSERT INTO event (id, stream, version, data) SELECT f + i, md5((i % 1000)::text)::uuid, i, jsonb_build_object('type', 'OrderPlaced', 'total', i, 'note', repeat('x', 40)) FROM generate_series(1, rows) i`},
	{"mixed", `
		IF rows = 1 THEN
			CASE t % 10
			WHEN 1, 3, 5 THEN UPDATE event SET version = version + 1 WHERE id = f;
			WHEN 7, 9 THEN DELETE FROM event WHERE id = f;
			ELSE INSERT INTO event (id, stream, version, data) VALUES (f + 1, md5(t::text)::uuid, t, '{"type": "OrderPlaced", "note": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}');
			END CASE;
		ELSE
			INSERT INTO event (id, stream, version, data) SELECT f + i, md5(i::text)::uuid, i, '{"type": "OrderPlaced", "note": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}' FROM generate_series(1, rows / 2) i;
			UPDATE event SET version = version + 1 WHERE id BETWEEN f + 1 AND f + rows * 3 / 10;
			DELETE FROM event WHERE id BETWEEN f - rows + 1 AND f - rows + rows / 5;
		END IF`},
}

// BenchmarkFollow compares the rate at which a standby follows an archive with that of a native subscription
// that reads the same WAL on the same machine, and then measures how far the standby is behind the
// archive's end at half the subscription's rate.
func BenchmarkFollow(b *testing.B) {
	for _, writes := range benchWrites {
		for _, rows := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/rows=%d", writes.name, rows), func(b *testing.B) { benchFeed(b, writes.body, rows) })
		}
	}
}

func benchFeed(b *testing.B, body string, rows int) {
	f := newFeedBench(b)
	transactions := map[int]int{1: 200_000, 100: 8_000}[rows]
	var native, follow, ratios []float64
	for round := range benchRounds {
		f.write(b, body, rows, transactions, round*transactions, 0)
		f.archive.CatchUp(b)
		var n, o float64
		if round%2 == 0 {
			n, o = f.subscribe(b, round), f.follow(b)
		} else {
			o, n = f.follow(b), f.subscribe(b, round)
		}
		native, follow, ratios = append(native, float64(transactions)/n), append(follow, float64(transactions)/o), append(ratios, n/o)
	}
	b.ReportMetric(median(native), "subscription-tx/s")
	b.ReportMetric(median(follow), "follow-tx/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
	for _, age := range []string{"1s", "10s"} {
		lag, rate := f.lag(b, body, rows, benchRounds*transactions, median(native)/2, age)
		b.ReportMetric(lag, "max-lag-s@age="+age)
		b.ReportMetric(rate, "tx/s@age="+age)
	}
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func newFeedBench(b *testing.B) *feedBench {
	quick := postgres.Options{Settings: map[string]string{"wal_retrieve_retry_interval": "10ms", "max_wal_size": "4GB", "checkpoint_timeout": "1h", "shared_buffers": "256MB"}}
	f := &feedBench{source: postgres.Start(b, quick), standby: postgres.Start(b, quick), subscriber: postgres.Start(b, quick)}
	dsn := f.source.CreateDatabase(b, "shop")
	f.source.MustExec(b, "shop", benchTable+"; "+benchMark)
	f.subscriber.CreateDatabase(b, "shop")
	f.subscriber.MustExec(b, "shop", benchTable+"; "+benchMark)
	f.source.MustExec(b, "shop", "CREATE PUBLICATION native FOR ALL TABLES")
	f.source.MustExec(b, "shop", "SELECT pg_create_logical_replication_slot('native', 'pgoutput')")
	f.subscriber.MustExec(b, "shop", "CREATE SUBSCRIPTION native CONNECTION '"+dsn+"' PUBLICATION native WITH (create_slot = false, slot_name = 'native', copy_data = false, enabled = false)")
	f.archive = harness.Archive{URL: b.TempDir(), Source: dsn}
	f.archive.CatchUp(b)
	f.conn = f.source.Connect(b, "shop")
	f.follow(b)
	return f
}

// write runs transactions as one session, so many a second; 0: as fast as it can.
func (f *feedBench) write(b *testing.B, body string, rows, transactions, from int, rate float64) {
	b.Helper()
	pause := ""
	if rate > 0 {
		// Every hundredth of a second waits for its time.
		pause = fmt.Sprintf("IF t %% %d = 0 THEN PERFORM pg_sleep(greatest(0, (t - %d) / %f - extract(epoch FROM clock_timestamp() - began))); END IF;", max(1, int(rate/100)), from, rate)
	}
	sql := fmt.Sprintf(`DO $do$
		DECLARE rows int := %d; f bigint; t int; began timestamptz := clock_timestamp();
		BEGIN
			FOR t IN %d..%d LOOP
				f := 1000000 + t::bigint * rows;
				%s;
				COMMIT;
				%s
			END LOOP;
		END $do$`, rows, from+1, from+transactions, body, pause)
	_, err := f.conn.Exec(b.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	require.NoError(b, err)
}

// subscribe lets the subscription take what was written, and returns the seconds from its first transaction on.
func (f *feedBench) subscribe(b *testing.B, round int) float64 {
	n := strconv.Itoa(round)
	f.source.MustExec(b, "shop", "INSERT INTO mark VALUES ("+n+")")
	conn := f.subscriber.Connect(b, "shop")
	one := func(sql string) (v int) {
		require.NoError(b, conn.QueryRow(b.Context(), sql).Scan(&v))
		return v
	}
	before := one("SELECT coalesce(max(id), 0)::int FROM event")
	_, err := conn.Exec(b.Context(), "ALTER SUBSCRIPTION native ENABLE")
	require.NoError(b, err)
	for one("SELECT coalesce(max(id), 0)::int FROM event") == before {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	for one("SELECT count(*)::int FROM mark WHERE n = "+n) == 0 {
		time.Sleep(2 * time.Millisecond)
	}
	seconds := time.Since(began).Seconds()
	_, err = conn.Exec(b.Context(), "ALTER SUBSCRIPTION native DISABLE")
	require.NoError(b, err)
	return seconds
}

// follow lets the standby take what was archived, and returns the seconds that the program ran for.
func (f *feedBench) follow(b *testing.B) float64 {
	windows := f.archive.List(b).Windows
	end := windows[len(windows)-1].ToLSN
	began := time.Now()
	r := harness.Run(b, f.archive.Restorer("follow", "--into", f.standby.DSN("shop"), "--create", "--to-lsn", end.String(), "--exclusive"))
	require.Zero(b, r.Code, r.Stderr)
	return time.Since(began).Seconds()
}

// lag writes at a rate for a while, beside archiver and follower, and returns the longest time that
// something archived waited to be applied, and the rate that the machine could do with all of that at once.
func (f *feedBench) lag(b *testing.B, body string, rows, from int, rate float64, age string) (seconds, done float64) {
	run := f.archive.StartRun(b, "--segment-max-age", age)
	f.archive.WaitProtected(b, run)
	feed := harness.Start(b, f.archive.Restorer("follow", "--into", f.standby.DSN("shop")))
	store, err := objectstore.Open(b.Context(), f.archive.URL)
	require.NoError(b, err)
	log, err := catalog.Open(b.Context(), store)
	require.NoError(b, err)

	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	measured := make(chan float64)
	go func() { measured <- f.watchLag(ctx, log) }()
	transactions := int(rate * 25)
	offset := map[string]int{"1s": 0, "10s": 1}[age] * transactions
	began := time.Now()
	f.write(b, body, rows, transactions, from+offset, rate)
	done = float64(transactions) / time.Since(began).Seconds()
	f.archive.Mark(b, "end of "+age)
	require.NoError(b, log.Refresh(b.Context()))
	waitFollowedBy(b, f.standby, log.View().End(1))
	cancel()
	seconds = <-measured
	feed.Stop(b)
	run.Stop(b)
	return seconds, done
}

func position(s *postgres.Server) segment.LSN {
	text, err := s.Query(context.Background(), "shop", "SELECT position FROM tidemark.follow")
	if err != nil {
		return 0
	}
	lsn, _ := segment.ParseLSN(text)
	return lsn
}

func waitFollowedBy(b *testing.B, s *postgres.Server, end segment.LSN) {
	require.Eventually(b, func() bool { return position(s) >= end }, time.Minute, 20*time.Millisecond)
}

// watchLag looks at the archive's end and the standby's position until ctx ends.
func (f *feedBench) watchLag(ctx context.Context, log *catalog.Log) (longest float64) {
	type arrival struct {
		end segment.LSN
		at  time.Time
	}
	var waiting []arrival
	var seen segment.LSN
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return longest
		case <-tick.C:
		}
		if err := log.Refresh(ctx); err != nil && ctx.Err() == nil {
			return -1
		}
		if end := log.View().End(1); end > seen {
			seen, waiting = end, append(waiting, arrival{end, time.Now()})
		}
		at := position(f.standby)
		for len(waiting) > 0 && waiting[0].end <= at {
			longest = max(longest, time.Since(waiting[0].at).Seconds())
			waiting = waiting[1:]
		}
	}
}
