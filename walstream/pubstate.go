package walstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// maxRecordedMembers is how many tables of a list are written down for the next START. Of a longer list only
// the hash is: a change that happens while nobody looks then counts for all of its tables.
const maxRecordedMembers = 1000

// PublicationState is what a publication sends, in enough detail to find out later whether it sent less for a
// while. The server keeps no record of changes; but a row of a catalog that was changed, and changed back, has
// another xmin.
type PublicationState struct {
	OID     uint32              `json:"oid"`
	Row     string              `json:"row"`           // xmin of its row
	All     bool                `json:"all,omitempty"` // all tables: there are no members
	Publish string              `json:"publish"`       // the operations
	Extra   string              `json:"extra,omitempty"`
	Members []PublicationMember `json:"members,omitempty"` // in the order of their OIDs
	Hash    string              `json:"hash,omitempty"`    // of Members, which may be left out
	Roots   string              `json:"roots,omitempty"`   // links that tables made later may share: schemas, partitioned tables

	// Pending: a transaction that had not ended changes it. Pending state says nothing of commits before it was read.
	Pending bool `json:"-"`
	gate    string
}

// PublicationMember is a table whose rows a listed publication sends, because of itself, its schema or a
// table that it is a partition of.
type PublicationMember struct {
	OID   uint32 `json:"o"`
	Name  string `json:"n"` // namespace.name
	Links string `json:"l"` // what makes it a member: "<catalog><oid>:<xmin>", several joined by spaces
	made  uint32 // xid that made the table
	class uint32 // xmin of its row in pg_class
}

// The gate is what membership follows from, cheaply: only where it differs the members are read.
const gateQuery = `
select p.oid, p.xmin::text, p.puballtables, concat_ws(', ', case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
    case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end),
  concat_ws(', ', case when p.pubviaroot then 'via root' end, 'generated columns ' || (to_jsonb(p)->>'pubgencols')),
  coalesce((select bool_or(x.x <> 0 and ((x.x - low.xmin) & 4294967295) < 2147483648)
    from (select p.xmax::text::bigint union all select r.xmax::text::bigint from pg_publication_rel r where r.prpubid = p.oid) x(x)), false),
  case when not p.puballtables then concat_ws('/',
    (select sum(hashtextextended(r.prrelid || ' ' || r.xmin, 0)::numeric) from pg_publication_rel r where r.prpubid = p.oid),
    (select sum(hashtextextended(i.inhrelid || ' ' || i.xmin, 0)::numeric) from pg_inherits i),
    (select sum(hashtextextended(c.oid || ' ' || c.relnamespace || c.relname, 0)::numeric) from pg_class c
     where c.relkind in ('r', 'p') and c.relpersistence = 'p' and c.oid >= 16384)) end || %s
from pg_publication p, (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295 as xmin) low
where p.pubname = $1`

const gateSchemas = `coalesce((select '/' || sum(hashtextextended(s.pnnspid || ' ' || s.xmin, 0)::numeric) from pg_publication_namespace s where s.pnpubid = p.oid), '')`

// A partition's links are those of itself and of its ancestors.
const statesQuery = `
select c.oid, n.nspname || '.' || c.relname, c.xmin::text::bigint,
  (select a.xmin::text::bigint from pg_attribute a where a.attrelid = c.oid and a.attname = 'tableoid' and a.attnum < 0),
  (select coalesce(string_agg(l.x, ' ' order by l.x), '') from (
    select 'r' || r.prrelid || ':' || r.xmin from pg_publication_rel r where r.prpubid = $2 and r.prrelid = any (up.line)
    union all select 'i' || i.inhrelid || ':' || i.xmin from pg_inherits i where c.relispartition and i.inhrelid = any (up.line)
    %s) l(x))
from pg_get_publication_tables($1) g join pg_class c on c.oid = g.relid join pg_namespace n on n.oid = c.relnamespace,
  lateral (select case when c.relispartition then array(select a.relid::oid from pg_partition_ancestors(c.oid) a) else array[c.oid] end) up(line)
order by c.oid`

