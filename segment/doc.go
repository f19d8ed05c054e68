// Package segment reads and writes segment files: the committed transactions of one LSN range of one
// history, as PostgreSQL's pgoutput plugin sent them, losslessly. It also holds the types of the stream:
// positions, times, operations, values. It knows nothing of storage or networks.
//
// docs/format/segment.md describes every byte. A Writer takes events and hands on finished parts; a
// Reader takes parts and gives back the events, each checked; ReadIndex reads only the summary at the
// end of the last part. Memory stays flat however large a transaction or a value is.
package segment
