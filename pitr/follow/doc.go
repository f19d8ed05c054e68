// Package follow feeds a standby database from an archive: it restores into an empty database and goes on
// applying what is archived, whole transactions in batches that each commit together with how far they
// brought the database. docs/format/follow.md describes the tables that it keeps in the database.
package follow
