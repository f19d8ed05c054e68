package basesnapshot

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/segment"
)

// sequenceBatch is how many sequences one statement reads.
const sequenceBatch = 100

// sequenceAttempts bounds how often reading begins again because a sequence was dropped meanwhile.
const sequenceAttempts = 5

// ReadSequences reads the state of every sequence that isn't temporary, as it is now: sequences don't follow
// snapshots. lsn is a position at or before which none of the values was read: they are a sample that is
// right for every target up to it. conn is an ordinary session outside a transaction.
func ReadSequences(ctx context.Context, conn *pgx.Conn) (sequences []segment.Sequence, lsn segment.LSN, err error) {
	return readSequences(ctx, conn, "")
}

// SampleSequences is ReadSequences of those that the session's role may read.
func SampleSequences(ctx context.Context, conn *pgx.Conn) (sequences []segment.Sequence, lsn segment.LSN, err error) {
	return readSequences(ctx, conn, " AND CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') END")
}

func readSequences(ctx context.Context, conn *pgx.Conn, filter string) (sequences []segment.Sequence, lsn segment.LSN, err error) {
	for range sequenceAttempts {
		sequences, lsn, err = readSequencesOnce(ctx, conn, filter)
		if s := sqlState(err); s != "42P01" && s != "3F000" { // dropped, or its schema, since it was listed
			break
		}
	}
	if sqlState(err) == "42501" {
		return nil, 0, fault.Wrap(err, fault.Usage, "GRANT SELECT ON ALL SEQUENCES, or pg_read_all_data, to the role; archiver check --sql prints it", "reading sequences")
	}
	return sequences, lsn, sqlFault(err, "reading sequences")
}

func readSequencesOnce(ctx context.Context, conn *pgx.Conn, filter string) ([]segment.Sequence, segment.LSN, error) {
	var position string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text").Scan(&position); err != nil {
		return nil, 0, err
	}
	lsn, err := segment.ParseLSN(position)
	if err != nil {
		return nil, 0, err
	}
	rows, err := conn.Query(ctx, `
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname <> 'tidemark'`+filter+` ORDER BY 1, 2`)
	if err != nil {
		return nil, 0, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
	if err != nil {
		return nil, 0, err
	}
	list := make([]segment.Sequence, 0, len(names))
	for len(names) > 0 {
		n := min(len(names), sequenceBatch)
		batch, err := readSequenceBatch(ctx, conn, names[:n])
		if err != nil {
			return nil, 0, err
		}
		list = append(list, batch...)
		names = names[n:]
	}
	return list, lsn, nil
}

func readSequenceBatch(ctx context.Context, conn *pgx.Conn, names []Name) ([]segment.Sequence, error) {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = fmt.Sprintf("SELECT %d, last_value, is_called FROM %s", i, sqltext.QuoteName(n.Namespace, n.Name))
	}
	// Without arguments and as text: a plan for each batch would only fill the statement cache.
	rows, err := conn.Query(ctx, strings.Join(parts, " UNION ALL "), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	list := make([]segment.Sequence, len(names))
	var i int
	var value int64
	var called bool
	_, err = pgx.ForEachRow(rows, []any{&i, &value, &called}, func() error {
		list[i] = segment.Sequence{Namespace: names[i].Namespace, Name: names[i].Name, LastValue: value, IsCalled: called}
		return nil
	})
	return list, err
}

// readSequenceUse reads, under the snapshot, each sequence's type and bounds, its owner column and the columns whose default uses it.
func readSequenceUse(ctx context.Context, conn *pgx.Conn) (map[Name]*Sequence, error) {
	rows, err := conn.Query(ctx, `
SELECT n.nspname::text, c.relname::text, pg_catalog.format_type(s.seqtypid, NULL), s.seqmin, s.seqmax
FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't'`)
	if err != nil {
		return nil, sqlFault(err, "reading sequences")
	}
	use := map[Name]*Sequence{}
	var name Name
	var kind string
	var least, greatest int64
	read := func() error {
		lo, hi := least, greatest
		use[name] = &Sequence{Type: kind, Min: &lo, Max: &hi}
		return nil
	}
	if _, err := pgx.ForEachRow(rows, []any{&name.Namespace, &name.Name, &kind, &least, &greatest}, read); err != nil {
		return nil, sqlFault(err, "reading sequences")
	}
	// OWNED BY is an auto, an identity an internal dependency of the sequence on the column; a default's
	// nextval('...'::regclass) is a normal one of the default on the sequence.
	rows, err = conn.Query(ctx, `
SELECT sn.nspname::text, s.relname::text, tn.nspname::text, t.relname::text, a.attname::text, x.how = 'i', x.how = 'default'
FROM (
  SELECT d.objid AS seq, d.refobjid AS rel, d.refobjsubid AS col, d.deptype::text AS how FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
  UNION
  SELECT d.refobjid, f.adrelid, f.adnum, 'default' FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
  WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'n'
) x JOIN pg_catalog.pg_class s ON s.oid = x.seq AND s.relkind = 'S' JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_catalog.pg_class t ON t.oid = x.rel JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = x.rel AND a.attnum = x.col
ORDER BY 1, 2, 3, 4, 5`)
	if err != nil {
		return nil, sqlFault(err, "reading the use of sequences")
	}
	var ref ColumnRef
	var byDefault bool
	_, err = pgx.ForEachRow(rows, []any{&name.Namespace, &name.Name, &ref.Namespace, &ref.Table, &ref.Column, &ref.Identity, &byDefault}, func() error {
		s, r := use[name], ref
		if s == nil {
			return nil
		}
		if byDefault {
			s.UsedBy = append(s.UsedBy, r)
		} else {
			s.OwnedBy = &r
		}
		if r.Identity {
			s.UsedBy = append(s.UsedBy, r)
		}
		return nil
	})
	return use, sqlFault(err, "reading the use of sequences")
}
