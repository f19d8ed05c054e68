package pgbinary

import (
	"bytes"
	"math"
)

// Moments count from the beginning of the year 2000 (src/include/datatype/timestamp.h).
const (
	second = 1_000_000 // microseconds
	day    = 86400 * second
)

// The days that a date may be, and those that a timestamp may be of: from the first of the Julian calendar's count up to, not with, …
const (
	firstDay     = -2451545   // 4714-11-24 BC
	endDate      = 2145031949 // 5874898-01-01
	endTimestamp = 106751983  // 294277-01-01
)

var beforeEra = []byte(" BC")

// endless returns the first or last of the values that a moment may have, if the text says so.
func endless(text []byte, first, last int64) (v int64, ok bool) {
	switch string(text) {
	case "infinity":
		return last, true
	case "-infinity":
		return first, true
	}
	return 0, false
}

// date reads a date as days.
func date(text []byte) (int32, bool) {
	if v, ok := endless(text, math.MinInt32, math.MaxInt32); ok {
		return int32(v), true
	}
	text, bc := bytes.CutSuffix(text, beforeEra)
	v, rest, ok := days(text, bc)
	return int32(v), ok && len(rest) == 0 && v >= firstDay && v < endDate
}

// timestamp reads a date and a time as microseconds.
func timestamp(text []byte, zoned bool) (int64, bool) {
	if v, ok := endless(text, math.MinInt64, math.MaxInt64); ok {
		return v, true
	}
	text, bc := bytes.CutSuffix(text, beforeEra)
	d, rest, ok := days(text, bc)
	if !ok || len(rest) == 0 || rest[0] != ' ' || d < firstDay-1 || d > endTimestamp { // a zone may move it by a day
		return 0, false
	}
	c, rest, ok := clock(rest[1:])
	if !ok || c == day {
		return 0, false
	}
	shift := int64(0)
	if zoned {
		if shift, ok = offset(rest); !ok {
			return 0, false
		}
	} else if len(rest) > 0 {
		return 0, false
	}
	v := d*day + c - shift
	return v, v >= firstDay*day && v < endTimestamp*day
}

// days reads a date of at least four digits for the year, and returns what follows.
func days(text []byte, bc bool) (v int64, rest []byte, ok bool) {
	n := bytes.IndexByte(text, '-')
	if n < 4 || n > 7 || len(text) < n+6 || text[n+3] != '-' {
		return 0, nil, false
	}
	year, ok1 := digits(text[:n], math.MaxInt32)
	month, ok2 := digits(text[n+1:n+3], 12)
	of, ok3 := digits(text[n+4:n+6], 31)
	if !ok1 || !ok2 || !ok3 || year == 0 || month == 0 || of == 0 {
		return 0, nil, false
	}
	y := int64(year)
	if bc {
		y = 1 - y
	}
	if int64(of) > monthDays(y, month) {
		return 0, nil, false
	}
	return julian(y, int64(month), int64(of)), text[n+6:], true
}

func monthDays(year int64, month uint64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// julian counts days of the Gregorian calendar from 2000-01-01. Years begin in March here, so that a leap day ends one, and
// are counted from long before any, so that nothing is negative.
func julian(year, month, of int64) int64 {
	const cycles, cycle = 20, 146097 // of 400 years
	year += 400 * cycles
	if month -= 3; month < 0 {
		month += 12
		year--
	}
	return year*365 + year/4 - year/100 + year/400 + (153*month+2)/5 + of - 1 - (cycles*cycle + 730425)
}

// clock reads a time of the day as microseconds, and returns what follows. 24:00:00 is one.
func clock(text []byte) (v int64, rest []byte, ok bool) {
	if len(text) < 8 || text[2] != ':' || text[5] != ':' {
		return 0, nil, false
	}
	h, ok1 := digits(text[:2], 24)
	m, ok2 := digits(text[3:5], 59)
	s, ok3 := digits(text[6:8], 59)
	if !ok1 || !ok2 || !ok3 {
		return 0, nil, false
	}
	v = int64(h*3600+m*60+s) * second
	if rest = text[8:]; len(rest) > 0 && rest[0] == '.' {
		rest = rest[1:]
		unit := int64(second)
		for unit > 1 && len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
			unit /= 10
			v += int64(rest[0]-'0') * unit
			rest = rest[1:]
		}
		if unit == second {
			return 0, nil, false
		}
	}
	return v, rest, v <= day
}

// maxZoneHours is the server's limit (MAX_TZDISP_HOUR, src/include/datatype/timestamp.h).
const maxZoneHours = 15

// offset reads a time zone as microseconds to the east: +00, -03:30, +01:19:32.
func offset(text []byte) (int64, bool) {
	if len(text) != 3 && len(text) != 6 && len(text) != 9 || text[0] != '+' && text[0] != '-' {
		return 0, false
	}
	v, unit := uint64(0), uint64(3600)
	for i := 0; i < len(text); i += 3 {
		n, ok := digits(text[i+1:i+3], 59)
		if !ok || i > 0 && text[i] != ':' || i == 0 && n > maxZoneHours {
			return 0, false
		}
		v += n * unit
		unit /= 60
	}
	if text[0] == '-' {
		return -int64(v) * second, true
	}
	return int64(v) * second, true
}
