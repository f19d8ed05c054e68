package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
	"tidemark/walstream"
)

// pollInterval is how often a command looks whether the archive has what it waits for.
const pollInterval = 200 * time.Millisecond

// MarkResult is a mark that is durable in the archive.
type MarkResult struct {
	Name    string      `json:"name"`
	History uint32      `json:"history"`
	LSN     segment.LSN `json:"lsn"`
}

// Mark writes a named restore point into the source's stream and returns once the archive holds it. A run
// must be streaming. Names are unique within an archive.
func Mark(ctx context.Context, dsn string, store objectstore.Store, name string) (*MarkResult, error) {
	if err := checkMarkName(name); err != nil {
		return nil, err
	}
	log, err := catalog.Open(ctx, store)
	if err != nil {
		return nil, err
	}
	view := log.View()
	if found := view.FindMark(name); len(found) > 0 {
		return nil, fault.New(fault.Usage, "choose another name", "mark %q exists already, at %s of history %d", name, found[0].LSN, found[0].History)
	}
	history, ok := view.Newest()
	if !ok {
		return nil, fault.New(fault.Gap, "start archiver run first", "the archive holds no history yet")
	}
	lsn, err := emitMark(ctx, dsn, &history.Begins, name)
	if err != nil {
		return nil, err
	}
	return awaitMark(ctx, log, MarkResult{Name: name, History: history.Number, LSN: lsn})
}

func checkMarkName(name string) error {
	bad := name == "" || len(name) > 200 || !utf8.ValidString(name)
	for _, c := range name {
		bad = bad || unicode.IsControl(c)
	}
	if bad {
		return fault.New(fault.Usage, "give 1 to 200 bytes of printable text", "%q can't be a mark's name", name)
	}
	return nil
}

// emitMark writes the message, a transaction of its own, after making sure that somebody will archive it.
func emitMark(ctx context.Context, dsn string, h *catalog.History, name string) (lsn segment.LSN, err error) {
	conn, err := walstream.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer closeConn(conn)
	if err := requireArchivedSource(ctx, conn, h); err != nil {
		return 0, err
	}
	if err := awaitReader(ctx, conn, h.Slot); err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT pg_logical_emit_message(true, $1, $2)::text", MessagePrefix, markContent+name).Scan(lsnScanner{&lsn})
	return lsn, err
}

// readerPatience is how long a mark waits for an archiver that has just been started to take the slot.
const readerPatience = 10 * time.Second

// awaitReader waits until somebody reads the slot.
func awaitReader(ctx context.Context, conn *pgx.Conn, name string) error {
	unread := fault.New(fault.Failed, "start archiver run, then mark again", "no archiver reads slot %q: the mark would not be archived", name)
	for deadline := time.Now().Add(readerPatience); ; {
		slot, err := walstream.ReadSlot(ctx, conn, name)
		switch {
		case err != nil:
			return err
		case slot == nil:
			return fault.New(fault.Gap, "archiver run says what to do, then mark again", "slot %q is gone: the mark would not be archived", name)
		case slot.Lost():
			return fault.New(fault.Gap, lostHint+"; then mark again", "slot %q lost its WAL: the mark would not be archived", name)
		case slot.Active:
			return nil
		case time.Now().After(deadline):
			return unread
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return unread
			}
			return context.Cause(ctx)
		}
	}
}

// requireArchivedSource refuses a source that is not the one which the archive's newest history was read from.
func requireArchivedSource(ctx context.Context, conn *pgx.Conn, h *catalog.History) error {
	facts, err := readFacts(ctx, conn)
	if err != nil {
		return err
	}
	if facts.systemID != h.SystemID || facts.database != h.Database {
		return fault.New(fault.Usage, "give the --source that archiver run archives", "this source (system identifier %s, database %s) is not the archive's (%s, %s)",
			facts.systemID, facts.database, h.SystemID, h.Database)
	}
	return nil
}

func awaitMark(ctx context.Context, log *catalog.Log, m MarkResult) (*MarkResult, error) {
	for {
		for _, seen := range log.View().FindMark(m.Name) {
			if seen.LSN == m.LSN {
				m.History = seen.History
				return &m, nil
			}
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return nil, fault.Wrap(context.Cause(ctx), fault.Unreachable, "look at archiver status: it will be durable once the archive has caught up", "%s",
				fmt.Sprintf("mark %q is written at %s but not yet archived", m.Name, m.LSN))
		}
		if err := log.Refresh(ctx); err != nil {
			return nil, err
		}
	}
}
