package catalog

import (
	"fmt"
	"strconv"
	"strings"
)

// FormatVersion is the version of every catalog object that this package writes and reads.
const FormatVersion = 1

// Sizes of the log's parts, in entries.
const (
	tailSize    = 64   // a root at every multiple
	carryBase   = 8    // chapterSize and tailSize are powers of it
	chapterSize = 512  // the most lines that a log object holds, its own included
	bookSize    = 4096 // lines of a book, and log objects of a folder
)

const (
	identityKey   = "archive.json"
	catalogPrefix = "catalog/"
	logPrefix     = "catalog/log/"
	bookPrefix    = "catalog/book/"
	rootPrefix    = "catalog/root/"
)

func logKey(seq uint64) string  { return fmt.Sprintf("%s%020d/%020d", logPrefix, seq/bookSize, seq) }
func bookKey(n uint64) string   { return fmt.Sprintf("%s%020d", bookPrefix, n) }
func rootKey(seq uint64) string { return rootPrefix + complement(fmt.Sprintf("%020d", seq)) }

// complement turns each decimal digit d into 9-d: 10^20-1-n without leaving uint64.
func complement(digits string) string {
	b := []byte(digits)
	for i := range b {
		b[i] = '0' + '9' - b[i]
	}
	return string(b)
}

func parseDigits(s string) (uint64, bool) {
	if len(s) != 20 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// parseLogKey returns the seq of a log object's key.
func parseLogKey(key string) (uint64, bool) {
	i := strings.LastIndexByte(key, '/')
	seq, ok := parseDigits(key[i+1:])
	return seq, ok && seq > 0 && logKey(seq) == key
}

func parseRootKey(key string) (uint64, bool) {
	rest, ok := strings.CutPrefix(key, rootPrefix)
	if !ok || strings.Trim(rest, "0123456789") != "" {
		return 0, false
	}
	seq, ok := parseDigits(complement(rest))
	return seq, ok && seq > 0
}

func parseBookKey(key string) (uint64, bool) {
	rest, ok := strings.CutPrefix(key, bookPrefix)
	if !ok {
		return 0, false
	}
	return parseDigits(rest)
}

// span returns how many lines the log object of seq holds, its own and those it carries: back to the
// multiple of 8 before, from there to that of 64, and then of 512. So a walk down to the last root
// takes two steps where powers of two would take six.
func span(seq uint64) uint64 {
	for base := uint64(carryBase); base < chapterSize; base *= carryBase {
		if rest := seq % base; rest != 0 {
			return rest
		}
	}
	if rest := seq % chapterSize; rest != 0 {
		return rest
	}
	return chapterSize
}
