package apply

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
)

// recognise finds the tables that are known by their OIDs at the source.
func (h *holds) recognise(ctx context.Context, conn *pgconn.PgConn, sources map[uint32]Name, known string) error {
	h.known, h.knownIn = make(map[uint32]uint32, len(sources)), ""
	var names oidNames
	for oid, n := range sources {
		names.add(oid, quoteTable(n.Namespace, n.Name))
	}
	if err := h.find(ctx, conn, names); err != nil || known == "" {
		return err
	}
	rows, err := queryOn(ctx, conn, "select 1 where to_regclass($1) is not null", known)
	if err != nil || len(rows) == 0 {
		return fault.Wrap(err, codeOf(err), "", "look for %s", known)
	}
	h.knownIn = known
	rows, err = queryOn(ctx, conn, "select source::text, target::text from "+known)
	for _, r := range rows {
		h.known[uint32(atoi(r[0]))] = uint32(atoi(r[1]))
	}
	return fault.Wrap(err, codeOf(err), "", "read which tables are which")
}

// Recognise gives the OIDs on the target of tables, by those at the source; names are what they are called on the target.
func Recognise(ctx context.Context, conn *pgconn.PgConn, sources map[uint32]Name) (map[uint32]uint32, error) {
	var h holds
	err := h.recognise(ctx, conn, sources, "")
	return h.known, err
}

// learn takes in the tables that a schema change made, and forgets those that it dropped.
func (h *holds) learn(ctx context.Context, conn *pgconn.PgConn, m *ddl.Message) error {
	for _, o := range m.DroppedRelations() {
		if err := h.unlearn(ctx, conn, o.OID); err != nil {
			return err
		}
	}
	var names oidNames
	for _, o := range m.Relations() {
		if _, ok := h.known[o.OID]; !ok && o.Type == "table" {
			names.add(o.OID, o.Identity)
		}
	}
	if len(names.oids) == 0 {
		return nil
	}
	if err := h.find(ctx, conn, names); err != nil || h.knownIn == "" {
		return err
	}
	for _, source := range names.oids {
		target, ok := h.known[uint32(atoi([]byte(source)))]
		if !ok {
			continue
		}
		if _, err := queryOn(ctx, conn, "insert into "+h.knownIn+" (source, target) values ($1::oid, $2::oid) on conflict (source) do update set target = excluded.target", source, itoa(int64(target))); err != nil {
			return fault.Wrap(err, codeOf(err), "", "remember which table is which")
		}
	}
	return nil
}

func (h *holds) unlearn(ctx context.Context, conn *pgconn.PgConn, source uint32) error {
	if _, ok := h.known[source]; !ok {
		return nil
	}
	delete(h.known, source)
	if h.knownIn == "" {
		return nil
	}
	_, err := queryOn(ctx, conn, "delete from "+h.knownIn+" where source = $1::oid", itoa(int64(source)))
	return fault.Wrap(err, codeOf(err), "", "forget a table that was dropped")
}

// oidNames are OIDs at the source with quoted names.
type oidNames struct{ oids, names []string }

func (n *oidNames) add(oid uint32, name string) {
	n.oids, n.names = append(n.oids, itoa(int64(oid))), append(n.names, name)
}

// find looks for tables by name.
func (h *holds) find(ctx context.Context, conn *pgconn.PgConn, n oidNames) error {
	if len(n.oids) == 0 {
		return nil
	}
	rows, err := queryOn(ctx, conn, `select x.source, c.oid::text from unnest($1::text[], $2::text[]) x(source, name)
join pg_catalog.pg_class c on c.oid = to_regclass(x.name) where c.relkind in ('r', 'p')`, textArray(n.oids), textArray(n.names))
	for _, r := range rows {
		h.known[uint32(atoi(r[0]))] = uint32(atoi(r[1]))
	}
	return fault.Wrap(err, codeOf(err), "", "look for the tables")
}

// textArray is a text[] as the server reads it.
func textArray(list []string) string {
	b := []byte{'{'}
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for j := range len(s) {
			if s[j] == '"' || s[j] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, s[j])
		}
		b = append(b, '"')
	}
	return string(append(b, '}'))
}
