package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
	"tidemark/walstream"
)

// continueHistory sees to it that an archive with a history has a slot to go on from.
func (r *runner) continueHistory(ctx context.Context, facts sourceFacts, slot *walstream.SlotState, h catalog.HistoryPoint) error {
	if slot != nil {
		return nil // session compares it with the archive
	}
	if facts.systemID != h.Begins.SystemID || facts.database != h.Begins.Database {
		return r.beginHistory(ctx, &divergedError{reason: fmt.Sprintf("the source is another cluster or database (system identifier %s, database %s)", facts.systemID, facts.database)})
	}
	if facts.flush < h.End {
		return r.beginHistory(ctx, rolledBack(facts.flush, h.End))
	}
	lost := fault.New(fault.Gap, gapHint, "slot %q is gone: what was committed after %s may be missing from history %d", r.cfg.Slot, h.End, h.Number)
	if !r.cfg.AcceptGap {
		return lost
	}
	return r.acceptGap(ctx, lost)
}

// otherWriterFresh is how recent another archiver's entry must be for a new history to be refused: a
// configuration copied to a second cluster must not take a living archive over.
const otherWriterFresh = 2 * time.Minute

// rival is another archiver that may still be writing to the archive.
type rival struct {
	writer catalog.Writer
	silent time.Duration // since it last wrote
}

// findRival looks for one: the newest claim's, or the one's before our own first claim, unless it ended in good
// order, has long been silent, or is known to be dead. It returns nil if there is none.
func (r *runner) findRival(ctx context.Context) (*rival, error) {
	v, now := r.catalog.View(), time.Now()
	if v.Epoch().Writer.Instance == r.instance.id {
		v, now = r.before, r.claimedAt
	}
	w := v.Epoch().Writer
	if v.Epoch().Epoch == 0 || w.Stopped || r.instance.knowsDead(w) {
		return nil, nil
	}
	silent, known, err := silence(ctx, v, now)
	if err != nil || !known || silent >= otherWriterFresh {
		return nil, err
	}
	return &rival{writer: w, silent: silent}, nil
}

// silence returns how long ago the newest claim's writer last wrote; known is false if its entries don't tell.
// Only what the stream's writer itself appends counts: a hold or a snapshot may be of another process, with another
// clock. A time further in the future than clocks differ says nothing.
func silence(ctx context.Context, v *catalog.View, now time.Time) (silent time.Duration, known bool, err error) {
	claim := v.Epoch()
	signs := []time.Time{claim.At}
	if h, ok := v.Newest(); ok {
		if h.Seq > claim.Seq {
			signs = append(signs, h.At) // whoever began it claims next
		}
		e, ok, err := v.FindLSN(ctx, h.Number, h.End-1)
		if err != nil {
			return 0, false, err
		}
		if ok && e.Epoch == claim.Epoch {
			signs = append(signs, e.At)
		}
	}
	for _, at := range signs {
		if age := now.Sub(at); age > -otherWriterFresh && (!known || age < silent) {
			silent, known = max(age, 0), true
		}
	}
	return silent, known, nil
}

// beginHistory ends the newest history where it is and begins another, with a slot and a base snapshot.
func (r *runner) beginHistory(ctx context.Context, why *divergedError) error {
	return r.withSource(ctx, func(conn *pgx.Conn) error {
		facts, err := readFacts(ctx, conn)
		if err != nil {
			return err
		}
		other, err := r.findRival(ctx)
		if err != nil {
			return err
		}
		if other != nil {
			return fault.New(fault.Conflict, "stop that archiver and wait two minutes, or give this source an archive of its own",
				"%s, and another archiver (%s, process %d) wrote to this archive %s ago", why.reason, other.writer.Host, other.writer.PID, other.silent.Round(time.Second))
		}
		if _, err := walstream.EnsurePublication(ctx, conn, r.streamConfig()); err != nil {
			return err
		}
		if err := r.installCapture(ctx, conn); err != nil {
			return err
		}
		from, err := r.slotPosition(ctx, conn)
		if err != nil {
			return err
		}
		return r.appendNextHistory(ctx, conn, facts, from, why)
	})
}

// appendNextHistory appends the history that follows the newest, and asks for its base snapshot.
func (r *runner) appendNextHistory(ctx context.Context, conn *pgx.Conn, facts sourceFacts, from segment.LSN, why *divergedError) error {
	parent, _ := r.catalog.View().Newest()
	r.log.Warn("a new history begins", "reason", why.reason, "from", from)
	begins := catalog.History{Parent: parent.Number, Fork: why.fork, Timeline: why.timeline, Reason: why.reason}
	if err := r.appendHistory(ctx, conn, facts, from, begins); err != nil {
		return err
	}
	r.announce()
	r.needs.restart()
	return nil
}