const statesSchemas = `union all select 's' || s.pnnspid || ':' || s.xmin from pg_publication_namespace s
    where s.pnpubid = $2 and s.pnnspid in (select m.relnamespace from pg_class m where m.oid = any (up.line))`

const rootsQuery = `
select coalesce(string_agg(x, ' ' order by x), '') from (
  select 'r' || r.prrelid || ':' || r.xmin from pg_publication_rel r join pg_class c on c.oid = r.prrelid where r.prpubid = $1 and c.relkind = 'p'
  union all select 'i' || i.inhrelid || ':' || i.xmin from pg_inherits i join pg_class c on c.oid = i.inhrelid where c.relkind = 'p'
  %s) l(x)`

const rootsSchemas = `union all select 's' || s.pnnspid || ':' || s.xmin from pg_publication_namespace s where s.pnpubid = $1`

// ReadPublicationState reads a publication's state, nil when there is none of that name. last, which may be
// nil, is an earlier reading: it is returned again, but for Pending, where the publication has not changed since.
func ReadPublicationState(ctx context.Context, conn *pgx.Conn, name string, last *PublicationState) (*PublicationState, error) {
	gate, links, roots := "''", "", ""
	if majorOf(conn.PgConn()) >= 15 {
		gate, links, roots = gateSchemas, statesSchemas, rootsSchemas
	}
	s := &PublicationState{}
	var tables *string
	err := conn.QueryRow(ctx, fmt.Sprintf(gateQuery, gate), name).Scan(&s.OID, &s.Row, &s.All, &s.Publish, &s.Extra, &s.Pending, &tables)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, queryFault(err, "reading publication %s", name)
	}
	if tables != nil {
		s.gate = *tables
	}
	if last != nil && last.sameRow(s) && last.gate == s.gate && (s.All || last.gate != "") {
		same := *last
		same.Pending = s.Pending
		return &same, nil
	}
	if s.All {
		return s, nil
	}
	rows, err := conn.Query(ctx, fmt.Sprintf(statesQuery, links), name, s.OID)
	if err == nil {
		s.Members, err = pgx.CollectRows(rows, scanMember)
	}
	if err == nil {
		err = conn.QueryRow(ctx, fmt.Sprintf(rootsQuery, roots), s.OID).Scan(&s.Roots)
	}
	if err != nil {
		return nil, queryFault(err, "reading the tables of publication %s", name)
	}
	s.Hash = hashMembers(s.Members)
	return s, nil
}

func scanMember(row pgx.CollectableRow) (m PublicationMember, err error) {
	var made, class int64
	err = row.Scan(&m.OID, &m.Name, &class, &made, &m.Links)
	m.made, m.class = uint32(made), uint32(class)
	return m, err
}

