package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark/catalog"
	"tidemark/internal/cli"
	"tidemark/internal/config"
	"tidemark/internal/pipeline"
	"tidemark/objectstore"
	"tidemark/segment"
)

type listCmd struct {
	cli.Output
	Usage bool `help:"Also list the store's objects and say how many bytes each kind takes."`
}

// Help is shown by list --help.
func (*listCmd) Help() string {
	return `The first line says whether the archive is being kept up, and until when it can be restored. A window is a
range that can be restored to at any commit; a gap is lost; what is not exact can be passed
only with --accept-inexact, or from a base snapshot behind it; a mark is a named moment (archiver mark).

Examples:

    restorer list --archive s3://backups/shop
    restorer list -o json | jq '.windows'
    restorer list --usage`
}

// listing is the JSON of list; its keys are fixed.
type listing struct {
	Archive           string             `json:"archive"`
	State             string             `json:"state"`
	RecoverableToLSN  *segment.LSN       `json:"recoverable_to_lsn"`
	RecoverableToTime *segment.Timestamp `json:"recoverable_to_time"`
	Snapshots         []listedSnapshot   `json:"snapshots"`
	Windows           []catalog.Window   `json:"windows"`
	Marks             []listedMark       `json:"marks"`
	Gaps              []listedGap        `json:"gaps"`
	Inexact           []listedInexact    `json:"inexact"`
	Histories         []listedHistory    `json:"histories"`
	Usage             []usage            `json:"usage,omitempty"`
	reason            string
}

type listedSnapshot struct {
	ID      string            `json:"id"`
	History uint32            `json:"history"`
	LSN     segment.LSN       `json:"lsn"`
	Time    segment.Timestamp `json:"time"`
	Bytes   int64             `json:"bytes"` // stored
	Tables  int64             `json:"tables"`
	Rows    int64             `json:"rows"`
}

type listedMark struct {
	Name    string            `json:"name"`
	History uint32            `json:"history"`
	LSN     segment.LSN       `json:"lsn"`
	Time    segment.Timestamp `json:"time"`
}

type listedGap struct {
	History uint32      `json:"history"`
	From    segment.LSN `json:"from_lsn"`
	To      segment.LSN `json:"to_lsn"`
	Reason  string      `json:"reason"`
}

// listedInexact is a range whose replay doesn't give what the source had: a restore that ends at or behind its
// beginning needs a base snapshot behind its end.
type listedInexact struct {
	History uint32      `json:"history"`
	From    segment.LSN `json:"from_lsn"`
	To      segment.LSN `json:"to_lsn"`
	Tables  []string    `json:"tables"` // none: any
	Reason  string      `json:"reason"`
}

type listedHistory struct {
	History  uint32      `json:"history"`
	From     segment.LSN `json:"from_lsn"`
	To       segment.LSN `json:"to_lsn"`
	Began    time.Time   `json:"began"`
	SystemID string      `json:"system_id"`
	Timeline int32       `json:"timeline"`
	Database string      `json:"database"`
	Reason   string      `json:"reason"`
}

type usage struct {
	Kind    string `json:"kind"` // first element of the keys
	Objects int64  `json:"objects"`
	Bytes   int64  `json:"bytes"`
}

// Run prints the listing.
func (c *listCmd) Run(ctx context.Context, env *cli.Env) error {
	store, view, err := open(ctx, env, patience)
	if err != nil {
		return err
	}
	status, err := pipeline.ReadArchiveStatus(ctx, store, env.Now())
	if err != nil {
		return err
	}
	l := newListing(view)
	l.State, l.reason = status.State, status.Reason
	if head := view.Head(); status.State == pipeline.StateUnprotected && head.Seq > 0 {
		// The source was not asked, only the archive.
		l.reason = "nothing was archived since " + cli.Moment(segment.TimestampOf(head.At))
	}
	l.RecoverableToLSN, l.RecoverableToTime = status.RecoverableToLSN, status.RecoverableToTime
	if c.Usage {
		if l.Usage, err = measureUsage(ctx, store); err != nil {
			return err
		}
	}
	if c.JSON() {
		return cli.WriteJSON(env.Stdout, l)
	}
	return l.print(env.Stdout, env.Now())
}

