package pipeline

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"tidemark/catalog"
	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/walstream"
)

// DetachPlan is what archiver detach removes from the source.
type DetachPlan struct {
	Slot        string `json:"slot,omitempty"`        // "" when there is none
	Publication string `json:"publication,omitempty"` // "" when there is none
	// Capture has the statements that remove the capture of schema changes; none where it isn't installed.
	Capture []string `json:"capture,omitempty"`
	Applied bool     `json:"applied"`
}

// Detach plans the removal of the slot and the publication from the source, and does it with apply. It
// refuses while a run reads the slot, and never touches the archive. Names left empty are taken from the
// archive (store may be nil) or the defaults.
func Detach(ctx context.Context, cfg Config, apply bool) (*DetachPlan, error) {
	conn, err := walstream.Connect(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	slotName, publication, err := detachNames(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	plan := &DetachPlan{}
	slot, err := walstream.ReadSlot(ctx, conn, slotName)
	if err != nil {
		return nil, err
	}
	if slot != nil {
		if slot.Active {
			return nil, fault.New(fault.Conflict, "stop archiver run first", "slot %q is in use by process %d", slotName, slot.ActivePID)
		}
		plan.Slot = slotName
	}
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)", publication).Scan(&there); err != nil {
		return nil, err
	}
	if there {
		plan.Publication = publication
	}
	if plan.Capture, err = ddl.UninstallPlan(ctx, conn); err != nil {
		return nil, err
	}
	if !apply {
		return plan, nil
	}
	return plan, plan.apply(ctx, conn)
}

func (p *DetachPlan) apply(ctx context.Context, conn *pgx.Conn) error {
	if p.Slot != "" {
		if err := walstream.DropSlot(ctx, conn, p.Slot); err != nil {
			return err
		}
	}
	if p.Publication != "" {
		if err := walstream.DropPublication(ctx, conn, p.Publication); err != nil {
			return err
		}
	}
	if len(p.Capture) > 0 {
		if _, err := ddl.Uninstall(ctx, conn); err != nil {
			return err
		}
	}
	p.Applied = true
	return nil
}

func detachNames(ctx context.Context, conn *pgx.Conn, cfg Config) (slot, publication string, err error) {
	slot, publication = cfg.Slot, cfg.Publication
	if cfg.Store != nil {
		recordedSlot, recordedPublication, err := recordedNames(ctx, cfg.Store)
		if err != nil {
			return "", "", err
		}
		slot, publication = cmp.Or(slot, recordedSlot), cmp.Or(publication, recordedPublication)
	}
	if slot == "" {
		var database string
		if err := conn.QueryRow(ctx, "SELECT current_database()::text").Scan(&database); err != nil {
			return "", "", err
		}
		slot = DefaultSlot(database)
	}
	return slot, cmp.Or(publication, "tidemark"), nil
}

func recordedNames(ctx context.Context, store objectstore.Store) (slot, publication string, err error) {
	log, err := catalog.Open(ctx, store)
	if errors.Is(err, catalog.ErrNoArchive) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	view := log.View()
	if h, ok := view.Newest(); ok {
		return h.Begins.Slot, h.Begins.Publication, nil
	}
	return view.Identity().Slot, "", nil
}