// slotPosition returns where the slot will go on, making it if it isn't there.
func (r *runner) slotPosition(ctx context.Context, conn *pgx.Conn) (segment.LSN, error) {
	slot, err := walstream.ReadSlot(ctx, conn, r.cfg.Slot)
	if err != nil {
		return 0, err
	}
	if slot != nil {
		return slot.ConfirmedFlush, nil
	}
	created, err := walstream.CreateSlot(ctx, r.streamConfig())
	if err != nil {
		return 0, err
	}
	closeSlot(created)
	return created.ConsistentPoint, nil
}

// appendHistory appends the history entry that begins at from; begins says why, and what it follows. Its fork is that of a
// server on its timeline, another than which the fork says nothing of.
func (r *runner) appendHistory(ctx context.Context, conn *pgx.Conn, facts sourceFacts, from segment.LSN, begins catalog.History) error {
	timeline, err := readTimeline(ctx, conn)
	if err != nil {
		return err
	}
	if timeline != begins.Timeline {
		begins.Fork = 0
	}
	begins.SystemID, begins.Timeline, begins.ServerVersion = facts.systemID, timeline, facts.version
	begins.Database, begins.Encoding = facts.database, facts.encoding
	begins.Slot, begins.Publication, begins.Tables = r.cfg.Slot, r.cfg.Publication, r.cfg.Tables
	_, err = r.catalog.Append(ctx, func(v *catalog.View) (catalog.Entry, error) {
		if newest, _ := v.Newest(); newest.Number != begins.Parent {
			return catalog.Entry{}, fault.New(fault.Conflict, "one archiver for an archive is enough: let that one run", "another archiver began history %d", newest.Number)
		}
		return catalog.Entry{Kind: catalog.KindHistory, History: begins.Parent + 1, From: from, To: from, Begins: &begins}, nil
	})
	return err
}

// readTimeline reads the timeline being written from a WAL file's name: the control file's lags behind a
// promotion.
func readTimeline(ctx context.Context, conn *pgx.Conn) (timeline int32, err error) {
	err = conn.QueryRow(ctx, `SELECT ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int`).Scan(&timeline)
	return timeline, err
}

// acceptGap records the hole that cause names and goes on behind it. Where the server does not continue the
// archive's line of WAL, a new history begins instead.
func (r *runner) acceptGap(ctx context.Context, cause error) error {
	return r.withSource(ctx, func(conn *pgx.Conn) error {
		facts, err := readFacts(ctx, conn)
		if err != nil {
			return err
		}
		timeline, err := readTimeline(ctx, conn)
		if err != nil {
			return err
		}
		history, _ := r.catalog.View().Newest()
		known := lastTimeline(r.catalog.View(), history)
		// The claim comes before anything is changed on the source: who lost the archive leaves it alone.
		epoch, err := r.claim(ctx, timeline, "")
		if err != nil {
			return err
		}
		to, err := r.slotBehindGap(ctx, conn, r.catalog.View().End(history.Number))
		if err != nil {
			return err
		}
		if timeline != known || to <= r.catalog.View().End(history.Number) {
			return r.appendNextHistory(ctx, conn, facts, to, &divergedError{reason: fmt.Sprintf("on timeline %d: %s", timeline, cause)})
		}
		return r.appendGap(ctx, epoch, history.Number, to, cause)
	})
}

// slotBehindGap sees to it that there are a publication and a slot that can go on behind the gap, and
// returns where. A slot is only kept where somebody advanced it: any other stands before what can't be
// read, or has lost it.
func (r *runner) slotBehindGap(ctx context.Context, conn *pgx.Conn, end segment.LSN) (segment.LSN, error) {
	slot, err := r.freeSlot(ctx, conn)
	if err != nil {
		return 0, err
	}
	if slot != nil && slot.Active {
		return 0, slotActive(r.cfg.Slot, slot)
	}
	made, err := walstream.EnsurePublication(ctx, conn, r.streamConfig())
	if err == nil {
		err = r.installCapture(ctx, conn)
	}
	if err != nil {
		return 0, err
	}
	if slot != nil && (made || slot.Lost() || slot.ConfirmedFlush <= end) {
		if err := walstream.DropSlot(ctx, conn, r.cfg.Slot); err != nil {
			return 0, err
		}
	}
	return r.slotPosition(ctx, conn)
}

func (r *runner) appendGap(ctx context.Context, epoch uint64, history uint32, to segment.LSN, cause error) error {
	_, err := r.catalog.Append(ctx, func(v *catalog.View) (catalog.Entry, error) {
		return catalog.Entry{Kind: catalog.KindGap, Epoch: epoch, History: history, From: v.End(history), To: to,
			Gap: &catalog.Gap{Reason: cause.Error(), RunningMax: v.RunningMax(history)}}, nil
	})
	if err == nil {
		r.log.Warn("a gap was recorded", "history", history, "to", to, "reason", cause)
		r.announce()
		r.needs.request("a gap was recorded")
	}
	return err
}
