package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tidemark/catalog"
	"tidemark/internal/testserver/postgres"
	"tidemark/objectstore"
	"tidemark/segment"
)

// Source is a database whose archive begins before what is measured: a slot holds the WAL from there, so
// that it can be read over and over, by us and by others.
type Source struct {
	Stage    *Stage
	Server   *postgres.Server
	Database string
	Fresh    string      // folder of the archive as it was then: nothing of the WAL held is in it
	Begin    segment.LSN // where the WAL held begins
	End      segment.LSN // where it ends, once Ended was called
}

const held = "held" // the slot that is never read

// Publication is what our archiver makes; pg_recvlogical reads by it too.
const Publication = "tidemark"

// NewSource makes a database by SQL and its archive with a first base snapshot, and holds the WAL from there.
func (s *Stage) NewSource(ctx context.Context, server *postgres.Server, database string, sql ...string) (*Source, error) {
	if err := server.Exec(ctx, "postgres", "CREATE DATABASE "+database+" TEMPLATE template0"); err != nil {
		return nil, err
	}
	for _, one := range sql {
		if err := server.Exec(ctx, database, one); err != nil {
			return nil, err
		}
	}
	return s.Adopt(ctx, server, database)
}

// Adopt does it with a database that is there.
func (s *Stage) Adopt(ctx context.Context, server *postgres.Server, database string) (*Source, error) {
	src := &Source{Stage: s, Server: server, Database: database, Fresh: s.Path(fmt.Sprintf("%s-%d-fresh", database, server.Port))}
	if err := server.Exec(ctx, database, "CREATE TABLE ended (n int); ALTER TABLE ended REPLICA IDENTITY FULL"); err != nil {
		return nil, err
	}
	if _, err := src.CatchUp(ctx, server.DSN(database), src.Fresh, nil); err != nil {
		return nil, err
	}
	text, err := server.Query(ctx, database, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = "+quote(src.Slot()))
	if err != nil {
		return nil, err
	}
	if src.Begin, err = segment.ParseLSN(text); err != nil {
		return nil, err
	}
	return src, server.Exec(ctx, database, copySlot(src.Slot(), held))
}

// Slot is the archiver's slot.
func (src *Source) Slot() string { return "tidemark_" + src.Database }

// DSN is the source over TCP.
func (src *Source) DSN() string { return src.Server.DSN(src.Database) }

// CatchUp archives what is in the WAL, by `archiver run --until current`.
func (src *Source) CatchUp(ctx context.Context, dsn, url string, env []string, args ...string) (Usage, error) {
	return Run(ctx, src.Stage.Archiver(env, append([]string{"run", "--until", "current", "--source", dsn, "--archive", url}, args...)...))
}

// Ended notes where the WAL ends, and commits a little more, so that readers see that it does.
func (src *Source) Ended(ctx context.Context) error {
	text, err := src.Server.Query(ctx, src.Database, "SELECT pg_current_wal_flush_lsn()")
	if err != nil {
		return err
	}
	if src.End, err = segment.ParseLSN(text); err != nil {
		return err
	}
	return src.Server.Exec(ctx, src.Database, "INSERT INTO ended VALUES (1)")
}

// Rewind puts the archiver's slot back to the beginning.
func (src *Source) Rewind(ctx context.Context) error { return src.Copy(ctx, src.Slot()) }

// Copy makes a slot of that name that stands at the beginning, in place of the one there is.
func (src *Source) Copy(ctx context.Context, slot string) error {
	if err := src.Drop(ctx, slot); err != nil {
		return err
	}
	return src.Server.Exec(ctx, src.Database, copySlot(held, slot))
}

// Drop drops a slot, if it is there, as soon as its reader has gone.
func (src *Source) Drop(ctx context.Context, slot string) (err error) {
	for range 500 {
		err = src.Server.Exec(ctx, src.Database, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = "+quote(slot))
		if err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func copySlot(from, to string) string {
	return fmt.Sprintf("SELECT pg_copy_logical_replication_slot(%s, %s)", quote(from), quote(to))
}

func quote(s string) string { return "'" + s + "'" }

// Drain archives all the WAL held into a new archive in a folder or, with a copy of it made by CopyArchive, at a URL.
func (src *Source) Drain(ctx context.Context, dsn, url string, env []string) (Usage, error) {
	if err := src.Rewind(ctx); err != nil {
		return Usage{}, err
	}
	Settle()
	walsender := src.watchWalsender(ctx, src.Slot())
	u, err := src.CatchUp(ctx, dsn, url, env)
	u.Walsender = walsender()
	return u, err
}

// NewFolder is a folder with an archive as it was at the beginning.
func (src *Source) NewFolder(name string) (string, error) {
	folder := src.Stage.Path(name)
	return folder, os.CopyFS(folder, os.DirFS(src.Fresh))
}

// Upload copies the archive as it was at the beginning to an URL.
func (src *Source) Upload(ctx context.Context, url string) error {
	return CopyArchive(ctx, src.Fresh, url)
}

// CopyArchive copies all objects of an archive.
func CopyArchive(ctx context.Context, from, to string) error {
	source, err := objectstore.Open(ctx, from)
	if err != nil {
		return err
	}
	store, err := objectstore.Open(ctx, to)
	if err != nil {
		return err
	}
	for info, err := range source.List(ctx, "", "") {
		if err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(from, filepath.FromSlash(info.Key)))
		if err != nil {
			return err
		}
		if err := store.Put(ctx, info.Key, data); err != nil {
			return err
		}
	}
	return nil
}

// Foreign drains all the WAL held with pg_recvlogical into a file, which is removed.
func (src *Source) Foreign(ctx context.Context, dsn string) (Usage, error) {
	const slot = "foreign"
	if err := src.Copy(ctx, slot); err != nil {
		return Usage{}, err
	}
	file := src.Stage.Path("pg_recvlogical.out")
	defer os.Remove(file)
	Settle()
	walsender := src.watchWalsender(ctx, slot)
	u, err := Run(ctx, Command{Path: src.Server.Path("pg_recvlogical"), Args: recvArgs(dsn, slot, file, "--no-loop", "--endpos", src.End.String())})
	u.Walsender = walsender()
	if err != nil {
		return u, err
	}
	return u, src.Drop(ctx, slot)
}

func recvArgs(dsn, slot, file string, more ...string) []string {
	return append([]string{"--dbname", dsn, "--slot", slot, "--start", "--file", file,
		"-o", "proto_version=1", "-o", "publication_names=" + Publication, "-o", "messages=true"}, more...)
}

// Attach keeps pg_recvlogical reading a slot into a file.
func (src *Source) Attach(ctx context.Context, dsn, slot, file string) (*Process, error) {
	return Start(ctx, Command{Path: src.Server.Path("pg_recvlogical"), Args: recvArgs(dsn, slot, file)})
}

// Archived sums what an archive's segments hold.
func Archived(ctx context.Context, url string) (sum catalog.Segment, err error) {
	store, err := objectstore.Open(ctx, url)
	if err != nil {
		return sum, err
	}
	log, err := catalog.Open(ctx, store)
	if err != nil {
		return sum, err
	}
	for e, err := range log.View().Entries(ctx, catalog.Range{History: 1}) {
		if err != nil {
			return sum, err
		}
		if g := e.Segment; g != nil {
			sum.Transactions += g.Transactions
			sum.Inserts += g.Inserts
			sum.Updates += g.Updates
			sum.RawBytes += g.RawBytes
			sum.StoredBytes += g.StoredBytes
		}
	}
	return sum, nil
}

// Size is the number of bytes of a folder's files.
func Size(folder string) (bytes int64, err error) {
	err = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

// ArchiveEnd is where the newest history of an archive ends.
func ArchiveEnd(ctx context.Context, url string) (segment.LSN, error) {
	store, err := objectstore.Open(ctx, url)
	if err != nil {
		return 0, err
	}
	log, err := catalog.Open(ctx, store)
	if err != nil {
		return 0, err
	}
	return log.View().End(1), nil
}
