package basesnapshot

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/sqltext"
)

// pg_dump leaves an extension's members to the extension's script. What ALTER EXTENSION ... ADD made a member (extensions
// that make tables on demand do so too) no script makes: without it a view that calls such a function can't be restored,
// and a table is lost. Such members are looked for, and taken from a second dump, one as pg_upgrade has it
// made: that one holds the members, each with its ALTER EXTENSION ... ADD.

// addedSQL lists the members that were added, by what pg_depend tells of the order of writes. What a script makes
// becomes a member in the command that makes it, which writes all its rows. What was added
// - has rows that are older, of another transaction;
// - or of the same, if the script ran in this cluster: pg_upgrade makes and adds a member in one transaction;
// - or none that says when it was made, and became a member in a transaction that ran no script.
// Somebody who was rolled back has left his step in the rows that he would have written, and him in xmax: those tell the
// transaction only. The first of an extension's members tell whether its script ran here, as ALTER EXTENSION ... SET SCHEMA
// writes other rows anew; where that may have taken the traces of an update's script, only tables, sequences
// and functions count as added: a view of an older version's script may fit no newer one.
// Functions in C stay with the extension: they need its library, and a newer one may lack them. What belongs to a relation that
// a script made (part) is no member: it was added if no script's transaction wrote it.
const addedSQL = `
WITH member AS (
  SELECT d.classid, d.objid, d.refobjid AS extension, d.xmin::text AS wrote, d.cmin::text::bigint AS step, d.xmin AS writer, d.xmax = '0' AS clean,
    first_value(d.xmin::text) OVER (PARTITION BY d.refobjid ORDER BY age(d.xmin) DESC) AS first
  FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
), other AS (
  SELECT m.*, d.xmin::text AS other_wrote, d.cmin::text::bigint AS other_step, d.xmin AS other_writer, m.clean AND d.xmax = '0' AS steps
  FROM member m JOIN pg_catalog.pg_depend d ON d.classid = m.classid AND d.objid = m.objid AND d.deptype NOT IN ('e', 'x')
  UNION ALL SELECT m.*, n.xmin::text, n.cmin::text::bigint, n.xmin, m.clean AND n.xmax = '0'
  FROM member m JOIN pg_catalog.pg_namespace n ON m.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = m.objid
), script AS (
  SELECT DISTINCT extension, wrote FROM other WHERE other_wrote = wrote AND other_step = step AND (steps OR wrote = first)
), here AS (
  SELECT s.extension, EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_extension'::regclass AND d.objid = s.extension
    AND d.deptype = 'n' AND d.xmin::text = s.wrote) AS unmoved
  FROM script s WHERE (s.extension, s.wrote) IN (SELECT extension, first FROM member)
), evidence AS (
  SELECT classid, objid, bool_or(steps AND other_wrote = wrote AND other_step = step) AS at_once,
    bool_or(NOT steps) AS unsure, bool_or(other_wrote <> wrote AND age(other_writer) > age(writer)) AS older, bool_or(steps AND other_wrote = wrote AND other_step < step) AS earlier
  FROM other GROUP BY classid, objid
), part AS (
  SELECT 'pg_catalog.pg_class'::regclass AS class, indexrelid AS object, indrelid AS relation FROM pg_catalog.pg_index
  UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, oid, conrelid FROM pg_catalog.pg_constraint
  UNION ALL SELECT 'pg_catalog.pg_trigger'::regclass, oid, tgrelid FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
  UNION ALL SELECT 'pg_catalog.pg_rewrite'::regclass, oid, ev_class FROM pg_catalog.pg_rewrite WHERE rulename <> '_RETURN'
  UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::regclass, oid, stxrelid FROM pg_catalog.pg_statistic_ext
)
SELECT DISTINCT p.class::oid, p.object, x.extname::text
FROM member m JOIN part p ON p.relation = m.objid JOIN pg_catalog.pg_extension x ON x.oid = m.extension
JOIN pg_catalog.pg_depend d ON d.classid = p.class AND d.objid = p.object AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = p.relation
WHERE m.classid = 'pg_catalog.pg_class'::regclass AND m.extension IN (SELECT extension FROM here)
  AND (m.extension, d.xmin::text) NOT IN (SELECT extension, wrote FROM script) AND d.xmin::text <> x.xmin::text
UNION
SELECT m.classid::oid, m.objid, x.extname::text
FROM member m JOIN pg_catalog.pg_extension x ON x.oid = m.extension LEFT JOIN evidence e ON e.classid = m.classid AND e.objid = m.objid
LEFT JOIN here h ON h.extension = m.extension
WHERE NOT coalesce(e.at_once, false)
  AND (coalesce(e.older, false) OR h.extension IS NOT NULL
    AND (coalesce(e.earlier, false) OR (m.extension, m.wrote) NOT IN (SELECT extension, wrote FROM script) AND m.wrote <> x.xmin::text
      AND (h.unmoved AND NOT coalesce(e.unsure, false) OR m.classid = 'pg_catalog.pg_proc'::regclass
        OR m.classid = 'pg_catalog.pg_class'::regclass AND m.objid IN (SELECT oid FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'S')))))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid AND p.prokind <> 'a' AND l.lanname IN ('c', 'internal'))`

