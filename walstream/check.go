package walstream

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The server versions that this was tried with.
const (
	oldestMajor = 14
	newestMajor = 18
)

// Limits below which a setting is worth a word.
const (
	smallKeepMB       = 1024            // a busy server writes that in minutes
	shortSenderMillis = 10000           // less is missed by an ordinary hiccup of the network
	spareForSnapshots = 1               // later base snapshots use a temporary slot and a walsender
	oldTransaction    = 5 * time.Minute // such a one will hold up the slot's creation
)

// Finding is something that makes an archive incomplete or stops run from starting.
type Finding struct {
	ID      string `json:"id"`      // stable, for scripts
	Fatal   bool   `json:"fatal"`   // run can't start, or the archive would miss changes
	Object  string `json:"object"`  // a setting, a role, a table
	Problem string `json:"problem"` // one line
	Fix     string `json:"fix"`     // SQL that mends it, or ""
}

// Check looks whether the source can be archived completely and returns what it found, nothing if all is
// well. It changes nothing.
func Check(ctx context.Context, conn *pgx.Conn, cfg Config) ([]Finding, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, err
	}
	src, err := readSource(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	var list []Finding
	list = append(list, src.checkServer()...)
	list = append(list, src.checkCapacity()...)
	list = append(list, src.checkRole()...)
	list = append(list, src.checkSlot()...)
	list = append(list, src.checkPublication()...)
	list = append(list, src.checkTables()...)
	list = append(list, src.checkUncovered()...)
	columns, err := src.checkColumns(ctx, conn)
	if err != nil {
		return nil, err
	}
	list = append(list, columns...)
	if src.slot != nil {
		return list, nil
	}
	blockers, err := readBlockers(ctx, conn, 0)
	return append(list, checkBlockers(blockers, time.Now())...), err
}

// checkBlockers names transactions that the creation of the slot would wait for, long-lived ones only.
func checkBlockers(blockers []Blocker, now time.Time) (list []Finding) {
	for _, b := range blockers {
		if !b.Since.IsZero() && now.Sub(b.Since) > oldTransaction {
			list = append(list, Finding{"old_transaction", false, b.String(), "creating the replication slot will wait for its end", ""})
		}
	}
	return list
}

// fatal keeps the findings that are.
func fatal(list []Finding) []Finding {
	var out []Finding
	for _, f := range list {
		if f.Fatal {
			out = append(out, f)
		}
	}
	return out
}

func (s *source) checkServer() (list []Finding) {
	f := s.server
	major := f.Version / 10000
	switch {
	case major < oldestMajor:
		list = append(list, Finding{"server_version", true, "server_version",
			fmt.Sprintf("PostgreSQL %d is older than %d, the oldest that is supported", major, oldestMajor), ""})
	case major > newestMajor:
		list = append(list, Finding{"server_version", false, "server_version",
			fmt.Sprintf("PostgreSQL %d is newer than %d, the newest that this was tried with", major, newestMajor), ""})
	}
	if f.InRecovery {
		list = append(list, Finding{"hot_standby", true, f.Database,
			"the server is a standby: publications and marks can only be made on the primary; give the primary's address", ""})
	}
	if f.WALLevel != "logical" {
		list = append(list, Finding{"wal_level", true, "wal_level", "is " + f.WALLevel + ", without logical decoding (needs a restart)",
			"ALTER SYSTEM SET wal_level = logical"})
	}
	if f.KeepSize >= 0 && f.KeepSize < smallKeepMB {
		list = append(list, Finding{"max_slot_wal_keep_size", false, "max_slot_wal_keep_size",
			fmt.Sprintf("is %d MB: after that much WAL without us the slot is lost, and the archive has a gap", f.KeepSize),
			"ALTER SYSTEM SET max_slot_wal_keep_size = '64GB'"})
	}
	if f.SenderMillis > 0 && f.SenderMillis < shortSenderMillis {
		list = append(list, Finding{"wal_sender_timeout", false, "wal_sender_timeout",
			fmt.Sprintf("is %d ms: short pauses of the network end the stream", f.SenderMillis),
			"ALTER SYSTEM SET wal_sender_timeout = '60s'"})
	}
	if f.IdleSlot > 0 {
		list = append(list, Finding{"idle_replication_slot_timeout", false, "idle_replication_slot_timeout",
			"is set: the slot is lost when the archiver is down that long", "ALTER SYSTEM SET idle_replication_slot_timeout = 0"})
	}
	return list
}

