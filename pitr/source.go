package pitr

import (
	"context"
	"iter"

	"tidemark/catalog"
	"tidemark/pitr/apply"
	"tidemark/segment"
)

// source is what planning and listing need to know of an archive. Archive is the real one; tests have
// a synthetic one.
type source interface {
	archiveID() string
	histories() []catalog.HistoryPoint  // ascending
	windows() []catalog.Window          // ascending by history and LSN
	snapshots() []catalog.SnapshotPoint // of every history
	marks() []catalog.MarkPoint         // of every history
	gaps() []catalog.GapPoint           // of every history, ascending
	inexact() []catalog.InexactPoint    // of every history

	// stream yields the segment, watermark and gap entries of a history that overlap [from, to), in
	// order; to 0 means the end.
	stream(ctx context.Context, history uint32, from, to segment.LSN) iter.Seq2[catalog.Entry, error]

	// since is stream of a whole history, but may leave out segments whose local commits are all earlier than t.
	since(ctx context.Context, history uint32, t segment.Timestamp) iter.Seq2[catalog.Entry, error]

	// firstLater returns the first segment of a history with a local commit later than t.
	firstLater(ctx context.Context, history uint32, t segment.Timestamp) (e catalog.Entry, ok bool, err error)

	// withXID yields the segments of all histories that may hold a transaction xid.
	withXID(ctx context.Context, xid uint32) iter.Seq2[catalog.Entry, error]

	// sums adds up the segments that overlap [from, to), each as a whole.
	sums(ctx context.Context, history uint32, from, to segment.LSN) (catalog.Counts, error)

	// spanning returns the segment that lsn cuts in two.
	spanning(ctx context.Context, history uint32, lsn segment.LSN) (e catalog.Entry, ok bool, err error)

	// firstSegment and lastSegment return the outermost segments with a commit in [from, to); to 0 means the end.
	firstSegment(ctx context.Context, history uint32, from, to segment.LSN) (e catalog.Entry, ok bool, err error)
	lastSegment(ctx context.Context, history uint32, from, to segment.LSN) (e catalog.Entry, ok bool, err error)

	// unread says how many requests stream would make, requests how many the source has made so far.
	unread(history uint32, from, to segment.LSN) int
	requests() int

	// index reads the index of a segment; the transactions that committed before from may be missing.
	index(ctx context.Context, e catalog.Entry, from segment.LSN) (*segment.Index, error)

	// SchemaChanges reads the schema changes of a segment.
	SchemaChanges(ctx context.Context, e catalog.Entry) ([]apply.Announced, error)
}
