package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
)

const (
	clients     = 4
	writeFor    = 8 * time.Second
	writeOnFor  = 2 * time.Second
	waitAtMost  = 30 * time.Second
	lostDB      = "shop"
	recoveredDB = "shop_recovered"
)

// demo is what the steps share.
type demo struct {
	*console
	server   *postgres.Server
	home     string // folder of the archive, the programs and the archiver's log
	archive  string
	programs programs
	archiver *background
	shop     *shop
}

// start makes the server and the database.
func (d *demo) start(ctx context.Context) (err error) {
	d.step("A throwaway PostgreSQL with an event store")
	if d.home, err = os.MkdirTemp("", "tidemark-demo-"); err != nil {
		return err
	}
	d.archive = filepath.Join(d.home, "archive")
	if d.programs, err = findPrograms(ctx, d.home); err != nil {
		return err
	}
	if d.server, err = postgres.Launch(postgres.Options{}); err != nil {
		return err
	}
	if err := d.server.Exec(ctx, "postgres", "CREATE DATABASE "+lostDB); err != nil {
		return err
	}
	if err := d.server.Exec(ctx, lostDB, schema); err != nil {
		return err
	}
	d.say("PostgreSQL %d runs on port %d. It keeps orders as events (table event), and three tables", d.server.Major, d.server.Port)
	d.say("that follow from them: purchase, stock, and ledger, which has no primary key.")
	return nil
}

// work starts the archiver and the clients, and lets them work for a while.
func (d *demo) work(ctx context.Context) (err error) {
	d.step("The archiver runs, while %d clients process orders", clients)
	if d.shop, err = openShop(ctx, d.server.DSN(lostDB), clients); err != nil {
		return err
	}
	args := []string{"run", "--source", d.server.DSN(lostDB), "--archive", d.archive, "--segment-max-age", "1s"}
	d.command("archiver", args...)
	if d.archiver, err = d.programs.start(filepath.Join(d.home, "archiver.log"), "archiver", args...); err != nil {
		return err
	}
	if err := d.untilProtected(ctx); err != nil {
		return err
	}
	d.say("A first base snapshot was taken while the clients wrote; from now on every commit can be restored.")
	if err := d.shop.letWork(ctx, writeFor, d.console); err != nil {
		return err
	}
	return d.archiver.alive()
}

// untilProtected waits for the first base snapshot.
func (d *demo) untilProtected(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitAtMost)
	defer cancel()
	for {
		out, err := d.programs.output(ctx, "archiver", "status", "--source", d.server.DSN(lostDB), "--archive", d.archive, "-o", "json")
		var status struct{ State string }
		if err == nil && json.Unmarshal(out, &status) == nil && status.State == "protected" {
			return nil
		}
		if err := errors.Join(d.archiver.alive(), d.shop.failed()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the archiver has taken no base snapshot: %w\n%s", ctx.Err(), d.archiver.log())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// destroy runs the careless DELETE. In its transaction, with all writers held, it first records what
// every table holds: the state that only a restore to just before can bring back.
func (d *demo) destroy(ctx context.Context) (workload.Hashes, error) {
	d.step("Somebody is careless")
	conn, err := pgx.Connect(ctx, d.server.DSN(lostDB))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "BEGIN; LOCK TABLE event, purchase, stock, ledger IN EXCLUSIVE MODE", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	before, err := workload.HashTables(ctx, conn)
	if err != nil {
		return nil, err
	}
	tag, err := conn.Exec(ctx, "DELETE FROM public.event WHERE type <> 'OrderCancelled'")
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
		return nil, err
	}
	d.sql("DELETE FROM event WHERE type <> 'OrderCancelled';", "-- meant: =")
	d.bad("%s events are gone. The clients know nothing of it and go on writing.", count(tag.RowsAffected()))
	if err := d.shop.letWork(ctx, writeOnFor, d.console); err != nil {
		return nil, err
	}
	return before, d.shop.close()
}

// find looks for the DELETE in the archive and returns the flags that restore to just before it.
func (d *demo) find(ctx context.Context) ([]string, error) {
	d.step("Which transaction was it? The archive knows")
	if _, err := d.programs.output(ctx, "archiver", "mark", "--source", d.server.DSN(lostDB), "--archive", d.archive, "end of the demo"); err != nil {
		return nil, err // returns when all before it is archived
	}
	args := []string{"log", "--archive", d.archive, "--op", "delete", "--min-rows", "1000"}
	if err := d.show(ctx, "restorer", args...); err != nil {
		return nil, err
	}
	out, err := d.programs.output(ctx, "restorer", append(args, "-o", "json")...)
	if err != nil {
		return nil, err
	}
	found, err := parseLog(out)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 || len(found[0]) == 0 {
		return nil, fmt.Errorf("restorer log found %d transactions with a large DELETE instead of one", len(found))
	}
	d.say("And these are the moments the archive can restore to:")
	return found[0], d.show(ctx, "restorer", "list", "--archive", d.archive)
}

// parseLog reads restorer's log, one array or one object a line, and returns each transaction's flags.
func parseLog(out []byte) (flags [][]string, err error) {
	type line struct{ Before []string }
	var lines []line
	if strings.HasPrefix(strings.TrimSpace(string(out)), "[") {
		err = json.Unmarshal(out, &lines)
	} else {
		for dec := json.NewDecoder(strings.NewReader(string(out))); err == nil && dec.More(); {
			var l line
			err = dec.Decode(&l)
			lines = append(lines, l)
		}
	}
	for _, l := range lines {
		flags = append(flags, l.Before)
	}
	return flags, err
}

func (d *demo) restore(ctx context.Context, flags []string) error {
	d.step("Back to just before it, in a database beside the damaged one")
	return d.show(ctx, "restorer", append([]string{"restore", "--archive", d.archive,
		"--into", d.server.DSN(recoveredDB), "--create"}, flags...)...)
}

// compare holds every restored table against what was recorded before the DELETE.
func (d *demo) compare(ctx context.Context, before workload.Hashes) error {
	d.step("Is it the same? Every table, against what was recorded just before the DELETE")
	after, err := workload.HashDatabase(ctx, d.server.DSN(recoveredDB))
	if err != nil {
		return err
	}
	now, err := workload.HashDatabase(ctx, d.server.DSN(lostDB))
	if err != nil {
		return err
	}
	names := make([]string, 0, len(before))
	for name := range before {
		names = append(names, name)
	}
	sort.Strings(names)
	d.row("table", "before", "damaged", "restored", "fingerprint")
	for _, name := range names {
		verdict := "equal"
		if after[name] != before[name] {
			verdict = "DIFFERENT"
		}
		d.row(name, rows(before[name]), rows(now[name]), rows(after[name]), verdict)
	}
	if diff := before.Diff(after); diff != "" {
		return fmt.Errorf("the restored database is not the one that was lost:\n%s", diff)
	}
	return nil
}

// close ends all that runs and removes all that was written. It may be called again.
func (d *demo) close() error {
	var errs []error
	if d.shop != nil {
		errs = append(errs, d.shop.close())
	}
	if d.archiver != nil {
		errs = append(errs, d.archiver.stop())
		d.archiver = nil
	}
	if d.server != nil {
		errs = append(errs, d.server.Close())
		d.server = nil
	}
	if d.home != "" {
		errs = append(errs, os.RemoveAll(d.home))
		d.home = ""
	}
	return errors.Join(errs...)
}
