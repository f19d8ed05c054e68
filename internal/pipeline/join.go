package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tidemark/catalog"
	"tidemark/walstream"
)

const (
	// maxOutside is how many tables that could not be published are written down and named.
	maxOutside = 1000

	// joinInterval is how often such a table is tried again.
	joinInterval = time.Minute
)

// outsideTable is a table that the archive is to hold and that is not published, as the catalog says already.
type outsideTable struct {
	OID  uint32 `json:"o"`
	Left bool   `json:"l,omitempty"` // somebody has taken it out: it is not added again
}

// joinWatch looks for tables that a listed publication lacks: those made since that match the archive's patterns.
type joinWatch struct {
	gate string    // of the publication, when it was looked last
	next time.Time // when what could not be published is tried again
}

// join publishes tables that the archive is to hold and the publication lacks, and puts the publication as it is then and what is
// still outside into now. It returns the ranges that lack rows because of such tables.
func (w *watch) join(ctx context.Context, now *watched, thorough bool) (ranges []catalog.Inexact, err error) {
	before := now.Publication
	if before.All {
		return nil, nil
	}
	now.Outside = w.seen.Outside
	retry := thorough && len(now.Outside) > 0 && !time.Now().Before(w.joining.next)
	if before.Gate() == w.joining.gate && !retry {
		return nil, nil
	}
	w.joining.next = time.Now().Add(joinInterval)
	from := min(w.good, w.schema.before) // a transaction may make a table in the WAL well before others see it
	config := walstream.Config{DSN: w.cfg.DSN, Slot: w.cfg.Slot, Publication: w.cfg.Publication, Tables: w.cfg.Tables, Log: w.log}
	absent, err := walstream.Unpublished(ctx, w.conn, config)
	if err != nil {
		return nil, &sourceError{err}
	}
	tried, err := w.joinEach(ctx, absent, retry)
	if err != nil {
		return nil, err
	}
	now.Outside = tried.outside
	if n := len(tried.refused); n > 0 {
		reason := tried.reason
		if n > 1 {
			reason += fmt.Sprintf(" (and %d more)", n-1)
		}
		if n > maxOutside {
			tried.refused = nil // any
		}
		ranges = append(ranges, catalog.Inexact{From: from, Tables: tried.refused, Reason: reason})
	}
	if tried.joined {
		if now.Publication, err = walstream.ReadPublicationState(ctx, w.conn, w.cfg.Publication, before); err != nil {
			return nil, &sourceError{err}
		}
		if now.Publication == nil || now.Publication.MissingOperations() != "" {
			return nil, errHold // somebody else has changed it: the next look compares with what was seen before
		}
		changes, err := walstream.PublicationChanges(ctx, w.conn, before, now.Publication)
		if err != nil {
			return nil, &sourceError{err}
		}
		for _, c := range changes {
			ranges = append(ranges, catalog.Inexact{From: from, Tables: c.Tables, Reason: c.Reason})
		}
	}
	w.joining.gate = before.Gate()
	return ranges, nil
}

// attempt is what came of adding tables to the publication.
type attempt struct {
	joined  bool           // at least one was added
	outside []outsideTable // those that were not
	refused []string       // names of the ones among them that are new there
	reason  string         // why the first of these was not added
}

// joinEach tries each table.
func (w *watch) joinEach(ctx context.Context, absent []walstream.UnpublishedTable, retry bool) (a attempt, err error) {
	for _, t := range absent {
		i := slices.IndexFunc(w.seen.Outside, func(o outsideTable) bool { return o.OID == t.OID })
		if i >= 0 && (w.seen.Outside[i].Left || !retry) {
			a.outside = append(a.outside, w.seen.Outside[i])
			continue
		}
		if w.wasPublished(t.OID) {
			a.outside = append(a.outside, outsideTable{OID: t.OID, Left: true}) // which is found as a change of the publication
			continue
		}
		problem := t.Problem
		if problem == "" {
			refused, err := walstream.Publish(ctx, w.conn, w.cfg.Publication, t)
			if err != nil {
				return a, &sourceError{err}
			}
			if refused == nil {
				w.log.Info("a table that the archive is to hold was added to the publication", "table", t.Name, "publication", w.cfg.Publication)
				a.joined = true
				continue
			}
			problem = refused.Error()
		}
		a.outside = append(a.outside, outsideTable{OID: t.OID})
		if i >= 0 {
			continue
		}
		if a.refused = append(a.refused, t.Name); len(a.refused) == 1 {
			a.reason = "table " + t.Name + " is to be archived and is not published (" + problem + ")"
		}
		w.log.Warn("a table that the archive is to hold is not published: its rows are not archived", "table", t.Name, "problem", problem, "fix", t.Fix)
	}
	return a, nil
}

// wasPublished reports whether the publication had a table when it was seen last.
func (w *watch) wasPublished(oid uint32) bool {
	return w.seen.Publication != nil && slices.ContainsFunc(w.seen.Publication.Members, func(m walstream.PublicationMember) bool { return m.OID == oid })
}
