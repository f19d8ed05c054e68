package ddl

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// Status is what Probe found in a database.
type Status struct {
	Installed     bool   // the event triggers are there, of whatever version
	Version       int    // of the installation; 0: none
	Current       bool   // installed, of this program's version, complete and enabled for all sessions
	CanInstall    bool   // this role may install or upgrade
	Role          string // current_user
	ServerVersion int    // server_version_num

	// Missing says what is wrong or keeps Install from working, a sentence or a statement each; empty if Current.
	Missing []string

	options   Options // what was installed with
	key       string  // one of the states of the key
	superuser bool
}

// probeSQL reads what there is. The functions of an installation are called only when they are known to exist.
const probeSQL = `SELECT current_user::text, current_setting('server_version_num')::int,
	coalesce((SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user), false),
	EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ('{rds_superuser,cloudsqlsuperuser,azure_pg_admin,alloydbsuperuser,doadmin,aiven_superuser,neon_superuser,supabase_admin}')
		AND pg_catalog.pg_has_role(r.oid, 'MEMBER')),
	coalesce((SELECT r.rolname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'tidemark' AND NOT r.rolsuper AND r.rolname <> current_user), ''),
	coalesce((SELECT p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'tidemark' AND p.proname = 'ddl_version'), ''),
	coalesce((SELECT CASE WHEN NOT k.relispopulated THEN '' WHEN pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(k.oid, 'SELECT') THEN 'read' ELSE 'unread' END
		FROM pg_catalog.pg_class k JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace WHERE n.nspname = 'tidemark' AND k.relname = 'ddl_key' AND k.relkind = 'm'), '')`

// partsSQL lists what the event triggers need: $1 are functions, $2 sequences. The last one says whether event triggers
// fire at all, which a server can be told not to do (event_triggers, since 17).
const partsSQL = `SELECT coalesce(array_agg(n), '{}'), pg_catalog.current_setting('event_triggers', true) IS NOT DISTINCT FROM 'off' FROM (
	SELECT 'The function tidemark.' || f || ' is missing.' FROM pg_catalog.unnest($1::text[]) f WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'tidemark' AND p.proname = f)
	UNION ALL
	SELECT 'The sequence tidemark.' || q || ' is missing.' FROM pg_catalog.unnest($2::text[]) q WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'tidemark' AND c.relname = q AND c.relkind = 'S')
) m(n)`

var createdFunction = regexp.MustCompile(`CREATE FUNCTION tidemark\.(ddl_\w+)`)

// functionNames are the functions of an installation of this version.
func functionNames() []string {
	var names []string
	for _, file := range installFiles {
		for _, m := range createdFunction.FindAllStringSubmatch(readSQL(file), -1) {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Probe tells whether schema changes are captured and, if not, whether Install would work. It writes nothing.
func Probe(ctx context.Context, conn *pgx.Conn) (Status, error) {
	var s Status
	var super, managed bool
	var owner, versionText string
	err := conn.QueryRow(ctx, probeSQL).Scan(&s.Role, &s.ServerVersion, &super, &managed, &owner, &versionText, &s.key)
	if err != nil {
		return s, fault.Wrap(err, fault.CodeOf(err), "", "looking for the capture of schema changes")
	}
	rows, err := conn.Query(ctx, "SELECT evtname::text, evtenabled::text FROM pg_catalog.pg_event_trigger WHERE evtname = ANY ($1)", EventTriggers)
	if err != nil {
		return s, fault.Wrap(err, fault.CodeOf(err), "", "looking for the capture of schema changes")
	}
	enabled := map[string]string{}
	var name, state string
	if _, err := pgx.ForEachRow(rows, []any{&name, &state}, func() error { enabled[name] = state; return nil }); err != nil {
		return s, fault.Wrap(err, fault.CodeOf(err), "", "looking for the capture of schema changes")
	}
	s.Installed = len(enabled) > 0
	s.Version, s.options = parseVersion(versionText)
	s.superuser = super
	s.CanInstall = (super || managed) && owner == ""
	s.Missing = s.missing(enabled, owner)
	if s.Installed && s.Version == Version {
		var parts []string
		var off bool
		if err := conn.QueryRow(ctx, partsSQL, functionNames(), []string{"ddl_memory", "ddl_space"}).Scan(&parts, &off); err != nil {
			return s, fault.Wrap(err, fault.CodeOf(err), "", "looking for the capture of schema changes")
		}
		if s.Missing = append(s.Missing, parts...); off {
			s.Missing = append(s.Missing, "Event triggers are switched off (event_triggers): see pg_settings for where.")
		}
	}
	s.Current = len(s.Missing) == 0
	if !s.Current && !s.CanInstall && owner == "" && !s.KeyHidden() {
		s.Missing = append(s.Missing, "ALTER ROLE "+pgx.Identifier{s.Role}.Sanitize()+" SUPERUSER;")
	}
	return s, nil
}

// States of Status.key, but for that of a key that this role reads.
const (
	keyNone   = ""
	keyUnread = "unread"
)

// KeyHidden reports whether all is well but that this role may not read the key: Missing says what mends it.
func (s Status) KeyHidden() bool { return s.key == keyUnread && slices.Equal(s.Missing, s.grants()) }

// grants are the statements that let the role verify messages.
func (s Status) grants() []string {
	role := pgx.Identifier{s.Role}.Sanitize()
	return []string{"GRANT USAGE ON SCHEMA " + Schema + " TO " + role + ";", "GRANT SELECT ON " + keyView + " TO " + role + ";"}
}

// missing lists what keeps an installation from being current.
func (s Status) missing(enabled map[string]string, owner string) []string {
	var list []string
	if owner != "" {
		list = append(list, "ALTER SCHEMA "+Schema+" OWNER TO "+pgx.Identifier{s.Role}.Sanitize()+";")
	}
	switch {
	case !s.Installed:
		return append(list, "The event triggers that write schema changes into the stream are not installed.")
	case s.Version != Version:
		list = append(list, "The event triggers that write schema changes into the stream are of another version.")
	}
	for _, name := range EventTriggers {
		if state, ok := enabled[name]; !ok {
			list = append(list, "The event trigger "+name+" is missing.")
		} else if state != "A" {
			list = append(list, "ALTER EVENT TRIGGER "+pgx.Identifier{name}.Sanitize()+" ENABLE ALWAYS;")
		}
	}
	switch s.key {
	case keyNone:
		list = append(list, "The key that messages are verified with is missing.")
	case keyUnread:
		list = append(list, s.grants()...)
	}
	return slices.Clip(list)
}

func asPgError(err error, target **pgconn.PgError) bool { return errors.As(err, target) }