func hashMembers(members []PublicationMember) string {
	h := sha256.New()
	for _, m := range members {
		_, _ = io.WriteString(h, fmt.Sprintln(m.OID, m.Links)) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (s *PublicationState) sameRow(o *PublicationState) bool {
	return s.OID == o.OID && s.Row == o.Row && s.All == o.All && s.Publish == o.Publish && s.Extra == o.Extra
}

// Gate differs between readings of a listed publication whose members, or tables that may become some, may differ.
func (s *PublicationState) Gate() string { return s.gate }

// Same reports whether nothing has changed between two readings, of which one may have been recorded.
func (s *PublicationState) Same(o *PublicationState) bool { return s.sameRow(o) && s.Hash == o.Hash }

// Recorded returns the state as it is written down: without the members of a long list.
func (s *PublicationState) Recorded() *PublicationState {
	r := *s
	if len(r.Members) > maxRecordedMembers {
		r.Members = nil
	}
	return &r
}

// MissingOperations names the operations that the publication does not send, "" if it sends all. What is
// written with them meanwhile is lost.
func (s *PublicationState) MissingOperations() string {
	var missing []string
	for _, op := range []string{"insert", "update", "delete", "truncate"} {
		if !slices.Contains(strings.Split(s.Publish, ", "), op) {
			missing = append(missing, op)
		}
	}
	return strings.Join(missing, ", ")
}

// PublicationChange is a change by which the stream may have lacked rows.
type PublicationChange struct {
	Tables []string // namespace.name; none: any
	Reason string   // for people
}

// PublicationChanges returns why the stream may have lacked rows between two readings, before and now, of
// which before may have been recorded: the publication was made again or altered (and perhaps altered back),
// a table went, came with rows that it had before, or is sent in another way. Tables that were dropped, or
// published in the transaction that made them, are no such reason.
func PublicationChanges(ctx context.Context, conn *pgx.Conn, before, now *PublicationState) ([]PublicationChange, error) {
	switch {
	case before.OID != now.OID:
		return []PublicationChange{{Reason: "the publication was dropped and made again"}}, nil
	case before.Publish != now.Publish:
		return []PublicationChange{{Reason: fmt.Sprintf("the publication was changed to send %s, before %s", orNothing(now.Publish), orNothing(before.Publish))}}, nil
	case !before.sameRow(now):
		return []PublicationChange{{Reason: "the publication was altered, and maybe sent less for a while"}}, nil
	case before.Hash == now.Hash || now.All:
		return nil, nil
	case len(before.Members) == 0 && before.Hash != hashMembers(nil):
		return []PublicationChange{{Reason: "the publication's list of tables was changed"}}, nil
	}
	return memberChanges(ctx, conn, before, now)
}

func orNothing(operations string) string {
	if operations == "" {
		return "nothing"
	}
	return operations
}

func memberChanges(ctx context.Context, conn *pgx.Conn, before, now *PublicationState) (changes []PublicationChange, err error) {
	was := make(map[uint32]PublicationMember, len(before.Members))
	for _, m := range before.Members {
		was[m.OID] = m
	}
	roots := strings.Fields(before.Roots)
	add := func(reason string, tables ...string) {
		changes = append(changes, PublicationChange{Tables: slices.Compact(tables), Reason: reason})
	}
	for _, m := range now.Members {
		old, ok := was[m.OID]
		delete(was, m.OID)
		switch {
		case ok && old.Links != m.Links:
			add("table "+m.Name+" was published in another way, and maybe less of it for a while", old.Name, m.Name)
		case !ok && !m.sinceMade(roots):
			add("table "+m.Name+" was published only after it had been made", m.Name)
		}
	}
	if len(was) == 0 {
		return changes, nil
	}
	var gone []PublicationMember
	for _, m := range before.Members {
		if _, ok := was[m.OID]; ok {
			gone = append(gone, m)
		}
	}
	there, err := stillThere(ctx, conn, gone)
	for _, m := range gone {
		if name, ok := there[m.OID]; ok {
			add("table "+m.Name+" is no longer published", m.Name, name)
		}
	}
	return changes, err
}

// stillThere returns which of the tables still exist, with their names.
func stillThere(ctx context.Context, conn *pgx.Conn, gone []PublicationMember) (map[uint32]string, error) {
	oids := make([]string, len(gone))
	for i, m := range gone {
		oids[i] = strconv.FormatUint(uint64(m.OID), 10)
	}
	rows, err := conn.Query(ctx, `select c.oid, n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.oid = any ($1::text[]::oid[])`, oids)
	if err != nil {
		return nil, queryFault(err, "looking for tables that are no longer published")
	}
	there := map[uint32]string{}
	var oid uint32
	var name string
	_, err = pgx.ForEachRow(rows, []any{&oid, &name}, func() error { there[oid] = name; return nil })
	return there, queryFault(err, "looking for tables that are no longer published")
}

// sinceMade reports whether the table was published from its first row on: what makes it a member was there
// before (roots), or came with the transaction that made the table. Whether a table of a published schema was
// moved there shows in its row in pg_class, which is younger then, as it is after other changes. (A link's xid
// that is lower than the table's proves nothing: an older transaction may have published a younger table.)
func (m *PublicationMember) sinceMade(roots []string) bool {
	for link := range strings.FieldsSeq(m.Links) {
		_, text, _ := strings.Cut(link, ":")
		xid, err := strconv.ParseUint(text, 10, 32)
		if err != nil || uint32(xid) != m.made && !slices.Contains(roots, link) {
			return false
		}
		if link[0] == 's' && m.class != m.made {
			return false
		}
	}
	return m.Links != ""
}
