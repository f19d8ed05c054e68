package basesnapshot

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// readDatabase reads the settings of the database itself.
func readDatabase(ctx context.Context, conn *pgx.Conn, version int) (Database, error) {
	provider, locale, rules, collversion := "'c'", "''", "''", "''"
	if version >= 150000 {
		provider, locale, collversion = "d.datlocprovider::text", "coalesce(d.daticulocale, '')", "coalesce(d.datcollversion, '')"
	}
	if version >= 160000 {
		rules = "coalesce(d.daticurules, '')"
	}
	if version >= 170000 {
		locale = "coalesce(d.datlocale, '')"
	}
	var db Database
	err := conn.QueryRow(ctx, `
SELECT d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text, pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
  `+provider+`, `+locale+`, `+rules+`, `+collversion+`, t.spcname::text, d.datconnlimit,
  coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''), d.datacl::text[]
FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()`).Scan(
		&db.Name, &db.Owner, &db.Encoding, &db.Collate, &db.CType, &db.LocaleProvider, &db.Locale, &db.ICURules, &db.CollationVersion,
		&db.Tablespace, &db.ConnectionLimit, &db.Comment, &db.ACL)
	if err != nil {
		return db, sqlFault(err, "reading the database's settings")
	}
	rows, err := conn.Query(ctx, `
SELECT coalesce(r.rolname::text, ''), unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY 1`)
	if err != nil {
		return db, sqlFault(err, "reading the database's settings")
	}
	var role, entry string
	_, err = pgx.ForEachRow(rows, []any{&role, &entry}, func() error {
		db.Settings = append(db.Settings, newSetting(role, entry))
		return nil
	})
	return db, sqlFault(err, "reading the database's settings")
}

func newSetting(role, entry string) Setting {
	name, value, _ := strings.Cut(entry, "=")
	if isSecretName(name) {
		return Setting{Role: role, Name: name, Value: redacted, Redacted: true}
	}
	return Setting{Role: role, Name: name, Value: value}
}

// rolesSQL finds the roles that something in this database refers to, those named in $1, and the roles that
// these belong to. Predefined roles (pg_…) are there on every server.
const rolesSQL = `
WITH RECURSIVE db AS (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()),
needed AS (
  SELECT d.refobjid AS oid FROM pg_catalog.pg_shdepend d, db WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass
    AND (d.dbid = db.oid OR d.dbid = 0 AND d.classid = 'pg_catalog.pg_database'::regclass AND d.objid = db.oid)
  UNION SELECT s.setrole FROM pg_catalog.pg_db_role_setting s, db WHERE s.setdatabase = db.oid AND s.setrole <> 0
  UNION SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = ANY($1::text[])
  UNION SELECT m.roleid FROM needed JOIN pg_catalog.pg_auth_members m ON m.member = needed.oid
)
SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
  coalesce(r.rolvaliduntil::text, ''), coalesce(r.rolconfig, '{}')
FROM pg_catalog.pg_roles r JOIN needed ON needed.oid = r.oid WHERE r.rolname !~ '^pg_' ORDER BY 1`

// readRoles reads the roles that the database's objects need; named are further ones, such as owners that
// pg_shdepend leaves out because they are the bootstrap superuser.
func readRoles(ctx context.Context, conn *pgx.Conn, version int, named []string) ([]Role, error) {
	rows, err := conn.Query(ctx, rolesSQL, named)
	if err != nil {
		return nil, sqlFault(err, "reading roles")
	}
	roles, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Role, err error) {
		var config []string
		err = row.Scan(&r.Name, &r.Superuser, &r.Inherit, &r.CreateRole, &r.CreateDB, &r.Login, &r.Replication, &r.BypassRLS, &r.ConnectionLimit, &r.ValidUntil, &config)
		for _, entry := range config {
			r.Settings = append(r.Settings, newSetting("", entry))
		}
		return r, err
	})
	if err != nil {
		return nil, sqlFault(err, "reading roles")
	}
	return roles, readMemberships(ctx, conn, version, roles)
}

func readMemberships(ctx context.Context, conn *pgx.Conn, version int, roles []Role) error {
	byName := map[string]*Role{}
	for i := range roles {
		byName[roles[i].Name] = &roles[i]
	}
	options := "NULL::bool, NULL::bool"
	if version >= 160000 {
		options = "bool_or(m.inherit_option), bool_or(m.set_option)"
	}
	rows, err := conn.Query(ctx, `
SELECT u.rolname::text, r.rolname::text, bool_or(m.admin_option), `+options+` FROM pg_catalog.pg_auth_members m
JOIN pg_catalog.pg_roles u ON u.oid = m.member JOIN pg_catalog.pg_roles r ON r.oid = m.roleid GROUP BY 1, 2 ORDER BY 1, 2`)
	if err != nil {
		return sqlFault(err, "reading role memberships")
	}
	var member string
	var m Membership
	_, err = pgx.ForEachRow(rows, []any{&member, &m.Role, &m.Admin, &m.Inherit, &m.Set}, func() error {
		if r := byName[member]; r != nil {
			one := m
			r.MemberOf = append(r.MemberOf, one)
		}
		return nil
	})
	return sqlFault(err, "reading role memberships")
}

func readTablespaces(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `
SELECT t.spcname::text FROM pg_catalog.pg_tablespace t WHERE t.spcname NOT IN ('pg_default', 'pg_global') AND (
  t.oid IN (SELECT c.reltablespace FROM pg_catalog.pg_class c) OR t.oid = (SELECT dattablespace FROM pg_catalog.pg_database WHERE datname = current_database()))
ORDER BY 1`)
	if err != nil {
		return nil, sqlFault(err, "listing tablespaces")
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, sqlFault(err, "listing tablespaces")
}

// ownersOf lists the owners named in the schema, without repeats.
func ownersOf(db Database, items []SchemaItem) []string {
	seen := map[string]bool{}
	var list []string
	for _, it := range append([]SchemaItem{{Owner: db.Owner}}, items...) {
		if it.Owner != "" && !seen[it.Owner] {
			seen[it.Owner] = true
			list = append(list, it.Owner)
		}
	}
	return list
}
