// Package walstream is the connection to the source: preflight, publication, replication slot, and the
// stream of committed transactions with its acknowledgements. It decodes nothing itself (pgoutput does)
// and stores nothing: events go to a Handler, positions come back through Ack.
package walstream

import (
	"log/slog"
	"regexp"
	"time"

	"tidemark/internal/fault"
)

// DefaultApplication is the application_name of our sessions unless the DSN sets one.
const DefaultApplication = "tidemark"

// Config says what to read from where.
type Config struct {
	DSN         string   // URL or keyword/value; PG* variables, service files and .pgpass apply
	Slot        string   // replication slot: lower-case letters, digits, underscores, at most 63
	Publication string   // publication name
	Tables      []string // patterns of a listed publication, such as public.* or orders; none: every table

	// KnownTimeline is the timeline that the archive was last written from, 0 for none: where the
	// server's differs, Start fetches the history of timelines.
	KnownTimeline int32

	SlotWait      time.Duration // how long Start waits for a slot in use; default 5 s, negative: not at all
	CreateTimeout time.Duration // how long CreateSlot waits for older transactions; default 10 min
	LowLatency    bool          // hand every message over at once instead of batching wake-ups for up to 20 ms

	Log *slog.Logger // default: discard
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// normal returns the configuration with its defaults filled in, or a Usage error.
func (c Config) normal() (Config, error) {
	if !slotName.MatchString(c.Slot) {
		return c, fault.New(fault.Usage, "use lower-case letters, digits and underscores, at most 63",
			"%q can't be a replication slot's name", c.Slot)
	}
	if c.Publication == "" || len(c.Publication) > 63 {
		return c, fault.New(fault.Usage, "give a name of 1 to 63 bytes", "%q can't be a publication's name", c.Publication)
	}
	if c.SlotWait == 0 {
		c.SlotWait = 5 * time.Second
	}
	if c.CreateTimeout <= 0 {
		c.CreateTimeout = 10 * time.Minute
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
