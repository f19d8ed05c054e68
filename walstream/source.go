package walstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// source is what preflight needs to know, read once.
type source struct {
	cfg      Config
	patterns patterns
	server   serverFacts
	pub      *Publication
	slot     *SlotState
	tables   []*sourceTable
}

// serverFacts are settings, counts and rights.
type serverFacts struct {
	Version      int // server_version_num
	InRecovery   bool
	WALLevel     string
	MaxSlots     int
	UsedSlots    int
	MaxSenders   int
	UsedSenders  int
	KeepSize     int // max_slot_wal_keep_size, MB; -1: no limit
	SenderMillis int // wal_sender_timeout
	IdleSlot     int // idle_replication_slot_timeout, in its own unit; 0: none
	LargeObjects bool
	Superuser    bool
	Replication  bool // may stream
	CreateInDB   bool
	Application  string // our application_name
	Role         string // quoted
	Database     string
	DatabaseSQL  string // quoted
}

// On Amazon's servers the right to replicate is a role, not an attribute.
const factsQuery = `
select current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'),
  current_setting('max_replication_slots')::int, (select count(*) from pg_replication_slots)::int,
  current_setting('max_wal_senders')::int,
  (select count(*) from pg_stat_activity where backend_type = 'walsender')::int,
  (select setting::int from pg_settings where name = 'max_slot_wal_keep_size'),
  (select setting::int from pg_settings where name = 'wal_sender_timeout'),
  coalesce((select setting::int from pg_settings where name = 'idle_replication_slot_timeout'), 0),
  exists (select from pg_largeobject_metadata), r.rolsuper,
  r.rolsuper or r.rolreplication or coalesce((select pg_has_role(r.oid, m.oid, 'member')
    from pg_roles m where m.rolname = 'rds_replication'), false),
  has_database_privilege(current_database(), 'CREATE'), current_setting('application_name'),
  quote_ident(current_user), current_database(), quote_ident(current_database())
from pg_roles r where r.rolname = current_user`

// sourceTable is a table of the source, whether it is wanted or not.
type sourceTable struct {
	OID         uint32
	Namespace   string
	Name        string
	Quoted      string // schema.table for SQL
	Kind        string // r ordinary or partition, p partitioned, f foreign
	Unlogged    bool
	Identity    string // relreplident
	KeyUsable   bool   // the identity names an index that can serve
	HasKey      bool   // there is a valid, immediate primary key
	Generated   bool   // it has generated columns
	Owned       bool   // our role may alter it
	Owner       string // quoted
	Readable    bool
	RowSecurity bool // policies would hide rows from us
	Ancestors   []uint32
	wanted      bool
}

// The rules for a usable index are those of RelationGetIndexList (src/backend/utils/cache/relcache.c). Tables
// with OIDs below 16384 belong to the system and are never published.
const tablesQuery = `
select c.oid, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relpersistence = 'u',
  c.relreplident::text,
  exists (select from pg_index i where i.indrelid = c.oid and i.indisvalid and i.indimmediate and i.indisunique
    and i.indpred is null and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end),
  exists (select from pg_index i where i.indrelid = c.oid and i.indisvalid and i.indimmediate and i.indisprimary),
  exists (select from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> ''),
  pg_has_role(current_user, c.relowner, 'USAGE'), quote_ident(pg_get_userbyid(c.relowner)),
  has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT'),
  c.relrowsecurity and row_security_active(c.oid),
  case when c.relispartition then array(select a.relid::oid from pg_partition_ancestors(c.oid) a where a.relid <> c.oid)
    else '{}' end
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't' and c.oid >= 16384
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by n.nspname, c.relname`

func readSource(ctx context.Context, conn *pgx.Conn, cfg Config) (*source, error) {
	s := &source{cfg: cfg}
	var err error
	if s.patterns, err = parsePatterns(cfg.Tables); err != nil {
		return nil, err
	}
	f := &s.server
	err = conn.QueryRow(ctx, factsQuery).Scan(&f.Version, &f.InRecovery, &f.WALLevel, &f.MaxSlots, &f.UsedSlots,
		&f.MaxSenders, &f.UsedSenders, &f.KeepSize, &f.SenderMillis, &f.IdleSlot, &f.LargeObjects, &f.Superuser,
		&f.Replication, &f.CreateInDB, &f.Application, &f.Role, &f.Database, &f.DatabaseSQL)
	if err == nil {
		err = s.readTables(ctx, conn)
	}
	if err != nil {
		return nil, queryFault(err, "looking at the source")
	}
	pub, errPub := ReadPublication(ctx, conn, cfg.Publication)
	slot, errSlot := ReadSlot(ctx, conn, cfg.Slot)
	s.pub, s.slot = pub, slot
	return s, errors.Join(errPub, errSlot)
}

func (s *source) readTables(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, tablesQuery)
	if err != nil {
		return err
	}
	s.tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*sourceTable, error) {
		t := &sourceTable{}
		return t, row.Scan(&t.OID, &t.Namespace, &t.Name, &t.Quoted, &t.Kind, &t.Unlogged, &t.Identity, &t.KeyUsable,
			&t.HasKey, &t.Generated, &t.Owned, &t.Owner, &t.Readable, &t.RowSecurity, &t.Ancestors)
	})
	if err != nil {
		return fmt.Errorf("tables: %w", err)
	}
	s.choose()
	return nil
}

// choose marks the tables that are wanted: those of the patterns, and partitions of such tables.
func (s *source) choose() {
	matched := make(map[uint32]bool)
	for _, t := range s.tables {
		matched[t.OID] = s.patterns.match(t.Namespace, t.Name)
	}
	for _, t := range s.tables {
		t.wanted = matched[t.OID]
		for _, oid := range t.Ancestors {
			t.wanted = t.wanted || matched[oid]
		}
	}
}

// allTables reports whether the publication should be FOR ALL TABLES.
func (s *source) allTables() bool { return len(s.patterns) == 0 && s.server.Superuser }

// listed returns the tables to name in a FOR TABLE list: those wanted that can be published and don't
// come with a partitioned parent in the list.
func (s *source) listed() []*sourceTable {
	named := make(map[uint32]bool)
	for _, t := range s.tables {
		named[t.OID] = t.wanted && t.published()
	}
	var list []*sourceTable
	for _, t := range s.tables {
		if !named[t.OID] {
			continue
		}
		inherited := false
		for _, oid := range t.Ancestors {
			inherited = inherited || named[oid]
		}
		if !inherited {
			list = append(list, t)
		}
	}
	return list
}

// published reports whether the server can publish such a table at all.
func (t *sourceTable) published() bool { return t.Kind != "f" && !t.Unlogged }
