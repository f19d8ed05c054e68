// Package apply replays archived operations into a PostgreSQL database: inserts by COPY, everything
// else by pipelined prepared statements, spread over several connections by table. Values go in binary format where package
// pgbinary knows it.
//
// It relies on a target that nobody else uses and whose foreign keys and triggers don't exist yet or
// don't fire (session_replication_role = replica): then only the order within a table matters, and every
// table can have one connection of its own. Each update and delete must hit exactly one row. Anything
// that does not fit, such as a column that the target lacks, is an error that names table and LSN;
// no row is ever left out.
package apply
