package apply

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// lately is what a replay knows of the schema changes that it made last. A feed goes on in other processes, and a statement
// of a transaction that was open meanwhile may come to one of those: written before these changes, committed after them.
type lately struct {
	Since    segment.LSN  `json:"since"`   // everything before it was there when the feed began
	Settled  segment.LSN  `json:"settled"` // as the Applier's fields of the same names
	Recent   []uint32     `json:"recent"`
	Defaults []uint32     `json:"defaults"`
	Namings  []keptNaming `json:"namings"`
}

// keptNaming is a naming.
type keptNaming struct {
	XID    uint32      `json:"xid"`
	Commit segment.LSN `json:"commit"`
	Class  string      `json:"class"`
	OID    string      `json:"oid"`
	From   [2]string   `json:"from"` // space and name
	To     [2]string   `json:"to"`
}

// keepLately writes it into the open batch, which changed the schema.
func (a *Applier) keepLately() error {
	if a.opts.Atomic == nil || a.opts.Atomic.Lately == "" {
		return nil
	}
	now := lately{Since: a.opts.Schema.Since, Settled: a.settled, Recent: a.recent, Defaults: a.defaults}
	for _, n := range a.namings {
		now.Namings = append(now.Namings, keptNaming{n.xid, n.commit, n.class, n.oid, [2]string{n.from.space, n.from.name}, [2]string{n.to.space, n.to.name}})
	}
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return a.sendWait(a.workers[0], command{do: func(ctx context.Context, w *worker) error {
		table := a.opts.Atomic.Lately
		rows, err := queryOn(ctx, w.conn, "select 1 where to_regclass($1) is not null", table)
		if err == nil && len(rows) == 0 {
			_, err = w.conn.Exec(ctx, "CREATE TABLE "+table+" (state text NOT NULL); COMMENT ON TABLE "+table+" IS 'what restorer follow knows of the last schema changes'").ReadAll()
		}
		if err == nil {
			_, err = queryOn(ctx, w.conn, "delete from "+table)
		}
		if err == nil {
			_, err = queryOn(ctx, w.conn, "insert into "+table+" values ($1)", string(text))
		}
		return fault.Wrap(err, codeOf(err), "", "remember the last schema changes")
	}})
}

// readLately gets what keepLately wrote.
func (a *Applier) readLately(ctx context.Context, conn *pgconn.PgConn) error {
	table := a.opts.Atomic.Lately
	if table == "" {
		return nil
	}
	rows, err := readOwn(ctx, conn, table, "state")
	if err != nil || len(rows) == 0 {
		return fault.Wrap(err, codeOf(err), "", "read the last schema changes")
	}
	var then lately
	if err := json.Unmarshal(rows[0][0], &then); err != nil {
		return fault.Wrap(err, fault.Failed, "", "read the last schema changes")
	}
	a.opts.Schema.Since, a.settled, a.recent, a.defaults = then.Since, then.Settled, then.Recent, then.Defaults
	for _, n := range then.Namings {
		a.namings = append(a.namings, naming{n.XID, n.Commit, n.Class, n.OID, placed{n.From[0], n.From[1]}, placed{n.To[0], n.To[1]}})
	}
	return nil
}
