package pitr

import (
	"context"
	"log/slog"
	"time"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// PhaseCompare is the part of Compare that reads both sides; its steps are rows.
const PhaseCompare Phase = "compare"

// CompareOptions say what to compare. The archive's side is restored into a scratch database, which is
// dropped in the end.
type CompareOptions struct {
	Archive *Archive
	Plan    *Plan // made by MakePlan on Archive

	With    string   // DSN of the live database
	Scratch string   // DSN of the scratch database, which must not exist; "": beside the live one, named after it
	Tables  []string // patterns (see segment.Pattern); none: everything
	Jobs    int      // connections of the restore; 0: 4

	AcceptInexact bool // goes past what the archive says it does not have exactly

	// ApplyMissing puts missing rows back into the live tables, in one transaction in which the tables' own
	// triggers don't fire and foreign keys are checked.
	ApplyMissing bool

	Row      func(RowDifference) error // may be nil; called for each difference, table by table; an error ends the comparison
	Progress func(Progress)            // may be nil
	Confirm  func(*Plan) error         // may be nil; called before anything is written; an error ends the comparison
	Log      *slog.Logger              // nil: none
	Now      func() time.Time          // nil: time.Now
}

// CompareReport is what Compare found: the JSON of `restorer compare -o json` ends with it.
type CompareReport struct {
	Target      Target            `json:"target"`
	Database    string            `json:"database"`
	History     uint32            `json:"history"`
	SnapshotID  string            `json:"snapshot_id"`
	ReachedLSN  segment.LSN       `json:"reached_lsn"`
	ReachedTime segment.Timestamp `json:"reached_time"`
	Tables      []TableDifference `json:"tables"`
	Equal       bool              `json:"equal"`   // nothing is missing, different or extra, or what was missing was put back
	Applied     bool              `json:"applied"` // missing rows were put back
	Seconds     map[Phase]float64 `json:"seconds"`
	Notes       []string          `json:"notes,omitempty"`
}

// TableDifference counts what differs in one table.
type TableDifference struct {
	Table       string   `json:"table"` // namespace.name, unquoted
	Key         []string `json:"key"`   // columns that rows are matched by; none: by all values
	ArchiveRows int64    `json:"archive_rows"`
	LiveRows    int64    `json:"live_rows"`
	Missing     int64    `json:"missing"`   // rows of the archive that the live table lacks
	Different   int64    `json:"different"` // rows with the same key and other values
	Extra       int64    `json:"extra"`     // rows of the live table that the archive lacks
	PutBack     int64    `json:"put_back,omitempty"`

	OnlyArchive    bool     `json:"only_archive,omitempty"`    // there is no such live table
	OnlyLive       bool     `json:"only_live,omitempty"`       // the archive has no such table at the target
	ArchiveColumns []string `json:"archive_columns,omitempty"` // that the live table lacks: not compared
	LiveColumns    []string `json:"live_columns,omitempty"`    // that the archive lacks: not compared
}

// Differs reports whether anything is left that differs.
func (t *TableDifference) Differs() bool {
	return t.Missing != t.PutBack || t.Different+t.Extra > 0 || t.OnlyArchive || t.OnlyLive
}

// The kinds of RowDifference.
const (
	RowMissing   = "missing"
	RowDifferent = "different"
	RowExtra     = "extra"
)

// RowDifference is one row that is not the same on both sides, or so many equal ones of a table without a key.
type RowDifference struct {
	Table   string    `json:"table"`
	Kind    string    `json:"kind"`              // missing, different, extra
	Key     RowValues `json:"key,omitempty"`     // empty in a table without a key
	Archive RowValues `json:"archive,omitempty"` // missing: the row; different: the columns that differ
	Live    RowValues `json:"live,omitempty"`    // extra: the row; different: the columns that differ
	Count   int64     `json:"count,omitempty"`   // of equal rows, in a table without a key
}

// Compare restores the tables as they were at the plan's end into a scratch database and compares them, row by
// row, with those of a live database. Memory does not grow with the tables: both sides are read in the order
// of their keys.
//
// Errors are those of Restore; that something differs is none.
func Compare(ctx context.Context, o CompareOptions) (report *CompareReport, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c, err := newComparison(ctx, o)
	if err != nil {
		return nil, err
	}
	defer c.close(context.WithoutCancel(ctx))
	live, err := c.liveSession(ctx) // a database that isn't there is found before the archive's side is restored
	if err != nil {
		return nil, err
	}
	session.Close(live)
	if err := c.openScratch(ctx); err != nil {
		return nil, err
	}
	if err := c.restore(ctx); err != nil {
		return nil, err
	}
	began := o.Now()
	if err := c.compare(ctx); err != nil {
		return nil, err
	}
	c.report.Seconds[PhaseCompare] = o.Now().Sub(began).Seconds()
	c.report.Equal = true
	for i := range c.report.Tables {
		c.report.Equal = c.report.Equal && !c.report.Tables[i].Differs()
	}
	return c.report, nil
}

// comparison is one comparison under way.
type comparison struct {
	o        CompareOptions
	filter   tableFilter
	manifest *basesnapshot.Manifest
	live     *session.Connector
	scratch  *session.Connector
	place    *place // of the scratch database; its admin session is in the maintenance database
	made     bool
	writer   *restorer
	rows     int64 // read, for progress
	report   *CompareReport
}

func newComparison(ctx context.Context, o CompareOptions) (*comparison, error) {
	c := &comparison{o: o, report: &CompareReport{Tables: []TableDifference{}, Seconds: map[Phase]float64{}}}
	var err error
	if c.filter, err = newTableFilter(o.Tables); err != nil {
		return nil, err
	}
	if c.manifest, err = o.Plan.manifest(ctx, o.Archive); err != nil {
		return nil, err
	}
	if c.live, err = session.NewConnector(o.With); err != nil {
		return nil, err
	}
	c.report.Database = c.live.Database()
	scratch := o.Scratch
	if scratch == "" {
		scratch = withDatabase(o.With, scratchName(c.live.Database()))
	}
	if c.scratch, err = session.NewConnector(scratch); err != nil {
		return nil, err
	}
	c.o.Scratch = scratch
	if c.scratch.SameDatabase(c.live) {
		return nil, fault.New(fault.Usage, "name a database that isn't there yet", "the scratch database is the live one")
	}
	c.live.Encoding = session.EncodingOf(c.manifest.Database.Encoding)
	c.scratch.Encoding = c.live.Encoding
	return c, nil
}

// restore brings the archive's side into the scratch database.
func (c *comparison) restore(ctx context.Context) error {
	rep, err := Restore(ctx, Options{
		Archive: c.o.Archive, Plan: c.o.Plan, DSN: c.o.Scratch, Tables: c.o.Tables, Jobs: c.o.Jobs, NoOwner: true, NoPrivileges: true, AcceptInexact: c.o.AcceptInexact,
		Progress: c.o.Progress, Confirm: c.o.Confirm, Log: c.o.Log, Now: c.o.Now,
	})
	if err != nil {
		return err
	}
	c.report.Target, c.report.History, c.report.SnapshotID = rep.Target, rep.History, rep.SnapshotID
	c.report.ReachedLSN, c.report.ReachedTime = rep.ReachedLSN, rep.ReachedTime
	c.report.Seconds["restore"] = rep.Seconds["total"]
	if c.o.AcceptInexact {
		c.report.Notes = rep.Notes
	}
	return nil
}

// compare goes through all tables.
func (c *comparison) compare(ctx context.Context) error {
	archived, err := c.scratchSession(ctx)
	if err != nil {
		return err
	}
	defer session.Close(archived)
	live, err := c.liveSession(ctx)
	if err != nil {
		return err
	}
	defer session.Close(live)
	units, err := c.units(ctx, archived, live)
	if err != nil {
		return err
	}
	if c.o.ApplyMissing {
		if c.writer, err = c.openRestorer(ctx, units); err != nil {
			return err
		}
		defer session.Close(c.writer.conn)
	}
	// The live side is read as of one moment, after the locks of a writer.
	if err := session.Exec(ctx, live, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	for _, u := range units {
		if err := c.compareUnit(ctx, archived, live, u); err != nil {
			return err
		}
		c.report.Tables = append(c.report.Tables, u.diff)
	}
	if c.writer == nil {
		return nil
	}
	return c.writer.finish(ctx, c.report)
}
