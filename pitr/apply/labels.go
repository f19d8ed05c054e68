package apply

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// formerLabels are the former names of an enum's labels. A transaction that was open while a label was renamed may commit later;
// its rows were decoded with the catalog of their moment, and come with the old name.
type formerLabels struct {
	now   map[string]string // what they are called now
	again map[string]uint32 // those that another label has by now, and the transaction that gave them
}

// renameLabels notes the labels that a change renamed.
func (a *Applier) renameLabels(steps []naming) {
	for _, s := range steps {
		n, err := strconv.ParseUint(s.from.space, 10, 32)
		if s.class != "pg_enum" || err != nil {
			continue
		}
		f := a.formerLabels(uint32(n))
		for old, now := range f.now {
			if now == s.from.name {
				f.now[old] = s.to.name
			}
		}
		f.now[s.from.name] = s.to.name
	}
}

const enumQuery = "select enumtypid::text, enumlabel::text from pg_catalog.pg_enum where enumtypid >= 16384"

// giveLabels notes former names that labels have again.
func (a *Applier) giveLabels(ctx context.Context) error {
	if len(a.labels) == 0 {
		return nil
	}
	rows, err := a.query(ctx, enumQuery)
	for _, row := range rows {
		f, label := a.labels[uint32(atoi(row[0]))], string(row[1])
		if f == nil {
			continue
		}
		if now, former := f.now[label]; former {
			if delete(f.now, label); now != label { // by another one
				f.again[label] = a.begin.XID
			}
		}
	}
	return err
}

// keepLabels writes what is known of former labels into the open batch: a feed goes on in other processes, and a transaction that
// was open while a label was renamed may come to one of those.
func (a *Applier) keepLabels() error {
	if a.opts.Atomic == nil || len(a.labels) == 0 {
		return nil
	}
	var types, labels, now, givers []string
	add := func(oid uint32, label, is string, giver uint32) {
		types, labels = append(types, itoa(int64(oid))), append(labels, label)
		now, givers = append(now, is), append(givers, itoa(int64(giver)))
	}
	for oid, f := range a.labels {
		for label, is := range f.now {
			add(oid, label, is, 0)
		}
		for label, giver := range f.again {
			add(oid, label, "", giver)
		}
	}
	return a.sendWait(a.workers[0], command{do: func(ctx context.Context, w *worker) error {
		if err := a.holds.prepare(ctx, w.conn); err != nil {
			return err
		}
		table := a.holds.table("labels")
		_, err := w.conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+table+" (type oid, label text, now text, giver bigint); DELETE FROM "+table).ReadAll()
		if err == nil {
			_, err = queryOn(ctx, w.conn, "insert into "+table+" select * from unnest($1::oid[], $2::text[], $3::text[], $4::bigint[])",
				textArray(types), textArray(labels), textArray(now), textArray(givers))
		}
		return fault.Wrap(err, codeOf(err), "", "remember former names of labels")
	}})
}

// readLabels gets what keepLabels wrote.
func (a *Applier) readLabels(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := readOwn(ctx, conn, a.holds.table("labels"), "type::text, label, now, giver::text")
	for _, r := range rows {
		f := a.formerLabels(uint32(atoi(r[0])))
		if giver := uint32(atoi(r[3])); giver != 0 {
			f.again[string(r[1])] = giver
		} else {
			f.now[string(r[1])] = string(r[2])
		}
	}
	return fault.Wrap(err, codeOf(err), "", "read former names of labels")
}

// formerLabels gives those of an enum.
func (a *Applier) formerLabels(oid uint32) *formerLabels {
	f := a.labels[oid]
	if f == nil {
		f = &formerLabels{now: map[string]string{}, again: map[string]uint32{}}
		a.labels[oid] = f
	}
	return f
}

// relabel gives the labels in a row the names that they have now. Inside arrays and composites they stay as they are: the
// server refuses one that it doesn't know, and the replay stops.
func (a *Applier) relabel(t *table, row []segment.Value) error {
	for i := range row {
		f := a.labels[t.cols[i].baseOID]
		if f == nil || row[i].Kind != segment.Text {
			continue
		}
		label := string(row[i].Data)
		if now, ok := f.now[label]; ok {
			row[i].Data = []byte(now)
		}
		if giver, ok := f.again[label]; ok && int32(a.begin.XID-giver) < 0 {
			return fault.New(fault.Failed, "restore from a base snapshot that was taken later", "transaction %d, commit LSN %s: column %s of %s holds %q, which was the name of another label while the transaction was open",
				a.begin.XID, a.begin.CommitLSN, t.cols[i].name, t.sql, label)
		}
	}
	return nil
}
