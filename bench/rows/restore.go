package rows

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/bench/lab"
	"tidemark/bench/report"
	"tidemark/internal/testserver/postgres"
)

// halves makes a source whose archive has half of the events in its base snapshot and half in segments. It returns the
// archive's folder.
func (b *Bench) halves(ctx context.Context, tables []string, each int) (*lab.Source, string, error) {
	server, err := b.Server()
	if err != nil {
		return nil, "", err
	}
	const database = "halves"
	if err := server.Exec(ctx, "postgres", "CREATE DATABASE "+database+" TEMPLATE template0"); err != nil {
		return nil, "", err
	}
	b.Logf("  writing %d events into %d tables", each*len(tables), len(tables))
	if err := server.Exec(ctx, database, eventFunctions); err != nil {
		return nil, "", err
	}
	for _, table := range tables {
		if err := server.Exec(ctx, database, eventTable(table)); err != nil {
			return nil, "", err
		}
		if err := writeEvents(ctx, server, database, table, 1, each/2, bulk); err != nil {
			return nil, "", err
		}
	}
	src, err := b.Adopt(ctx, server, database)
	if err != nil {
		return nil, "", err
	}
	for _, table := range tables {
		if err := writeEvents(ctx, server, database, table, each/2+1, each, bulk); err != nil {
			return nil, "", err
		}
	}
	if err := src.Ended(ctx); err != nil {
		return nil, "", err
	}
	folder, err := src.NewFolder("archive")
	if err != nil {
		return nil, "", err
	}
	_, err = src.Drain(ctx, src.DSN(), folder, nil)
	return src, folder, err
}

// restore restores an archive into a new database, counts the rows of some tables, and drops it again.
func (b *Bench) restore(ctx context.Context, target *postgres.Server, folder string, rows map[string]int, args ...string) (lab.Usage, error) {
	const database = "restored"
	lab.Settle()
	u, err := lab.Run(ctx, b.Restorer(nil, append([]string{"restore", "--archive", folder, "--into", target.DSN(database), "--create", "-o", "json"}, args...)...))
	if err != nil {
		return u, err
	}
	for table, want := range rows {
		if err := countRows(ctx, target, database, table, want); err != nil {
			return u, err
		}
	}
	return u, target.Exec(ctx, "postgres", "DROP DATABASE "+database)
}

