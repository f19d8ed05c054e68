package segment

import (
	"fmt"
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

// String returns RFC 3339 in UTC with six decimals.
func (t Timestamp) String() string { return t.Time().Format(timestampLayout) }

// MarshalText implements encoding.TextMarshaler: RFC 3339 in UTC, six decimals.
func (t Timestamp) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler for RFC 3339 text.
func (t *Timestamp) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	*t = TimestampOf(v)
	return nil
}
