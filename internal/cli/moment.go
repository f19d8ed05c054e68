package cli

import (
	"fmt"
	"strings"
	"time"

	"tidemark/segment"
)

// Moment prints a time in UTC and in the local zone, so that nobody has to convert at night:
// 2026-03-01T02:00:00.000000Z (03:00:00 CET). Nothing known prints as "-".
func Moment(t segment.Timestamp) string {
	if t.IsZero() {
		return "-"
	}
	utc, local := t.Time(), t.Time().Local()
	if _, offset := local.Zone(); offset == 0 {
		return t.String()
	}
	layout := "15:04:05 MST"
	if utc.Format(time.DateOnly) != local.Format(time.DateOnly) {
		layout = "2006-01-02 15:04:05 MST"
	}
	return t.String() + " (" + local.Format(layout) + ")"
}

// Ago prints a span of time roughly, as people say it: 4s, 12m, 3h5m, 17 days. A span below zero is 0s.
func Ago(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