// phases says what the phases of the last restore took, as restorer tells it.
func phases(usages []lab.Usage) string {
	var told struct {
		Seconds map[string]float64 `json:"seconds"`
	}
	if len(usages) == 0 || json.Unmarshal(usages[len(usages)-1].Output, &told) != nil {
		return "phases of the last run: not told"
	}
	names := slices.SortedFunc(maps.Keys(told.Seconds), func(a, b string) int { return cmp.Compare(told.Seconds[b], told.Seconds[a]) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.2f", name, told.Seconds[name])
	}
	return "phases of the last run, in seconds: " + strings.Join(names, ", ")
}

func countRows(ctx context.Context, s *postgres.Server, database, table string, want int) error {
	got, err := s.Query(ctx, database, "SELECT count(*) FROM "+table)
	if err == nil && got != fmt.Sprint(want) {
		err = fmt.Errorf("%s of %s has %s rows, not %d", table, database, got, want)
	}
	return err
}

// restoreCopy compares a restore with what nothing can beat: the same rows in two streams of COPY, and the indexes.
var restoreCopy = Scenario{
	Name: "restore-copy",
	Rows: []string{"restore-copy"},
	Run: func(ctx context.Context, b *Bench) error {
		n := b.N(1_000_000)
		src, folder, err := b.halves(ctx, []string{"events"}, n)
		if err != nil {
			return err
		}
		files, err := copyOut(ctx, b, src, n)
		if err != nil {
			return err
		}
		target, err := b.Server()
		if err != nil {
			return err
		}
		p, err := b.interleave(
			func(int) (lab.Usage, error) {
				return b.restore(ctx, target, folder, map[string]int{"events": n})
			},
			func(int) (lab.Usage, error) { return b.copyIn(ctx, target, files, n) })
		if err != nil {
			return err
		}
		b.Add(report.Compare("restore-copy", fmt.Sprintf("restore of %d events, half from the base snapshot and half from segments, wall, against two streams of COPY and the index builds", n),
			report.AtMost(1.10), wall("restorer", p.ours), wall("psql", p.theirs)).In("TCP", "1000", b.Cores(),
			fmt.Sprintf("memory of the restorer: %.0f MiB at most", report.Worst("", "", report.Goal{}, memory("", p.ours)).Value), phases(p.ours)))
		return nil
	},
}

// psql makes a command that runs SQL, and \copy.
func (b *Bench) psql(s *postgres.Server, database string, commands ...string) lab.Command {
	args := []string{"--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", s.DSN(database)}
	for _, c := range commands {
		args = append(args, "--command", c)
	}
	return lab.Command{Path: s.Path("psql"), Args: args}
}

// copyOut writes each half of the events into a file.
func copyOut(ctx context.Context, b *Bench, src *lab.Source, n int) (files []string, err error) {
	for i, where := range []string{fmt.Sprintf("position <= %d", n/2), fmt.Sprintf("position > %d", n/2)} {
		file := b.Path(fmt.Sprintf("half-%d.copy", i))
		if _, err := lab.Run(ctx, b.psql(src.Server, src.Database, `\copy (SELECT * FROM events WHERE `+where+` ORDER BY position) TO '`+file+`'`)); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// copyIn loads the files at the same time, then builds both indexes at the same time.
func (b *Bench) copyIn(ctx context.Context, target *postgres.Server, files []string, n int) (u lab.Usage, err error) {
	const database = "copied"
	lab.Settle()
	begin := time.Now()
	if err := target.Exec(ctx, "postgres", "CREATE DATABASE "+database+" TEMPLATE template0"); err != nil {
		return u, err
	}
	statements := strings.Split(eventColumns("events"), ";")
	if err := target.Exec(ctx, database, statements[0]); err != nil {
		return u, err
	}
	var loads, indexes []string
	for _, file := range files {
		loads = append(loads, `\copy events FROM '`+file+`'`)
	}
	indexes = append(indexes, statements[1], statements[3])
	for _, step := range [][]string{loads, indexes, {statements[2]}} {
		if err := b.together(ctx, target, database, step); err != nil {
			return u, err
		}
	}
	u.Wall = time.Since(begin)
	if err := countRows(ctx, target, database, "events", n); err != nil {
		return u, err
	}
	return u, target.Exec(ctx, "postgres", "DROP DATABASE "+database)
}

// together runs a psql for each command at the same time.
func (b *Bench) together(ctx context.Context, s *postgres.Server, database string, commands []string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range commands {
		g.Go(func() error {
			_, err := lab.Run(ctx, b.psql(s, database, c))
			return err
		})
	}
	return g.Wait()
}

// oneTable restores one table of ten equal ones.
var oneTable = Scenario{
	Name: "one-table",
	Rows: []string{"restore-table"},
	Run: func(ctx context.Context, b *Bench) error {
		var tables []string
		each, rows := b.N(100_000), map[string]int{}
		for i := range 10 {
			table := fmt.Sprintf("events_%d", i)
			tables = append(tables, table)
			rows[table] = each
		}
		_, folder, err := b.halves(ctx, tables, each)
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		target, err := b.Server()
		if err != nil {
			return err
		}
		p, err := b.interleave(
			func(int) (lab.Usage, error) {
				return b.restore(ctx, target, folder, map[string]int{"events_3": each}, "--table", "public.events_3")
			},
			func(int) (lab.Usage, error) { return b.restore(ctx, target, folder, rows) })
		if err != nil {
			return err
		}
		b.Add(report.Compare("restore-table", fmt.Sprintf("restore of one table of ten with %d events each, wall, against all of them", each),
			report.AtMost(0.15), wall("one table", p.ours), wall("all ten", p.theirs)).In("TCP", "1000", b.Cores(), "one table: "+phases(p.ours), "all ten: "+phases(p.theirs)))
		return nil
	},
}
