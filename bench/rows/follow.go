package rows

import (
	"context"
	"fmt"
	"time"

	"tidemark/bench/lab"
	"tidemark/bench/report"
	"tidemark/internal/testserver/postgres"
)

// feed is a kind of transactions that follow is measured with: an event store's, and one that inserts half of its
// rows, updates three in ten and deletes two in ten. f is the first id, t the transaction's number.
type feed struct {
	row  string // of the rate
	lag  string // row of the lag; "": it isn't measured
	rows int
	what string
	body string
}

const (
	feedTable  = "CREATE TABLE event (id bigint PRIMARY KEY, stream uuid NOT NULL, version int NOT NULL, at timestamptz NOT NULL DEFAULT now(), data jsonb NOT NULL); CREATE TABLE mark (n int PRIMARY KEY)"
	feedInsert = `INSERT INTO event (id, stream, version, data) SELECT f + i, md5((i % 1000)::text)::uuid, i, jsonb_build_object('type', 'OrderPlaced', 'total', i, 'note', repeat('x', 40)) FROM generate_series(1, rows) i`
	feedMixed  = `
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
		END IF`
)

var feeds = []feed{
	{"follow-1", "follow-lag-1", 1, "inserts", feedInsert},
	{"follow-100", "follow-lag-100", 100, "inserts", feedInsert},
	{"follow-mixed-1", "", 1, "inserts, updates and deletes", feedMixed},
	{"follow-mixed-100", "follow-lag-mixed-100", 100, "inserts, updates and deletes", feedMixed},
}

// names are those of all rows that the feeds are measured in.
func names(feeds []feed) (out []string) {
	for _, f := range feeds {
		out = append(out, f.row)
	}
	for _, f := range feeds {
		if f.lag != "" {
			out = append(out, f.lag)
		}
	}
	return out
}

// follow compares the rate at which a standby follows an archive with that of a native subscription that reads the
// same WAL, and measures how far the standby is behind the archive's end at half the subscription's rate.
var follow = Scenario{
	Name: "follow",
	Rows: names(feeds),
	Run: func(ctx context.Context, b *Bench) error {
		for _, f := range feeds {
			if !b.WantAny(f.row, f.lag) {
				continue
			}
			if err := b.measureFeed(ctx, f); err != nil {
				return fmt.Errorf("%s: %w", f.row, err)
			}
		}
		return nil
	},
}

// standbys is a source with two copies: one that follows its archive, one that subscribes to it.
type standbys struct {
	src                 *lab.Source
	standby, subscriber *postgres.Server
	folder              string
}

func (b *Bench) measureFeed(ctx context.Context, f feed) error {
	stage, err := b.Lab.Stage()
	if err != nil {
		return err
	}
	defer stage.Close()
	own := *b
	own.Stage = stage
	s, err := own.newStandbys(ctx)
	if err != nil {
		return err
	}
	transactions := map[int]int{1: b.N(100_000), 100: b.N(6_000)}[f.rows]
	ours, theirs, err := own.rates(ctx, s, f, transactions)
	if err != nil {
		return err
	}
	b.Add(report.Compare(f.row, fmt.Sprintf("rate of follow against a native subscription, %d transactions of %s", transactions, f.what), report.AtLeast(1.2), ours, theirs).
		In("TCP", fmt.Sprint(f.rows), b.Cores()))
	if f.lag == "" || !b.Want(f.lag) {
		return nil
	}
	return own.measureLag(ctx, s, f, report.Median(theirs.Runs)/2, b.Runs*transactions)
}

// rates are the transactions a second that the standby and the subscriber take of the same WAL.
func (b *Bench) rates(ctx context.Context, s *standbys, f feed, transactions int) (ours, theirs report.Side, err error) {
	ours = report.Side{Name: "restorer follow", Unit: "transactions/s"}
	theirs = report.Side{Name: "subscription", Unit: "transactions/s"}
	for round := range b.Runs {
		if err := s.write(ctx, f, transactions, round*transactions, 0); err != nil {
			return ours, theirs, err
		}
		if _, err := s.src.CatchUp(ctx, s.src.DSN(), s.folder, nil); err != nil {
			return ours, theirs, err
		}
		o, n, err := s.both(ctx, round)
		if err != nil {
			return ours, theirs, err
		}
		b.Logf("  run %d: follow %.2f s, subscription %.2f s", round+1, o.Seconds(), n.Seconds())
		ours.Runs = append(ours.Runs, float64(transactions)/o.Seconds())
		theirs.Runs = append(theirs.Runs, float64(transactions)/n.Seconds())
	}
	return ours, theirs, nil
}

