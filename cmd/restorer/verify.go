package main

import (
	"context"
	"fmt"

	"tidemark/internal/cli"
	"tidemark/internal/config"
	"tidemark/internal/verify"
)

type verifyCmd struct {
	cli.Output
	Level string `help:"How deep: catalog (the catalog is whole, every object is there with its size), checksum (every object has its SHA-256), decode (everything decodes and holds what the catalog says)." enum:"catalog,checksum,decode" default:"checksum" placeholder:"checksum"`
	Jobs  int    `help:"Objects read at the same time." default:"4" placeholder:"4"`
}

// Help is shown by verify --help.
func (*verifyCmd) Help() string {
	return `Exits 4 if anything is damaged, naming every damaged or missing object, and the byte where it shows, and then the
windows that can still be restored without them. Objects that no entry names are noted: they are left over from
uploads that were cut off, and take nothing away.

Examples:

    restorer verify                          every object's checksum
    restorer verify --level catalog          quick: needs no reading of segments and snapshots
    restorer verify --level decode -o json   everything, for a report`
}

// Run verifies and reports.
func (c *verifyCmd) Run(ctx context.Context, env *cli.Env) error {
	store, err := env.OpenStore(ctx, longPatience, nil)
	if err != nil {
		return err
	}
	progress := env.Progress("verifying", 0, true)
	report, err := verify.Run(ctx, store, verify.Options{
		Level: verify.Level(c.Level), Jobs: c.Jobs,
		Progress: func(done, total int64) { progress.Set("verifying", done, total) },
	})
	progress.Close()
	if err != nil {
		return err
	}
	if c.JSON() {
		err = cli.WriteJSON(env.Stdout, report)
	} else {
		err = printReport(env, report)
	}
	if err != nil {
		return err
	}
	return report.Err()
}

func printReport(env *cli.Env, r *verify.Report) error {
	w := env.Stdout
	verdict := "ok"
	if !r.OK() {
		verdict = fmt.Sprintf("DAMAGED: %s", cli.Count(int64(len(r.Damage))))
	}
	fmt.Fprintf(w, "%s (level %s): %s entries, %s segments, %s snapshots, %s objects, %s read\n", verdict, r.Level,
		cli.Count(int64(r.Entries)), cli.Count(r.Segments), cli.Count(r.Snapshots), cli.Count(r.Objects), config.Size(r.Bytes))
	if r.Level == verify.LevelDecode {
		fmt.Fprintf(w, "decoded: %s transactions, %s rows\n", cli.Count(r.Transactions), cli.Count(r.Rows))
	}
	for _, d := range r.Damage {
		where := ""
		if d.Offset >= 0 {
			where = fmt.Sprintf(" at byte %d", d.Offset)
		}
		fmt.Fprintf(w, "damaged: %s%s: %s\n", d.Object, where, d.Problem)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s (%s): %s\n", n.Object, config.Size(n.Size), n.Note)
	}
	if r.NotesLeftOut > 0 {
		fmt.Fprintf(w, "note: and %s more\n", cli.Count(r.NotesLeftOut))
	}
	if r.OK() {
		return nil
	}
	if len(r.Windows) == 0 {
		_, err := fmt.Fprintln(w, "\nno window is known to be good")
		return err
	}
	fmt.Fprintln(w, "\nwindows still good")
	windows := cli.NewTable(">history", "from lsn", "to lsn", "from time", "to time")
	for _, x := range r.Windows {
		windows.Row(x.History, x.From, x.To, cli.Moment(x.FromTime), cli.Moment(x.ToTime))
	}
	return windows.Write(w)
}
