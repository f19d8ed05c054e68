package pitr

import (
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// zoned are the layouts a moment may come in: RFC 3339, also with a space as PostgreSQL prints it and
// with an offset of hours alone.
var zoned = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05Z07:00",
	"2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z0700",
	"2006-01-02T15:04:05Z07", "2006-01-02 15:04:05Z07",
	"2006-01-02T15:04Z07:00", "2006-01-02 15:04Z07:00",
}

// unzoned are the forms that lack only a zone.
var unzoned = []string{
	"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
}

// ParseTime reads a moment: RFC 3339 with a zone, or "now", "now-70m", "now-1h30m", "now-2d". A moment
// without a zone is refused; the hint has the form in zone that was probably meant. Flag is the name
// that errors begin with. Errors are usage faults.
func ParseTime(flag, s string, now time.Time, zone *time.Location) (segment.Timestamp, error) {
	text := strings.TrimSpace(s)
	if rest, ok := strings.CutPrefix(text, "now"); ok {
		return parseRelative(flag, rest, now)
	}
	upper := strings.ToUpper(text)
	for _, layout := range zoned {
		if t, err := time.Parse(layout, upper); err == nil {
			return toTimestamp(flag, t)
		}
	}
	for _, layout := range unzoned {
		if t, err := time.ParseInLocation(layout, upper, zone); err == nil {
			return 0, fault.New(fault.Usage, "did you mean "+zoneForms(flag, t)+"?", "%s: %q has no time zone", flag, s)
		}
	}
	return 0, fault.New(fault.Usage, "write it as "+now.In(zone).Format(time.RFC3339)+" or now-70m", "%s: %q is not a time", flag, s)
}

// zoneForms gives the moment in its own zone, and read as UTC where that is another moment.
func zoneForms(flag string, t time.Time) string {
	const layout = "2006-01-02T15:04:05.999999Z07:00"
	local := flag + " " + t.Format(layout)
	asUTC := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	if asUTC.Equal(t) {
		return local
	}
	return local + " (your zone) or " + flag + " " + asUTC.Format(layout) + " (UTC)"
}

func parseRelative(flag, rest string, now time.Time) (segment.Timestamp, error) {
	if rest == "" {
		return segment.TimestampOf(now), nil
	}
	d, err := parseSpan(strings.TrimPrefix(rest, "-"))
	if err != nil || !strings.HasPrefix(rest, "-") || d < 0 {
		return 0, fault.New(fault.Usage, "write it as now-70m, now-1h30m or now-2d", "%s: %q is not a time", flag, "now"+rest)
	}
	return segment.TimestampOf(now.Add(-d)), nil
}

// parseSpan is time.ParseDuration with days in front.
func parseSpan(s string) (time.Duration, error) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, err
	}
	span := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return span, nil
	}
	d, err := time.ParseDuration(rest)
	return span + d, err
}

// toTimestamp refuses what PostgreSQL's microseconds can't hold: cutting it would move the target.
func toTimestamp(flag string, t time.Time) (segment.Timestamp, error) {
	ts := segment.TimestampOf(t)
	if !ts.Time().Equal(t) {
		return 0, fault.New(fault.Usage, "write it as "+t.Format("2006-01-02T15:04:05.000000Z07:00"),
			"%s: commit times have microseconds, %s is finer", flag, t.Format(time.RFC3339Nano))
	}
	return ts, nil
}

// DescribeTime prints a moment in UTC and, where that differs, in zone; "none" for the zero Timestamp.
func DescribeTime(ts segment.Timestamp, zone *time.Location) string {
	if ts.IsZero() {
		return "none"
	}
	local := ts.Time().In(zone)
	if _, offset := local.Zone(); offset == 0 {
		return ts.String()
	}
	return ts.String() + " (" + local.Format("2006-01-02 15:04:05.000000 -07:00") + ")"
}
