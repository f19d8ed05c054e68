// Package pgbinary gives values that PostgreSQL wrote as text in its binary format, for COPY and for parameters of statements. A
// server spends a third to half of a COPY's time on taking text apart, row by row and then value by value; we have the values apart
// already.
//
// The formats are those of the types' receive functions (https://www.postgresql.org/docs/current/sql-copy.html,
// "Binary Format"; src/backend/utils/adt). They are the same in all supported versions. Of types that are not here, and of
// text that isn't in the form that a session with DateStyle ISO and bytea_output hex writes, nothing is assumed: such
// rows go as text.
package pgbinary
