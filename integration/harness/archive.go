package harness

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"tidemark/segment"
)

// Archive is an archive and, where its commands need one, its source.
type Archive struct {
	URL    string
	Source string   // DSN
	Env    []string // for every command: credentials of the store, for instance
}

// Archiver makes a command of archiver's with source and archive.
func (a Archive) Archiver(verb string, args ...string) Command {
	return Command{Program: "archiver", Env: a.Env,
		Args: append([]string{verb, "--archive", a.URL, "--source", a.Source}, args...)}
}

// Restorer makes a command of restorer's with the archive.
func (a Archive) Restorer(verb string, args ...string) Command {
	return Command{Program: "restorer", Env: a.Env, Args: append([]string{verb, "--archive", a.URL}, args...)}
}

// StartRun starts `archiver run`.
func (a Archive) StartRun(tb TB, args ...string) *Process {
	tb.Helper()
	return Start(tb, a.Archiver("run", args...))
}

// CatchUp runs the archiver until all that is in the WAL now is archived.
func (a Archive) CatchUp(tb TB, args ...string) Result {
	tb.Helper()
	return a.must(tb, a.Archiver("run", append([]string{"--until", "current"}, args...)...))
}

// Mark makes a named restore point.
func (a Archive) Mark(tb TB, name string) Result {
	tb.Helper()
	return a.must(tb, a.Archiver("mark", name))
}

// Snapshot takes a base snapshot.
func (a Archive) Snapshot(tb TB) Result {
	tb.Helper()
	return a.must(tb, a.Archiver("snapshot"))
}

// Restored is the part of `restorer restore -o json` that tests look at.
type Restored struct {
	SnapshotID   string            `json:"snapshot_id"`
	SnapshotLSN  segment.LSN       `json:"snapshot_lsn"`
	ReachedLSN   segment.LSN       `json:"reached_lsn"`
	ReachedTime  segment.Timestamp `json:"reached_time"`
	History      uint32            `json:"history"`
	LastKept     *Transaction      `json:"last_kept"`
	FirstLeftOut *Transaction      `json:"first_left_out"`
	Transactions int64             `json:"transactions"`
	Verified     bool              `json:"data_integrity_verified"`
	Rows         map[string]struct {
		Copied, Inserted, Updated, Deleted int64
	} `json:"rows"`
	Seconds map[string]float64 `json:"seconds"`
}

// Restore restores into a database that the restorer makes, and fails the test if that fails.
func (a Archive) Restore(tb TB, into string, target ...string) Restored {
	tb.Helper()
	var r Restored
	a.decode(tb, a.Restorer("restore", append([]string{"--into", into, "--create", "-o", "json"}, target...)...), &r)
	if !r.Verified {
		tb.Fatalf("restore %s: data_integrity_verified is false", strings.Join(target, " "))
	}
	return r
}

// Listing is the part of `restorer list -o json` that tests look at.
type Listing struct {
	Archive   string `json:"archive"`
	State     string `json:"state"`
	Snapshots []struct {
		ID      string            `json:"id"`
		History uint32            `json:"history"`
		LSN     segment.LSN       `json:"lsn"`
		Time    segment.Timestamp `json:"time"`
		Tables  int64             `json:"tables"`
		Rows    int64             `json:"rows"`
	} `json:"snapshots"`
	Windows []struct {
		History  uint32            `json:"history"`
		FromLSN  segment.LSN       `json:"from_lsn"`
		ToLSN    segment.LSN       `json:"to_lsn"`
		FromTime segment.Timestamp `json:"from_time"`
		ToTime   segment.Timestamp `json:"to_time"`
	} `json:"windows"`
	Marks []struct {
		Name    string      `json:"name"`
		History uint32      `json:"history"`
		LSN     segment.LSN `json:"lsn"`
	} `json:"marks"`
	Gaps []struct {
		History uint32 `json:"history"`
		Reason  string `json:"reason"`
	} `json:"gaps"`
}

// List runs `restorer list`.
func (a Archive) List(tb TB) (l Listing) {
	tb.Helper()
	a.decode(tb, a.Restorer("list", "-o", "json"), &l)
	return l
}

// Status is the part of `archiver status -o json` that tests look at.
type Status struct {
	State            string      `json:"state"`
	RecoverableToLSN segment.LSN `json:"recoverable_to_lsn"`
	Slot             string      `json:"slot"`
	LagBytes         int64       `json:"lag_bytes"`
}

// Status runs `archiver status`. It is the zero Status while there is nothing to tell yet.
func (a Archive) Status(tb TB) (s Status) {
	tb.Helper()
	r := Run(tb, a.Archiver("status", "-o", "json"))
	if r.Code == 0 {
		if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
			tb.Fatalf("archiver status: %v: %s", err, r.Stdout)
		}
	}
	return s
}

// WaitProtected waits until a running archiver has taken its base snapshot and archives the stream.
func (a Archive) WaitProtected(tb TB, run *Process) {
	tb.Helper()
	run.WaitFor(tb, "state protected", 2*time.Minute, func() bool { return a.Status(tb).State == "protected" })
}

// WaitArchived waits until a running archiver has archived all before an LSN.
func (a Archive) WaitArchived(tb TB, run *Process, lsn segment.LSN) {
	tb.Helper()
	run.WaitFor(tb, "archive up to "+lsn.String(), 3*time.Minute, func() bool { return a.Status(tb).RecoverableToLSN >= lsn })
}

// Transaction is a line of `restorer log -o json`, or one that a restore names.
type Transaction struct {
	LSN     segment.LSN       `json:"lsn"`
	EndLSN  segment.LSN       `json:"end_lsn"`
	Time    segment.Timestamp `json:"time"`
	XID     uint32            `json:"xid"`
	Rows    int64             `json:"rows"`
	History uint32            `json:"history"`
	Before  []string          `json:"before"`
	Tables  []struct {
		Table                                string
		Inserts, Updates, Deletes, Truncates int64
	} `json:"tables"`
}

// Log runs `restorer log` with filters and returns the transactions, oldest first.
func (a Archive) Log(tb TB, filters ...string) []Transaction {
	tb.Helper()
	r := a.must(tb, a.Restorer("log", append([]string{"-o", "json"}, filters...)...))
	transactions, err := decodeLog(r.Stdout)
	if err != nil {
		tb.Fatalf("restorer log: %v: %.500s", err, r.Stdout)
	}
	return transactions
}

// decodeLog reads one array, or one object a line.
func decodeLog(out string) ([]Transaction, error) {
	if strings.HasPrefix(strings.TrimSpace(out), "[") {
		var all []Transaction
		return all, json.Unmarshal([]byte(out), &all)
	}
	var all []Transaction
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var t Transaction
		if err := d.Decode(&t); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
}

func (a Archive) decode(tb TB, c Command, into any) {
	tb.Helper()
	r := a.must(tb, c)
	if err := json.Unmarshal([]byte(r.Stdout), into); err != nil {
		tb.Fatalf("%s %s: %v: %.500s", c.Program, c.Args[0], err, r.Stdout)
	}
}

// must runs a command that has to succeed.
func (a Archive) must(tb TB, c Command) Result {
	tb.Helper()
	r := Run(tb, c)
	if r.Code != 0 {
		tb.Fatalf("%s %s: exit code %d\n%s", c.Program, strings.Join(c.Args, " "), r.Code, tail(r.Stderr, 4000))
	}
	return r
}