func (s *standbys) both(ctx context.Context, round int) (ours, theirs time.Duration, err error) {
	steps := []func() error{
		func() (err error) { theirs, err = s.subscribe(ctx, round); return err },
		func() (err error) { ours, err = s.follow(ctx); return err },
	}
	for i := range steps {
		lab.Settle()
		if err := steps[(i+round)%2](); err != nil {
			return 0, 0, err
		}
	}
	return ours, theirs, nil
}

func (b *Bench) newStandbys(ctx context.Context) (s *standbys, err error) {
	s = &standbys{}
	source, err := b.Server()
	if err != nil {
		return nil, err
	}
	for _, into := range []**postgres.Server{&s.standby, &s.subscriber} {
		if *into, err = b.Server(); err != nil {
			return nil, err
		}
	}
	if s.src, err = b.NewSource(ctx, source, "shop", feedTable); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		server        *postgres.Server
		database, sql string
	}{
		{source, "shop", "CREATE PUBLICATION native FOR TABLE event, mark"},
		{source, "shop", "SELECT pg_create_logical_replication_slot('native', 'pgoutput')"},
		{s.subscriber, "postgres", "CREATE DATABASE shop TEMPLATE template0"},
		{s.subscriber, "shop", feedTable},
		{s.subscriber, "shop", "CREATE SUBSCRIPTION native CONNECTION '" + s.src.DSN() + "' PUBLICATION native WITH (create_slot = false, slot_name = 'native', copy_data = false, enabled = false)"},
	} {
		if err := step.server.Exec(ctx, step.database, step.sql); err != nil {
			return nil, err
		}
	}
	if s.folder, err = s.src.NewFolder("followed"); err != nil {
		return nil, err
	}
	if _, err = s.src.CatchUp(ctx, s.src.DSN(), s.folder, nil); err != nil {
		return nil, err
	}
	_, err = s.follow(ctx) // which restores the base snapshot
	return s, err
}

// write commits transactions in one session, so many a second; 0: as fast as it can.
func (s *standbys) write(ctx context.Context, f feed, transactions, from int, rate float64) error {
	pause := ""
	if rate > 0 {
		// Each hundredth of a second waits for its time.
		pause = fmt.Sprintf("IF t %% %d = 0 THEN PERFORM pg_sleep(greatest(0, (t - %d) / %f - extract(epoch FROM clock_timestamp() - began))); END IF;", max(1, int(rate/100)), from, rate)
	}
	return s.src.Server.Exec(ctx, s.src.Database, fmt.Sprintf(`DO $do$
		DECLARE rows int := %d; f bigint; t int; began timestamptz := clock_timestamp();
		BEGIN
			FOR t IN %d..%d LOOP
				f := 1000000 + t::bigint * rows;
				%s;
				COMMIT;
				%s
			END LOOP;
		END $do$`, f.rows, from+1, from+transactions, f.body, pause))
}

// follow lets the standby take what was archived.
func (s *standbys) follow(ctx context.Context) (time.Duration, error) {
	end, err := lab.ArchiveEnd(ctx, s.folder)
	if err != nil {
		return 0, err
	}
	u, err := lab.Run(ctx, s.src.Stage.Restorer(nil, "follow", "--archive", s.folder, "--into", s.standby.DSN("shop"), "--create", "--to-lsn", end.String(), "--exclusive"))
	return u.Wall, err
}

// subscribe lets the subscription take what was written, and returns the time from its first transaction on.
func (s *standbys) subscribe(ctx context.Context, round int) (took time.Duration, err error) {
	if err := s.src.Server.Exec(ctx, "shop", fmt.Sprintf("INSERT INTO mark VALUES (%d)", round)); err != nil {
		return 0, err
	}
	conn, err := lab.Connect(ctx, s.subscriber.DSN("shop"))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	one := func(sql string) (v int64) {
		if e := conn.QueryRow(ctx, sql).Scan(&v); e != nil && err == nil {
			err = e
		}
		return v
	}
	const applied = "SELECT coalesce(max(id), 0) FROM event"
	before := one(applied)
	if _, err := conn.Exec(ctx, "ALTER SUBSCRIPTION native ENABLE"); err != nil {
		return 0, err
	}
	for err == nil && one(applied) == before {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	for err == nil && one(fmt.Sprintf("SELECT count(*) FROM mark WHERE n = %d", round)) == 0 {
		time.Sleep(2 * time.Millisecond)
	}
	took = time.Since(began)
	if err != nil {
		return 0, err
	}
	_, err = conn.Exec(ctx, "ALTER SUBSCRIPTION native DISABLE")
	return took, err
}
