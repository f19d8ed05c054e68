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
// refuses while a run reads the slot, or another slot of the database, and never touches the archive. Names left empty are taken from the
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
	if err := refuseOtherRun(ctx, conn, slotName); err != nil {
		return nil, err
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

// refuseOtherRun looks for a run with another slot in this database: it uses the same event triggers, and
// maybe the same publication. It is known by its name, or by that of its slot.
func refuseOtherRun(ctx context.Context, conn *pgx.Conn, own string) error {
	var slot string
	var pid int32
	err := conn.QueryRow(ctx, `SELECT s.slot_name::text, s.active_pid FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid
WHERE s.active AND NOT s.temporary AND s.plugin = 'pgoutput' AND s.database = current_database() AND s.slot_name <> $1
AND (a.application_name = $2 OR starts_with(s.slot_name::text, $2 || '_')) ORDER BY 1 LIMIT 1`, own, walstream.DefaultApplication).Scan(&slot, &pid)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fault.New(fault.Conflict, "stop that archiver run first; or is it the one to detach? then name its slot with --slot",
		"an archiver reads slot %q of this database (process %d) and needs what would be removed", slot, pid)
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
