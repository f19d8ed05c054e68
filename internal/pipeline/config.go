// Package pipeline is the archiver at work: it reads a source's stream through walstream, packs whole
// transactions into segments, puts them into the store, appends them to the catalog, and only then
// acknowledges them to Postgres. It also takes the base snapshots that make the stream restorable.
//
// One goroutine owns the stream and the open segment (sink.go). Finished parts are uploaded by a few
// others; the publisher (publish.go) appends entries in stream order and acknowledges. A monitor
// (monitor.go) watches the source over an ordinary connection. Everything that fails ends the session;
// Run (run.go) decides whether to connect again, to begin a new history, or to leave.
package pipeline

import (
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
)

// MessagePrefix is the prefix of the logical messages that Tidemark writes: marks and heartbeats.
const MessagePrefix = "tidemark"

const defaultPublication = "tidemark"

// Contents of Tidemark's logical messages.
const (
	heartbeatContent = "heartbeat"
	markContent      = "mark:" // followed by the name
)

// Config is what Run needs. Zero values of the optional fields mean the defaults named here.
type Config struct {
	DSN         string            // the source database
	Store       objectstore.Store // the archive
	Slot        string            // "": tidemark_<database>
	Publication string            // "": tidemark
	Tables      []string          // patterns; none: all tables

	SegmentMaxAge     time.Duration // 10 s: a commit waits at most this long before its segment is closed
	SegmentMaxSize    int64         // 32 MiB stored
	PartSize          int           // 8 MiB stored; 1 MiB in a folder
	HeartbeatInterval time.Duration // 30 s, when idle
	ShutdownGrace     time.Duration // 30 s that a stopping primary may be held up while the store is away

	Until            string // "", "current" or an LSN: archive up to there and return
	NewArchive       bool   // adopt a slot that is there already although the archive is empty
	AcceptGap        bool   // record a hole and go on with a new slot
	NoSchemaCapture  bool   // install no event triggers
	Standby          bool   // wait for the slot while another archiver has it
	SnapshotJobs     int    // 2
	SnapshotSchedule string // cron expression in UTC, "" for none
	PgDump           string // path, "" to search

	closeTimeout       time.Duration // the constants of the same names; tests have less time
	stopPatience       time.Duration
	backgroundPatience time.Duration

	Version    string
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Ready      func(bool) // told when the source becomes protected and when it no longer is; may be nil
}

func (c *Config) setDefaults() error {
	if c.Publication == "" {
		c.Publication = defaultPublication
	}
	if c.SegmentMaxAge == 0 {
		c.SegmentMaxAge = 10 * time.Second
	}
	if c.SegmentMaxAge < 0 {
		return fault.New(fault.Usage, "give a positive duration such as 10s", "segment-max-age %s is not usable", c.SegmentMaxAge)
	}
	if c.SegmentMaxSize == 0 {
		c.SegmentMaxSize = 32 << 20
	}
	if c.SegmentMaxSize < 64<<10 {
		return fault.New(fault.Usage, "give at least 64KiB", "segment-max-size %d bytes is too small", c.SegmentMaxSize)
	}
	if c.PartSize == 0 {
		c.PartSize = partSize(c.Store)
	}
	if c.HeartbeatInterval == 0 {
		c.HeartbeatInterval = 30 * time.Second
	}
	if c.ShutdownGrace == 0 {
		c.ShutdownGrace = 30 * time.Second
	}
	if c.closeTimeout == 0 {
		c.closeTimeout = closeTimeout
	}
	if c.backgroundPatience == 0 {
		c.backgroundPatience = backgroundPatience
	}
	if c.stopPatience == 0 {
		c.stopPatience = stopPatience
	}
	if c.SnapshotJobs == 0 {
		c.SnapshotJobs = 2
	}
	if c.Until != "" && c.Until != "current" {
		if _, err := segment.ParseLSN(c.Until); err != nil {
			return fault.Wrap(err, fault.Usage, "give an LSN such as 16/B374D848, or current", "--until")
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Ready == nil {
		c.Ready = func(bool) {}
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	return nil
}

// partSize is how large an object of a segment becomes. Each request to a bucket costs time and money, so parts are large there; a
// folder takes small ones as well, and the archiver has two or three of them in memory.
func partSize(store objectstore.Store) int {
	if store != nil && strings.HasPrefix(store.String(), "file:") {
		return 1 << 20
	}
	return segment.DefaultPartSize
}