// catalogRow is an object, by its row.
type catalogRow struct{ class, oid uint32 }

// readAdded gives the extension of each member that was added to one.
func readAdded(ctx context.Context, conn *pgx.Conn) (map[catalogRow]string, error) {
	rows, err := conn.Query(ctx, addedSQL)
	if err != nil {
		return nil, sqlFault(err, "looking for objects that were added to extensions")
	}
	added := map[catalogRow]string{}
	var o catalogRow
	var extension string
	_, err = pgx.ForEachRow(rows, []any{&o.class, &o.oid, &extension}, func() error {
		added[o] = extension
		return nil
	})
	return added, sqlFault(err, "looking for objects that were added to extensions")
}

// merger adds to a schema the members that were added to extensions, with what belongs to them.
type merger struct {
	items []SchemaItem
	whole map[int]*SchemaItem // the dump with all members, by its own ids
	known map[int]int         // id there -> index in items
	fresh map[int]int         // id there -> id here, of what comes in
	place map[int]int         // id here -> index in items that it comes after
	adds  map[int]string      // id there -> what makes it a member
}

// withAdded gives items with the members added, taken from whole, the items of a dump that holds all members.
func withAdded(items, whole []SchemaItem, added map[catalogRow]string) ([]SchemaItem, error) {
	m := &merger{items: items, whole: map[int]*SchemaItem{}, known: map[int]int{}, fresh: map[int]int{}, place: map[int]int{}, adds: map[int]string{}}
	m.match(whole)
	next := 0
	for _, it := range items {
		next = max(next, it.ID)
	}
	comes := map[int][]SchemaItem{}
	for i := range whole {
		it := whole[i]
		extension, ok := m.comesIn(&it, added)
		if !ok {
			continue
		}
		next++
		m.fresh[it.ID] = next
		if err := m.adapt(&it, extension, next); err != nil {
			return nil, err
		}
		comes[m.place[next]] = append(comes[m.place[next]], it)
	}
	if err := m.tellDependents(whole); err != nil {
		return nil, err
	}
	out := slices.Clone(comes[-1])
	for i, it := range items {
		out = append(append(out, it), comes[i]...)
	}
	return out, nil
}

// identity is what both dumps call an item by.
type identity struct {
	catalogRow
	kind, namespace, name string
}

func identityOf(it *SchemaItem) identity {
	return identity{catalogRow{it.ClassOID, it.OID}, it.Kind, it.Namespace, it.Name}
}

func (m *merger) match(whole []SchemaItem) {
	index := map[identity]int{}
	for i := range m.items {
		index[identityOf(&m.items[i])] = i
	}
	for i := range whole {
		it := &whole[i]
		m.whole[it.ID] = it
		if at, ok := index[identityOf(it)]; ok {
			m.known[it.ID] = at
		}
	}
}

// comesIn reports whether an item is an added member, or belongs to one and is missing.
func (m *merger) comesIn(it *SchemaItem, added map[catalogRow]string) (extension string, ok bool) {
	if it.Section == "data" {
		return "", false
	}
	if _, here := m.known[it.ID]; here {
		return "", false
	}
	if extension, ok = added[catalogRow{it.ClassOID, it.OID}]; ok && it.ClassOID != 0 {
		return extension, true
	}
	for _, d := range m.needs(it) {
		if _, ok := m.fresh[d]; ok {
			return m.whole[d].Extension, true
		}
	}
	return "", false
}

// needs are the ids there of what an item needs. Of a sequence's owner only the sequence's item tells.
func (m *merger) needs(it *SchemaItem) []int {
	if it.Kind != "SEQUENCE OWNED BY" || len(it.Deps) != 1 || m.whole[it.Deps[0]] == nil {
		return it.Deps
	}
	return append(slices.Clone(it.Deps), m.whole[it.Deps[0]].Deps...)
}

// adapt makes of an item of the other dump one of this, and finds its place: behind all that it needs.
func (m *merger) adapt(it *SchemaItem, extension string, id int) error {
	m.whole[it.ID].Extension = extension
	needs := m.needs(it)
	deps, place := []int{}, -1
	for _, d := range needs {
		for _, dep := range m.here(d, map[int]bool{}) {
			if !slices.Contains(deps, dep.id) {
				deps = append(deps, dep.id)
			}
			place = max(place, dep.at)
		}
	}
	if it.Section == "post-data" {
		place = max(place, m.lastBefore("post-data"))
	}
	m.place[id] = place
	there := it.ID
	it.ID, it.Deps, it.Extension = id, deps, extension
	if err := settleUpgrade(it, m.adding(needs)); err != nil {
		return err
	}
	m.adds[there] = it.MemberSQL
	return nil
}

