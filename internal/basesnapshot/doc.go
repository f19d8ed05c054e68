// Package basesnapshot takes, reads and verifies base snapshots: the whole published database at one
// consistent point of the WAL, as objects in a store. docs/format/snapshot.md describes the objects.
package basesnapshot
