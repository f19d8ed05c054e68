package segment

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Timestamp is a moment in microseconds since 2000-01-01 00:00:00 UTC, the unit and epoch of
// PostgreSQL's TimestampTz (src/include/datatype/timestamp.h). Zero means "none": no commit of an
// archive happens in the year 2000.
type Timestamp int64

var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// TimestampOf converts a time, cutting it to microseconds (towards the past).
func TimestampOf(t time.Time) Timestamp {
	return Timestamp(t.Unix()-postgresEpoch.Unix())*1e6 + Timestamp(t.Nanosecond()/1e3)
}

// Time converts to a time in UTC.
func (t Timestamp) Time() time.Time {
	sec, usec := int64(t)/1e6, int64(t)%1e6
	return time.Unix(postgresEpoch.Unix()+sec, usec*1e3).UTC()
}

// IsZero reports whether t means "none".
func (t Timestamp) IsZero() bool { return t == 0 }

const timestampLayout = "2006-01-02T15:04:05.000000Z"

// String returns RFC 3339 in UTC with six decimals. A year that doesn't have four digits there (a replication origin may
// give a commit any time, also PostgreSQL's infinity) is written as ISO 8601 has it: with its sign and at least four digits.
func (t Timestamp) String() string {
	at := t.Time()
	if year := at.Year(); year < 0 || year > 9999 {
		return fmt.Sprintf("%+05d", year) + at.Format(timestampLayout[len("2006"):])
	}
	return at.Format(timestampLayout)
}

// MarshalText implements encoding.TextMarshaler: as String.
func (t Timestamp) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler for RFC 3339 text, and for what String returns.
func (t *Timestamp) UnmarshalText(b []byte) error {
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		return t.unmarshalSigned(string(b))
	}
	v, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	*t = TimestampOf(v)
	return nil
}

// unmarshalSigned reads a year with a sign. Other years repeat after 400, and so do leap years.
func (t *Timestamp) unmarshalSigned(s string) error {
	digits, rest, found := strings.Cut(s[1:], "-")
	year, err := strconv.Atoi(s[:1] + digits)
	if err != nil || !found || len(digits) < 4 || year >= 0 && year <= 9999 {
		return fmt.Errorf("timestamp: %q has no year that is written with a sign", s)
	}
	const cycle = 400
	near := 2000 + (year%cycle+cycle)%cycle
	v, err := time.Parse(timestampLayout, fmt.Sprintf("%04d-%s", near, rest))
	if err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	*t = TimestampOf(v.AddDate(year-near, 0, 0))
	if t.String() != s {
		return fmt.Errorf("timestamp: %q is out of range", s)
	}
	return nil
}