func newListing(view *catalog.View) *listing {
	l := &listing{
		Archive: view.Identity().ID, Windows: view.Windows(),
		Snapshots: []listedSnapshot{}, Marks: []listedMark{}, Gaps: []listedGap{}, Inexact: []listedInexact{}, Histories: []listedHistory{},
	}
	for _, p := range view.Snapshots() {
		s := p.Snapshot
		l.Snapshots = append(l.Snapshots, listedSnapshot{ID: s.ID, History: p.History, LSN: p.LSN, Time: s.Time, Bytes: s.StoredBytes, Tables: s.Tables, Rows: s.Rows})
	}
	for _, m := range view.Marks() {
		l.Marks = append(l.Marks, listedMark{Name: m.Name, History: m.History, LSN: m.LSN, Time: m.Time})
	}
	for _, g := range view.Gaps() {
		l.Gaps = append(l.Gaps, listedGap{History: g.History, From: g.From, To: g.To, Reason: g.Reason})
	}
	for _, i := range view.Inexact() {
		l.Inexact = append(l.Inexact, listedInexact{History: i.History, From: i.From, To: i.To, Tables: append([]string{}, i.Tables...), Reason: i.Reason})
	}
	for _, h := range view.Histories() {
		l.Histories = append(l.Histories, listedHistory{
			History: h.Number, From: h.From, To: h.End, Began: h.At,
			SystemID: h.Begins.SystemID, Timeline: h.Begins.Timeline, Database: h.Begins.Database, Reason: h.Begins.Reason,
		})
	}
	return l
}

// measureUsage lists the whole store and sums up by the first element of the keys.
func measureUsage(ctx context.Context, store objectstore.Store) ([]usage, error) {
	kinds := map[string]*usage{}
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			return nil, err
		}
		kind, _, _ := strings.Cut(info.Key, "/")
		if kinds[kind] == nil {
			kinds[kind] = &usage{Kind: kind}
		}
		kinds[kind].Objects++
		kinds[kind].Bytes += info.Size
	}
	all := make([]usage, 0, len(kinds))
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		all = append(all, *kinds[kind])
	}
	return all, nil
}

func (l *listing) print(w io.Writer, now time.Time) error {
	fmt.Fprintln(w, l.headline(now))
	fmt.Fprintf(w, "archive %s\n", l.Archive)
	snapshots := cli.NewTable("snapshot", ">history", "lsn", "time", ">tables", ">rows", ">bytes")
	for _, s := range l.Snapshots {
		snapshots.Row(s.ID, s.History, s.LSN, cli.Moment(s.Time), cli.Count(s.Tables), cli.Count(s.Rows), config.Size(s.Bytes))
	}
	windows := cli.NewTable(">history", "from lsn", "to lsn", "from time", "to time")
	for _, x := range l.Windows {
		windows.Row(x.History, x.From, x.To, cli.Moment(x.FromTime), cli.Moment(x.ToTime))
	}
	marks := cli.NewTable("mark", ">history", "lsn", "time")
	for _, m := range l.Marks {
		marks.Row(m.Name, m.History, m.LSN, cli.Moment(m.Time))
	}
	gaps := cli.NewTable(">history", "from lsn", "to lsn", "reason")
	for _, g := range l.Gaps {
		gaps.Row(g.History, g.From, g.To, g.Reason)
	}
	inexact := cli.NewTable(">history", "from lsn", "to lsn", "tables", "reason")
	for _, i := range l.Inexact {
		inexact.Row(i.History, i.From, i.To, cmp.Or(strings.Join(i.Tables, " "), "any"), i.Reason)
	}
	usages := cli.NewTable("kind", ">objects", ">bytes")
	for _, u := range l.Usage {
		usages.Row(u.Kind, cli.Count(u.Objects), config.Size(u.Bytes))
	}
	for _, section := range []struct {
		title string
		table *cli.Table
	}{
		{"base snapshots", snapshots}, {"windows (restorable to any commit in them)", windows}, {"marks", marks},
		{"gaps (lost)", gaps}, {"not exact (until the next base snapshot)", inexact}, {"histories", l.historyTable()}, {"usage", usages},
	} {
		if section.table.Len() == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", section.title)
		if err := section.table.Write(w); err != nil {
			return err
		}
	}
	return nil
}

// historyTable is empty where there is only one history: it would say nothing new.
func (l *listing) historyTable() *cli.Table {
	t := cli.NewTable(">history", "from lsn", "to lsn", "began", "database", ">timeline", "reason")
	if len(l.Histories) > 1 {
		for _, h := range l.Histories {
			t.Row(h.History, h.From, h.To, cli.Moment(segment.TimestampOf(h.Began)), h.Database, h.Timeline, h.Reason)
		}
	}
	return t
}

func (l *listing) headline(now time.Time) string {
	until := "nothing can be restored yet"
	switch {
	case l.RecoverableToTime != nil:
		age := cli.Ago(now.Sub(l.RecoverableToTime.Time()))
		until = fmt.Sprintf("recoverable until %s, %s ago (LSN %s)", cli.Moment(*l.RecoverableToTime), age, *l.RecoverableToLSN)
	case l.RecoverableToLSN != nil:
		until = fmt.Sprintf("recoverable until LSN %s", *l.RecoverableToLSN)
	}
	line := l.State + ": " + until
	if l.reason != "" {
		line += "; " + l.reason
	}
	return line
}