// adding is what makes the first member among items of the other dump one.
func (m *merger) adding(ids []int) string {
	for _, id := range ids {
		if sql := m.adds[id]; sql != "" {
			return sql
		}
	}
	return ""
}

type neighbour struct{ id, at int }

// here gives what an item of the other dump is here; for one that is not, what that needs.
func (m *merger) here(id int, seen map[int]bool) []neighbour {
	if i, ok := m.fresh[id]; ok {
		return []neighbour{{i, m.place[i]}}
	}
	if at, ok := m.known[id]; ok {
		return []neighbour{{m.items[at].ID, at}}
	}
	it := m.whole[id]
	if it == nil || seen[id] {
		return nil
	}
	seen[id] = true
	var out []neighbour
	for _, d := range it.Deps {
		out = append(out, m.here(d, seen)...)
	}
	return out
}

// lastBefore is the index of the last item before a section.
func (m *merger) lastBefore(section string) int {
	if i := slices.IndexFunc(m.items, func(it SchemaItem) bool { return it.Section == section }); i >= 0 {
		return i - 1
	}
	return len(m.items) - 1
}

// tellDependents gives the items that need what came in its ids, and the privileges on that all that was granted: of a
// member's, pg_dump prints those since it is one.
func (m *merger) tellDependents(whole []SchemaItem) error {
	for i := range whole {
		at, ok := m.known[whole[i].ID]
		if !ok {
			continue
		}
		it := &m.items[at]
		for _, d := range whole[i].Deps {
			id, ok := m.fresh[d]
			if !ok {
				continue
			}
			it.Deps = append(it.Deps, id)
			if it.Kind == "ACL" {
				it.SQL = whole[i].SQL
				if err := settleUpgrade(it, m.adding(whole[i].Deps)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// settleUpgrade takes from an item's statements those that only pg_upgrade can use, and puts apart what makes it a member,
// what it inherits, and the privileges with which it became one (pg_init_privs: pg_dump tells of those that differ from them). adding is what
// made the object of a privilege a member.
func settleUpgrade(it *SchemaItem, adding string) error {
	tokens, err := sqltext.Tokens(it.SQL, true)
	if err != nil {
		return err
	}
	var kept strings.Builder
	inherits := strings.Contains(it.SQL, "\n-- For binary upgrade, set up inheritance this way")
	for len(tokens) > 0 {
		end := slices.IndexFunc(tokens, func(t sqltext.Token) bool { return t.Text == ";" }) + 1
		if end == 0 {
			end = len(tokens)
		}
		first := max(slices.IndexFunc(tokens[:end], func(t sqltext.Token) bool { return t.Kind != sqltext.Space }), 0)
		switch s := sqltext.Join(tokens[first:end]); {
		case strings.HasPrefix(s, "ALTER EXTENSION "):
			it.MemberSQL = s + "\n"
		case strings.HasPrefix(s, "UPDATE pg_catalog.") && inherits:
			it.inherit(s, tokens[first:end])
		case strings.HasPrefix(s, "SELECT pg_catalog.binary_upgrade_set_record_init_privs(false)"):
			if initial := strings.TrimSpace(kept.String()); initial != "" && adding != "" {
				it.InitialSQL = initial + "\n" + strings.Replace(adding, " ADD ", " DROP ", 1) + adding
			}
		case strings.HasPrefix(s, "UPDATE pg_catalog."), strings.HasPrefix(s, "SELECT pg_catalog.binary_upgrade_"):
		default:
			kept.WriteString(sqltext.Join(tokens[:end]))
		}
		tokens = tokens[end:]
	}
	it.SQL = strings.Trim(kept.String(), "\n") + "\n"
	return nil
}

// inherit notes what a statement of pg_upgrade's dump says is not local: the constants after attname or conname.
func (it *SchemaItem) inherit(statement string, tokens []sqltext.Token) {
	if it.Inherited == nil {
		it.Inherited = &Inherited{}
	}
	var names *[]string
	switch {
	case strings.Contains(statement, "SET attislocal = false"):
		names = &it.Inherited.Columns
	case strings.Contains(statement, "SET conislocal = false"):
		names = &it.Inherited.Constraints
	default:
		return
	}
	named := false
	for _, t := range tokens {
		switch {
		case t.Kind == sqltext.Word:
			named = t.Text == "attname" || t.Text == "conname" || named && t.Text == "IN"
		case t.Kind == sqltext.String && named:
			*names = append(*names, constant(t.Text))
		}
	}
}

// constant is what a constant stands for: 'text', or E'text' where there are backslashes, which are doubled.
func constant(text string) string {
	escaped := strings.HasPrefix(text, "E")
	text = strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(text, "E"), "'"), "'"), "''", "'")
	if escaped {
		text = strings.ReplaceAll(text, `\\`, `\`)
	}
	return text
}