// checkCapacity looks for room for the slot and its walsender, and for those of later base snapshots.
func (s *source) checkCapacity() (list []Finding) {
	f := s.server
	slots, senders := f.MaxSlots-f.UsedSlots, f.MaxSenders-f.UsedSenders
	if s.slot == nil {
		slots--
	}
	if s.slot == nil || !s.slot.Active {
		senders--
	}
	for _, c := range []struct {
		setting         string
		max, used, left int
	}{{"max_replication_slots", f.MaxSlots, f.UsedSlots, slots}, {"max_wal_senders", f.MaxSenders, f.UsedSenders, senders}} {
		if c.left >= spareForSnapshots {
			continue
		}
		problem := fmt.Sprintf("%d of %d are in use: none is left for the archiver (needs a restart)", c.used, c.max)
		if c.left >= 0 {
			problem = fmt.Sprintf("%d of %d are in use: none is left for later base snapshots (needs a restart)", c.used, c.max)
		}
		list = append(list, Finding{c.setting, c.left < 0, c.setting, problem,
			fmt.Sprintf("ALTER SYSTEM SET %s = %d", c.setting, max(10, c.max+2))})
	}
	return list
}

func (s *source) checkRole() (list []Finding) {
	f := s.server
	if !f.Replication {
		list = append(list, Finding{"role_replication", true, f.Role, "the role may not replicate", "ALTER ROLE " + f.Role + " REPLICATION"})
	}
	if s.pub != nil || f.Superuser {
		return list
	}
	if !f.CreateInDB {
		list = append(list, Finding{"database_create", true, f.Database, "the role may not make a publication in this database",
			"GRANT CREATE ON DATABASE " + f.DatabaseSQL + " TO " + f.Role})
	}
	if len(s.patterns) == 0 {
		list = append(list, Finding{"all_tables", false, f.Role,
			"only a superuser can publish ALL TABLES: a table made later is added to the publication a moment after, with a base snapshot, and only if the role owns it",
			"CREATE PUBLICATION " + pgx.Identifier{s.cfg.Publication}.Sanitize() + " FOR ALL TABLES"})
	}
	return list
}

func (s *source) checkSlot() []Finding {
	slot := s.slot
	finding := func(id, problem string) []Finding {
		// No SQL: dropping a slot may be somebody else's loss.
		return []Finding{{"slot_" + id, true, slot.Name, problem, ""}}
	}
	switch {
	case slot == nil:
		return nil
	case slot.Plugin != "pgoutput":
		return finding("plugin", fmt.Sprintf("the slot uses the plugin %q, not pgoutput; name another with --slot", slot.Plugin))
	case slot.Database != s.server.Database:
		return finding("database", fmt.Sprintf("the slot belongs to database %s; name another with --slot", slot.Database))
	case slot.TwoPhase:
		return finding("two_phase", slot.twoPhaseProblem()+"; "+slot.twoPhaseCure())
	case slot.Lost():
		return finding("lost", "the slot is lost ("+slot.lostReason()+"): the archive has a gap, a new base snapshot is needed")
	case slot.Active && slot.Application != s.server.Application:
		return []Finding{{"slot_active", true, slot.Name,
			fmt.Sprintf("the slot is in use by pid %d (%s), which is no archiver", slot.ActivePID, slot.Application), ""}}
	case slot.WALStatus == "unreserved":
		return []Finding{{"slot_unreserved", false, slot.Name, "the slot is about to be lost: its WAL is over max_slot_wal_keep_size",
			"ALTER SYSTEM SET max_slot_wal_keep_size = -1"}}
	}
	return nil
}
