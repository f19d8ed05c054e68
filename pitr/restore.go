package pitr

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tidemark/segment"
)

// ErrNotEmpty is in the chain of the error for a target database that holds something already.
var ErrNotEmpty = errors.New("the target database is not empty")

// Options say what to restore and where to.
type Options struct {
	Archive *Archive
	Plan    *Plan // made by MakePlan on Archive

	DSN      string   // connection string or URL; names the database to restore into
	Create   bool     // the database must not exist and is made
	AsSchema string   // the tables go into this new schema of the database, beside what is there; "": not so
	Tables   []string // patterns (see segment.Pattern); none: everything
	Jobs     int      // connections that load and index in parallel; 0: 4

	SchemaOnly   bool // no rows
	DataOnly     bool // the tables are there already, and empty
	NoOwner      bool // everything belongs to the connecting role
	NoPrivileges bool // no GRANT and REVOKE

	// AcceptInexact goes past what the archive says it does not have exactly, with a note of each.
	AcceptInexact bool

	NoFold     bool  // replay every change in order, also where only a row's last state is needed
	FoldMemory int64 // bytes for the keys of rows that are folded; 0: fold.DefaultMemory

	Progress func(Progress) // may be nil; called from several goroutines, one at a time
	// Last gives SQL that the restore's last transaction runs in the database: it is done exactly if the
	// restore is. May be nil.
	Last func(*Report) string

	Confirm func(*Plan) error // may be nil; called after the preflight and before anything is written; an error ends the restore
	Log     *slog.Logger      // nil: none
	Now     func() time.Time  // nil: time.Now
}

// Phase names a part of a restore.
type Phase string

// The phases, in their order.
const (
	PhasePreflight Phase = "preflight"
	PhaseSchema    Phase = "schema"
	PhaseFold      Phase = "fold" // reading what is replayed a first time
	PhaseSnapshot  Phase = "snapshot"
	PhaseKeys      Phase = "keys"
	PhaseReplay    Phase = "replay"
	PhaseIndexes   Phase = "indexes"
	PhaseFinish    Phase = "finish" // triggers, sequences, materialized views, privileges
	PhaseCheck     Phase = "check"  // the number of rows, and ANALYZE
)

// Progress is a step of a restore. Done and Total have the unit of the phase: bytes for snapshot and
// replay, statements for the others. Total may be 0 while it isn't known.
type Progress struct {
	Phase       Phase
	Done, Total int64
	Unit        string // "bytes" or "steps"
}

// Report is what a restore did: the JSON of `restorer restore -o json`.
type Report struct {
	Target       Target               `json:"target"`
	Database     string               `json:"database"`
	AsSchema     string               `json:"as_schema,omitempty"` // the new schema that everything went into
	History      uint32               `json:"history"`
	SnapshotID   string               `json:"snapshot_id"`
	SnapshotLSN  segment.LSN          `json:"snapshot_lsn"`
	ReachedLSN   segment.LSN          `json:"reached_lsn"`  // commit LSN of the last commit kept, or the snapshot's LSN if nothing came after it
	ReachedTime  segment.Timestamp    `json:"reached_time"` // that commit's time, or the snapshot's
	LastKept     *Commit              `json:"last_kept"`
	FirstLeftOut *Commit              `json:"first_left_out"`
	Transactions int64                `json:"transactions"` // replayed
	Rows         map[string]TableRows `json:"rows"`         // by namespace.name
	Seconds      map[Phase]float64    `json:"seconds"`      // by phase, and "total"

	// Verified: every object read had the size and SHA-256 of the catalog, and the rows and
	// transactions applied are as many as catalog, manifest and indexes say.
	Verified bool     `json:"data_integrity_verified"`
	Notes    []string `json:"notes,omitempty"` // what a person should know, such as sequences that were estimated

	// Tables are the OIDs on the target of its tables, by those that they have at the source.
	Tables map[uint32]uint32 `json:"-"`
}

// TableRows counts what a restore did to one table.
type TableRows struct {
	Copied    int64 `json:"copied"` // from the snapshot
	Inserted  int64 `json:"inserted"`
	Updated   int64 `json:"updated"`
	Deleted   int64 `json:"deleted"`
	Truncated int64 `json:"truncated,omitempty"` // TRUNCATEs
}

// Restore brings the database to the plan's end. Until that is reached, a database made by Create is
// named <name>_tidemark_unfinished, and another holds a schema tidemark_unfinished; a later Restore
// takes away what bears such a mark, and nothing else.
//
// Errors are faults: Usage for a target that can't take the restore, Unreachable, Damage naming the
// object, and Failed naming table, key and LSN for a row that can't be applied.
func Restore(ctx context.Context, o Options) (*Report, error) {
	r, err := newRun(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := r.execute(ctx); err != nil {
		return nil, err
	}
	return r.report, nil
}
