package basesnapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/objectstore"
	"tidemark/segment"
)

// Options say what to take and where to put it.
type Options struct {
	DSN         string
	Publication string            // whose tables are copied; "" for every permanent table
	Store       objectstore.Store // best one that retries: a failed put ends the snapshot
	Archive     string            // archive id (UUID)
	History     uint32
	Jobs        int       // sessions that copy at the same time; default 2
	Exported    *Exported // a snapshot that is exported already; nil: one is made through a temporary slot
	PgDump      string    // the pg_dump to use; "" to look for one

	WaitTimeout time.Duration // how long a new point may wait for older transactions; default 10 minutes
	LockTimeout time.Duration // of one attempt to lock a table; default 10 seconds
	Attempts    int           // how often to begin again when the schema changes meanwhile; default 5

	Log      *slog.Logger   // default: none
	Progress func(Progress) // may be nil; called by one goroutine at a time, which waits for it
	// Imported, if set, is called once Exported isn't needed any more: the session that exports it may go on.
	Imported func()
}

// Exported is a snapshot that another session exports, as the creation of a replication slot does.
type Exported struct {
	Name string
	LSN  segment.LSN // the consistent point
}

// Result is a complete snapshot that no catalog entry names yet.
type Result struct {
	Snapshot catalog.Snapshot // the entry's payload, but for RunningMax
	LSN      segment.LSN      // the entry's From and To; with Exported usually its LSN, later if the schema changed meanwhile
	Manifest *Manifest
}

