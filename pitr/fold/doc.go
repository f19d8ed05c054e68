// Package fold finds out what is left of each row in the end, so that a restore can load that and nothing else.
//
// A Folder is told of every row operation twice, in the same order. The first time it notes for each key which
// operation was the last (Note); the second time it says what to do with each (Decider): most are passed over,
// the last one of a key becomes the insert of a whole row. In between, rows of the base snapshot whose keys were
// touched are left out (Rows). So rows are loaded by COPY, in any order and over several connections, and no
// index is needed to find them by (docs/decisions/folding.md).
//
// Nothing of a row is held but a keyed 128-bit hash of its key. Where the last operation left out values that the
// row has had since (unchanged TOAST values), the operations of that key are replayed in order, as they are
// without folding.
//
// That each operation fits what went before is checked as strictly as a replay does: an insert where no row
// is, an update or delete where one is, the base snapshot's rows among them.
package fold
