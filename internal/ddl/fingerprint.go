package ddl

import "strings"

// FingerprintVersion is what a fingerprint begins with, before a colon. It changes with fingerprint.sql: fingerprints of different
// versions say nothing about each other.
const FingerprintVersion = "2"

// FingerprintSQL is a query for the fingerprint of the relation $1 (schema), $2 (name), as in RelationState, no row if there is
// none. Equal relations have equal fingerprints on servers of the same major version, whatever their object
// identifiers, owners, privileges, tablespaces and rows. FingerprintSettings must hold while it runs.
var FingerprintSQL = "SELECT " + fingerprintExpression() +
	"\nWHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = $1) AND c.relname = $2"

func fingerprintExpression() string {
	return "'" + FingerprintVersion + ":' || " + strings.TrimSpace(readSQL("fingerprint.sql"))
}

// FingerprintSettings are the settings that the text of expressions depends on, as SET LOCAL statements.
const FingerprintSettings = `SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = postgres;
SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = hex; SET LOCAL lc_monetary = 'C'; SET LOCAL quote_all_identifiers = off`

// RightsSQL is a query for the privileges on the object $2 (OID) of the catalog $1 (OID), as Object.ACL has them: a JSON array of
// those that there are and those that there are by default, and the owner. No row if there is no such object.
var RightsSQL = "SELECT to_jsonb(g.list)::text, pg_get_userbyid(o.owner)::text " + strings.TrimSpace(readSQL("rights.sql")) + " $1::oid AND o.oid = $2::oid"

// CopiedSQL is a query for what the relation $1 (schema), $2 (name) has of what LIKE copies without a lock, a row each with the columns
// that Copied has. No row if there is no such relation, one of NULLs if it has nothing. FingerprintSettings must hold while it runs.
var CopiedSQL = "SELECT o.type, o.name, o.sql, o.comment FROM pg_catalog.pg_class c LEFT JOIN LATERAL (" + strings.TrimSpace(readSQL("copied.sql")) + ") o ON true" +
	"\nWHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = $1) AND c.relname = $2"