func (o Options) withDefaults() Options {
	o.Jobs = max(o.Jobs, 0)
	if o.Jobs == 0 {
		o.Jobs = 2
	}
	if o.WaitTimeout <= 0 {
		o.WaitTimeout = 10 * time.Minute
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = 10 * time.Second
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Take takes a base snapshot: it stores the chunks and last the manifest. The caller appends the catalog entry,
// without which the snapshot does not exist. If the schema changes while it is read, Take begins again at a
// newer point, Attempts times at most.
//
// Errors are fault errors: Usage for what the operator must mend (privileges, pg_dump, the DSN), Unreachable for a lost
// server, Failed otherwise; errors.AsType[*ChangedError] tells a schema that kept changing. What a failed attempt
// stored is removed again, as far as that is possible.
func Take(ctx context.Context, options Options) (*Result, error) {
	opt := options.withDefaults()
	archive, err := parseUUID(opt.Archive)
	if err != nil {
		return nil, fault.Wrap(err, fault.Failed, "", "base snapshot")
	}
	for attempt := 1; ; attempt++ {
		result, err := takeOnce(ctx, &opt, archive)
		if err == nil {
			return result, nil
		}
		if !isChanged(err) {
			return nil, err
		}
		if attempt == opt.Attempts {
			return nil, fault.Wrap(err, fault.Failed, "take the snapshot while no DDL runs", "the schema kept changing during %d attempts at a base snapshot; last", attempt)
		}
		opt.Log.Warn("the base snapshot begins again: the schema changed meanwhile", "attempt", attempt, "change", err.Error())
		opt.Exported = nil
	}
}

// taking is one attempt.
type taking struct {
	opt      *Options
	archive  [16]byte
	main     *pgx.Conn // holds the snapshot, and exports it to the others
	monitor  *pgx.Conn // sees what is now
	info     serverInfo
	snapshot string
	values   valueForms
	uses     map[Name]*Sequence
	tables   []*source
	manifest *Manifest
	progress *progress
	stored   bool // something may be in the store
}

func takeOnce(ctx context.Context, opt *Options, archive [16]byte) (_ *Result, err error) {
	t := &taking{opt: opt, archive: archive, progress: &progress{tell: opt.Progress}}
	t.manifest = &Manifest{Archive: opt.Archive, ID: randomID(), History: opt.History}
	started := time.Now()
	if t.monitor, t.info, err = connect(ctx, opt.DSN); err != nil {
		return nil, err
	}
	defer closeConn(t.monitor)
	if t.main, _, err = connect(ctx, opt.DSN); err != nil {
		return nil, err
	}
	defer closeConn(t.main)
	for _, conn := range []*pgx.Conn{t.monitor, t.main} {
		if _, err := conn.Exec(ctx, "SET lock_timeout = "+strconv.FormatInt(catalogLockTimeout.Milliseconds(), 10)); err != nil {
			return nil, sqlFault(err, "preparing a session")
		}
	}
	dump, err := findPgDump(ctx, opt.PgDump, t.info.Version/10000)
	if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{
		t.hold,
		func(ctx context.Context) error {
			return briefly(ctx, t.main, func() error { return t.inventory(ctx) })
		},
		func(ctx context.Context) error { return t.schema(ctx, dump) },
		t.rows, t.sequences,
	} {
		if err := step(ctx); err != nil {
			return nil, t.failed(err)
		}
	}
	result, err := t.finish(ctx, started)
	if err != nil {
		return nil, t.failed(err)
	}
	return result, nil
}

// hold makes main's transaction hold the snapshot, and exports it from there.
func (t *taking) hold(ctx context.Context) error {
	t.progress.phase("waiting")
	p := &point{}
	if e := t.opt.Exported; e != nil {
		p.LSN, p.Name = e.LSN, e.Name
	} else {
		var err error
		if p, err = makePoint(ctx, t.opt, t.monitor); err != nil {
			return err
		}
	}
	defer p.release()
	_, err := t.main.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	if err == nil {
		_, err = t.main.Exec(ctx, "SET TRANSACTION SNAPSHOT "+sqltext.QuoteLiteral(p.Name))
	}
	if err != nil {
		return sqlFault(err, "importing the exported snapshot %s", p.Name)
	}
	var clock time.Time
	if err := t.main.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot(), clock_timestamp()").Scan(&t.snapshot, &clock); err != nil {
		return sqlFault(err, "exporting the snapshot")
	}
	t.manifest.LSN, t.manifest.Time, t.manifest.ServerVersion = p.LSN, segment.TimestampOf(clock), t.info.Version
	if t.opt.Exported != nil && t.opt.Imported != nil {
		t.opt.Imported()
	}
	return nil
}

// inventory reads what the catalogs say under the snapshot.
func (t *taking) inventory(ctx context.Context) (err error) {
	t.progress.phase("schema")
	m := t.manifest
	if t.tables, err = readTables(ctx, t.main, t.opt.Publication); err != nil {
		return err
	}
	if t.values, err = readValueForms(ctx, t.main); err != nil {
		return err
	}
	if t.uses, err = readSequenceUse(ctx, t.main); err != nil {
		return err
	}
	if m.Matviews, err = readMatviews(ctx, t.main); err != nil {
		return err
	}
	if m.Omitted, err = readOmissions(ctx, t.main, t.tables); err != nil {
		return err
	}
	if m.Tablespaces, err = readTablespaces(ctx, t.main); err != nil {
		return err
	}
	m.Database, err = readDatabase(ctx, t.main, t.info.Version)
	return err
}

// dumpAttempts bounds how often pg_dump is run when it doesn't get its locks.
const dumpAttempts = 6

// schema dumps the schema and makes sure that it is the snapshot's.
func (t *taking) schema(ctx context.Context, dump *pgDump) error {
	var then fingerprint
	var added map[catalogRow]string
	err := briefly(ctx, t.main, func() (err error) {
		if then, err = takeFingerprint(ctx, t.main, t.info.Version); err == nil {
			added, err = readAdded(ctx, t.main)
		}
		return err
	})
	if err != nil {
		return err
	}
	env, err := dumpEnv(os.Environ(), t.opt.DSN, &t.main.Config().Config, peerOf(t.main))
	if err != nil {
		return err
	}
	dumped, err := t.dump(ctx, dump, env)
	whole := &toc{}
	if err == nil && len(added) > 0 {
		whole, err = t.dump(ctx, dump, env, "--binary-upgrade")
	}
	// A schema that changes can make pg_dump fail too, on what it no longer finds.
	if changed := schemaUnchanged(ctx, t.main, t.monitor, t.info.Version, then); isChanged(changed) || err == nil && changed != nil {
		return changed
	}
	if err != nil {
		return err
	}
	t.manifest.DumpVersion = dump.Version
	t.manifest.Schema = schemaOf(dumped)
	err = briefly(ctx, t.main, func() (err error) {
		if err := settleInheritance(ctx, t.main, t.manifest.Schema); err != nil {
			return err
		}
		if t.manifest.Schema, err = withAdded(t.manifest.Schema, schemaOf(whole), added); err != nil {
			return err
		}
		if t.manifest.Schema, err = withoutPassing(ctx, t.main, t.manifest.Schema); err != nil {
			return err
		}
		if err := settleInheritedStorage(ctx, t.main, t.manifest.Schema); err != nil {
			return err
		}
		if err := noteInvalidIndexes(ctx, t.main, t.manifest.Schema); err != nil {
			return err
		}
		t.manifest.Roles, err = readRoles(ctx, t.main, t.info.Version, ownersOf(t.manifest.Database, t.manifest.Schema))
		return err
	})
	if err != nil {
		return err
	}
	return t.readable()
}

// catalogLockTimeout bounds how long reading a catalog waits for whoever rewrites it.
const catalogLockTimeout = time.Minute

// briefly reads catalogs in the transaction that holds the snapshot, and gives the locks up that reading took. Kept, they
// would block VACUUM FULL of a catalog, behind which every session queues, pg_dump and the monitor that this process
// waits for among them: a deadlock that no server sees.
func briefly(ctx context.Context, main *pgx.Conn, read func() error) error {
	if _, err := main.Exec(ctx, "SAVEPOINT r"); err != nil {
		return sqlFault(err, "reading the catalogs")
	}
	if err := read(); err != nil {
		return err
	}
	_, err := main.Exec(ctx, "ROLLBACK TO SAVEPOINT r; RELEASE SAVEPOINT r", pgx.QueryExecModeSimpleProtocol)
	return sqlFault(err, "reading the catalogs")
}

func (t *taking) dump(ctx context.Context, dump *pgDump, env []string, more ...string) (*toc, error) {
	for attempt := 1; ; attempt++ {
		dumped, err := dump.run(ctx, env, t.snapshot, t.info.clientEncoding(), t.opt.LockTimeout, more...)
		if !errors.Is(err, errDumpLock) || attempt == dumpAttempts {
			return dumped, err
		}
		t.opt.Log.Warn("pg_dump waits for a lock and is tried again", "attempt", attempt, "err", err)
	}
}

// readable refuses names and definitions that are no UTF-8 (which only an SQL_ASCII database can hold): the manifest
// could not give them back as they are.
func (t *taking) readable() error {
	check := func(what string, texts ...string) error {
		for _, s := range texts {
			if !utf8.ValidString(s) {
				return fault.New(fault.Usage, "rename it, or write its definition in UTF-8", "%s is not UTF-8 in this SQL_ASCII database: %q", what, s[:min(len(s), 60)])
			}
		}
		return nil
	}
	for _, s := range t.tables {
		for _, c := range s.Columns {
			if err := check("a column's name", s.Namespace, s.Name, c.Name); err != nil {
				return err
			}
		}
	}
	for _, it := range t.manifest.Schema {
		if err := check("the definition of "+it.Kind, it.Namespace, it.Name, it.Owner, it.SQL); err != nil {
			return err
		}
	}
	return nil
}

func (t *taking) prefix() string { return Prefix(t.opt.History, t.manifest.LSN, t.manifest.ID) }

func (t *taking) rows(ctx context.Context) error {
	id, err := parseSnapshotID(t.manifest.ID)
	if err != nil {
		return err
	}
	if err := readSizes(ctx, t.monitor, t.tables); err != nil {
		return err
	}
	t.progress.begin(t.tables)
	t.stored = true
	c := &copier{
		opt: t.opt, snapshot: t.snapshot, prefix: t.prefix(), header: ChunkHeader{Archive: t.archive, Snapshot: id},
		progress: t.progress, monitor: t.monitor,
	}
	if err := c.run(ctx, t.tables); err != nil {
		return err
	}
	return valueFormsUnchanged(ctx, t.main, t.monitor, t.values)
}

// sequences reads their values last: at the time of the point or later, and never before a row that used one.
func (t *taking) sequences(ctx context.Context) error {
	t.progress.phase("finishing")
	values, lsn, err := ReadSequences(ctx, t.monitor)
	if err != nil {
		return err
	}
	t.manifest.SequencesLSN = lsn
	for _, v := range values {
		use := t.uses[Name{v.Namespace, v.Name}]
		if use == nil {
			continue // made after the point
		}
		use.Sequence = v
		t.manifest.Sequences = append(t.manifest.Sequences, *use)
	}
	return nil
}

// finish stores the manifest and sums up.
func (t *taking) finish(ctx context.Context, started time.Time) (*Result, error) {
	m := t.manifest
	s := catalog.Snapshot{ID: m.ID, Time: m.Time, Tables: int64(len(t.tables))}
	m.Tables = make([]Table, 0, len(t.tables))
	for _, src := range t.tables {
		m.Tables = append(m.Tables, src.Table)
		s.Rows += src.Rows
		s.RawBytes += src.RawBytes
		s.StoredBytes += src.StoredBytes()
	}
	data, err := encodeManifest(m)
	if err != nil {
		return nil, fault.Wrap(err, fault.Failed, "", "base snapshot")
	}
	key := t.prefix() + "manifest"
	if err := putOnce(ctx, t.opt.Store, key, data); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	s.Manifest = catalog.Object{Key: key, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	s.StoredBytes += int64(len(data))
	s.Seconds = time.Since(started).Seconds()
	return &Result{Snapshot: s, LSN: m.LSN, Manifest: m}, nil
}

// discardTime bounds the removal of what a failed attempt stored.
const discardTime = time.Minute

// failed removes what the attempt stored, which nothing names, and returns err. What can't be removed only
// costs space: that is logged, and is no reason to hide err.
func (t *taking) failed(err error) error {
	if !t.stored {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), discardTime)
	defer cancel()
	if discardErr := t.discard(ctx); discardErr != nil {
		t.opt.Log.Warn("left-overs of a failed base snapshot remain in the store", "prefix", t.prefix(), "err", discardErr)
	}
	return err
}

func (t *taking) discard(ctx context.Context) error {
	for info, err := range t.opt.Store.List(ctx, t.prefix(), "") {
		if err != nil {
			return err
		}
		if err := t.opt.Store.Delete(ctx, info.Key); err != nil {
			return err
		}
	}
	return nil
}

// putOnce stores an object under a key that only this snapshot uses. Its own bytes from an attempt whose
// answer was lost count as success.
func putOnce(ctx context.Context, store objectstore.Store, key string, data []byte) error {
	err := store.Put(ctx, key, data)
	if !errors.Is(err, objectstore.ErrExists) {
		return err
	}
	body, getErr := store.Get(ctx, key, 0, -1)
	if getErr != nil {
		return getErr
	}
	defer body.Close()
	there, getErr := io.ReadAll(io.LimitReader(body, int64(len(data))+1))
	if getErr != nil {
		return fmt.Errorf("reading %s: %w", key, getErr)
	}
	if !bytes.Equal(there, data) {
		return err
	}
	return nil
}
