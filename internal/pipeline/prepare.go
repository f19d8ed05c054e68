package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/walstream"
)

// A source that does not answer when the archiver starts is tried a few times, then it is an error: whoever
// starts it learns of a mistyped host at once. Once streaming, outages are waited out.
const (
	firstAttempts = 4
	firstPause    = 1500 * time.Millisecond
)

// prepare opens or makes the archive and sees to it that it has a history that a slot feeds. It returns the
// slot it made, if it made one for a first history: its exported snapshot is the first base snapshot's.
func (r *runner) prepare(ctx context.Context) (first *walstream.CreatedSlot, err error) {
	conn, err := r.firstConnection(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	facts, err := readFacts(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("reading the source's identity: %w", err)
	}
	if r.catalog, err = catalog.Open(ctx, r.cfg.Store, r.onRootFailure(), catalog.WithLog(r.log)); err != nil && !errors.Is(err, catalog.ErrNoArchive) {
		return nil, err
	}
	if err := r.settleNames(facts); err != nil {
		return nil, err
	}
	slot, err := walstream.ReadSlot(ctx, conn, r.cfg.Slot)
	if err != nil {
		return nil, err
	}
	if err := r.preflight(ctx, conn, slot); err != nil {
		return nil, err
	}
	if r.catalog == nil {
		if slot != nil && r.cfg.NewArchive { // nothing is written while another archiver reads it
			if slot, err = r.idleSlot(ctx, conn); err != nil {
				return nil, err
			}
		}
		if err := r.create(ctx, facts, slot); err != nil {
			return nil, err
		}
	}
	if history, ok := r.catalog.View().Newest(); ok {
		if err := r.installCapture(ctx, conn); err != nil {
			return nil, err
		}
		return nil, r.continueHistory(ctx, facts, slot, history)
	}
	return r.firstHistory(ctx, conn, facts, slot)
}

func (r *runner) firstConnection(ctx context.Context) (conn *pgx.Conn, err error) {
	for attempt := range firstAttempts {
		if attempt > 0 {
			r.log.Warn("source can't be reached, trying again", "err", err)
			select {
			case <-time.After(firstPause):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		conn, err = walstream.Connect(ctx, r.cfg.DSN)
		if err == nil || fault.CodeOf(err) != fault.Unreachable {
			return conn, err
		}
	}
	return nil, err
}

// settleNames finds the names of slot and publication and the tables: those that the archive recorded, so
// that a restart with other flags can't narrow what is archived without a word.
func (r *runner) settleNames(facts sourceFacts) error {
	if err := r.settleSlotName(facts); err != nil || r.catalog == nil {
		return err
	}
	h, ok := r.catalog.View().Newest()
	if !ok {
		return nil
	}
	switch {
	case r.cfg.Publication == h.Begins.Publication:
	case r.cfg.Publication == defaultPublication:
		r.cfg.Publication = h.Begins.Publication
	default:
		return fault.New(fault.Usage, "leave --publication out, or give this publication an archive of its own",
			"this archive is fed by publication %q, not %q", h.Begins.Publication, r.cfg.Publication)
	}
	if len(r.cfg.Tables) > 0 && !samePatterns(r.cfg.Tables, h.Begins.Tables) {
		recorded := "all tables"
		if len(h.Begins.Tables) > 0 {
			recorded = strings.Join(h.Begins.Tables, ", ")
		}
		return fault.New(fault.Usage, "leave --table out, or give these tables an archive of their own",
			"this archive holds %s, not %s", recorded, strings.Join(r.cfg.Tables, ", "))
	}
	r.cfg.Tables = h.Begins.Tables
	return nil
}

// samePatterns reports whether two lists of patterns are the same set.
func samePatterns(a, b []string) bool {
	set := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	return slices.Equal(set(a), set(b))
}

// settleSlotName finds the slot's name: as given, else as the archive recorded it, else by the database.
func (r *runner) settleSlotName(facts sourceFacts) error {
	recorded := ""
	if r.catalog != nil {
		recorded = r.catalog.View().Identity().Slot
		if h, ok := r.catalog.View().Newest(); ok {
			recorded = h.Begins.Slot
		}
	}
	switch {
	case r.cfg.Slot == "" && recorded != "":
		r.cfg.Slot = recorded
	case r.cfg.Slot == "":
		r.cfg.Slot = DefaultSlot(facts.database)
	case recorded != "" && r.cfg.Slot != recorded:
		return fault.New(fault.Usage, "leave --slot out, or give this slot an archive of its own", "this archive is fed by slot %q, not %q", recorded, r.cfg.Slot)
	}
	return nil
}

// DefaultSlot returns tidemark_<database>, cut to what a slot's name may hold: lower-case letters, digits
// and underscores, at most 63 (ReplicationSlotValidateName, src/backend/replication/slot.c).
func DefaultSlot(database string) string {
	name := []byte("tidemark_" + database)
	for i, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			name[i] = c - 'A' + 'a'
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			name[i] = '_'
		}
	}
	return string(name[:min(len(name), 63)])
}

// preflight refuses a source that would make the archive incomplete, naming the first reason and its cure.
// Where an archive goes on, what troubles only base snapshots or single tables is no reason to let the slot
// hold back WAL: it is told and streaming goes on.
func (r *runner) preflight(ctx context.Context, conn *pgx.Conn, slot *walstream.SlotState) error {
	findings, err := walstream.Check(ctx, conn, r.streamConfig())
	if err != nil {
		return err
	}
	goesOn := false
	if r.catalog != nil && slot != nil {
		_, goesOn = r.catalog.View().Newest()
	}
	var fatal []walstream.Finding
	for _, f := range findings {
		if f.ID == "slot_lost" && r.cfg.AcceptGap {
			continue // it will be recorded and replaced
		}
		if f.Fatal && !(goesOn && slices.Contains(tolerable, f.ID)) {
			fatal = append(fatal, f)
			continue
		}
		r.log.Warn("preflight", "id", f.ID, "object", f.Object, "problem", f.Problem, "fix", f.Fix)
	}
	if len(fatal) == 0 {
		return nil
	}
	more := ""
	if len(fatal) > 1 {
		more = fmt.Sprintf(" (and %d more: archiver check lists them)", len(fatal)-1)
	}
	f := fatal[0]
	hint := cmp.Or(f.Fix, findingHint(f), "archiver check says what an archive needs of its source")
	return fault.New(findingCode(f), hint, "%s: %s%s", f.Object, f.Problem, more)
}

// tolerable are the findings that keep a new archive from beginning but not an old one from going on.
var tolerable = []string{"table_select", "table_row_security", "pattern_no_table", "unreadable_type", "hash_of_enum", "generated_key"}

// findingHint says what to do about a finding that no statement cures; "" where its problem says so.
func findingHint(f walstream.Finding) string {
	switch findingCode(f) {
	case fault.Gap:
		return lostHint
	case fault.Conflict:
		return "stop that reader, or name another slot with --slot"
	}
	return ""
}

const lostHint = "archiver run --accept-gap records the hole and starts over with a new slot and base snapshot; " +
	"raise max_slot_wal_keep_size so that it doesn't happen again"

// create makes the archive. Its identity names the slot before the slot is made: after a crash in between,
// the next run knows the slot as its own.
func (r *runner) create(ctx context.Context, facts sourceFacts, slot *walstream.SlotState) error {
	if slot != nil && !r.cfg.NewArchive {
		if _, err := catalog.Open(ctx, r.cfg.Store); !errors.Is(err, catalog.ErrNoArchive) {
			return r.begunElsewhere() // between our two looks, at the store and at the slots
		}
		return fault.New(fault.Gap, "if nothing else uses the slot, run with --new-archive to start an archive from it, or drop it with archiver detach; or point --archive at the archive it belongs to",
			"slot %q exists already but the archive at %s is empty", r.cfg.Slot, r.cfg.Store)
	}
	var err error
	r.catalog, err = catalog.Create(ctx, r.cfg.Store, catalog.Identity{
		ID: uuid.NewString(), Made: time.Now().UTC(), SystemID: facts.systemID, Database: facts.database, Slot: r.cfg.Slot,
	}, r.onRootFailure())
	if errors.Is(err, catalog.ErrArchiveExists) {
		return r.begunElsewhere()
	}
	if err != nil {
		return err
	}
	r.log.Info("archive made", "archive", r.cfg.Store.String(), "id", r.catalog.View().Identity().ID)
	return nil
}

// onRootFailure has the catalog say when it could not write a root or book behind an entry: the entry is
// durable all the same, but opening the archive costs more requests until the next append mends it.
func (r *runner) onRootFailure() catalog.Option {
	return catalog.WithRootFailure(func(err error) {
		r.metrics.errors.WithLabelValues("root").Inc()
		r.log.Warn("the catalog's newest root could not be written; the next entry tries again", "err", err)
	})
}

// begunElsewhere is the error of the slower of two archivers that began one archive together.
func (r *runner) begunElsewhere() error {
	return fault.New(fault.Conflict, "one archiver for an archive is enough: let that one run",
		"another archiver has just begun the archive at %s", r.cfg.Store)
}

// firstHistory begins history 1.
func (r *runner) firstHistory(ctx context.Context, conn *pgx.Conn, facts sourceFacts, slot *walstream.SlotState) (*walstream.CreatedSlot, error) {
	id := r.catalog.View().Identity()
	if slot != nil && !r.cfg.NewArchive && (id.Slot != r.cfg.Slot || id.SystemID != facts.systemID) {
		return nil, fault.New(fault.Gap, "run with --new-archive to start from it", "slot %q exists already but the archive holds nothing", r.cfg.Slot)
	}
	if _, err := walstream.EnsurePublication(ctx, conn, r.streamConfig()); err != nil {
		return nil, err
	}
	if err := r.installCapture(ctx, conn); err != nil {
		return nil, err
	}
	if slot != nil {
		slot, err := r.idleSlot(ctx, conn)
		if err != nil {
			return nil, err
		}
		return nil, r.appendHistory(ctx, conn, facts, slot.ConfirmedFlush,
			catalog.History{Reason: "the archive begins, from a slot that was there already"})
	}
	created, err := walstream.CreateSlot(ctx, r.streamConfig())
	if err != nil {
		return nil, err
	}
	if err := r.appendHistory(ctx, conn, facts, created.ConsistentPoint, catalog.History{Reason: "the archive begins"}); err != nil {
		closeSlot(created)
		return nil, err
	}
	return created, nil
}

// freeSlot reads the slot, giving the walsender of an archiver that was just killed a moment to leave.
func (r *runner) freeSlot(ctx context.Context, conn *pgx.Conn) (*walstream.SlotState, error) {
	for range 20 {
		slot, err := walstream.ReadSlot(ctx, conn, r.cfg.Slot)
		if err != nil || slot == nil || !slot.Active {
			return slot, err
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return walstream.ReadSlot(ctx, conn, r.cfg.Slot)
}

// idleSlot reads a slot that is to be adopted; one that is still in use is an error.
func (r *runner) idleSlot(ctx context.Context, conn *pgx.Conn) (*walstream.SlotState, error) {
	slot, err := r.freeSlot(ctx, conn)
	switch {
	case err != nil:
		return nil, err
	case slot == nil:
		return nil, fault.New(fault.Unreachable, "run again", "slot %q went away meanwhile", r.cfg.Slot)
	case slot.Active:
		return nil, slotActive(r.cfg.Slot, slot)
	}
	return slot, nil
}

func slotActive(name string, slot *walstream.SlotState) error {
	return fault.New(fault.Conflict, "only one archiver can read a slot: stop the other, or wait for it with --standby", "slot %q is in use by process %d", name, slot.ActivePID)
}

func closeSlot(created *walstream.CreatedSlot) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// Only the exported snapshot dies with this connection; the slot stays.
	_ = created.Close(ctx)
}
