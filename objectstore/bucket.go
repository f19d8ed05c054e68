package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// What the two S3 drivers have in common: what servers answer, and what is made of it.

// stored is what a bucket says it holds under a key.
type stored struct {
	size   int64
	sha256 string // base64, "" if the server doesn't say
	sse    string // server-side encryption, "" for none
}

// apiFault is an error answer of an S3 server.
type apiFault struct {
	status  int
	code    string // such as NoSuchKey; "" or made up where the answer had no body
	message string
}

// detail is one line for people, without anything that the server echoed of our credentials: S3 puts the
// access key and the signed string into fields of their own, which are never printed.
func (f apiFault) detail() string {
	text := f.code
	if f.message != "" && f.message != f.code {
		text = strings.TrimPrefix(text+": "+printable(f.message), ": ")
	}
	if text == "" {
		text = http.StatusText(f.status)
	}
	return fmt.Sprintf("%s (HTTP %d)", text, f.status)
}

// kindByCode are the error codes whose status alone would say something else.
var kindByCode = map[string]error{
	"NoSuchKey":                          ErrNotFound,
	"NoSuchBucket":                       ErrInvalidURL,
	"InvalidBucketName":                  ErrInvalidURL,
	"PermanentRedirect":                  ErrInvalidURL,
	"AuthorizationHeaderMalformed":       ErrInvalidURL, // the region is another
	"InvalidRegion":                      ErrInvalidURL,
	"IllegalLocationConstraintException": ErrInvalidURL,
	"PreconditionFailed":                 ErrExists,
	"NotImplemented":                     ErrUnsupported,
	"ExpiredToken":                       ErrDenied,
	"InvalidToken":                       ErrDenied,
	"RequestTimeTooSkewed":               ErrDenied,
	"KMS.DisabledException":              ErrDenied,
	"RequestTimeout":                     ErrUnavailable,
	"BadDigest":                          ErrUnavailable, // bytes were damaged on the way, nothing was stored
	"IncompleteBody":                     ErrUnavailable,
	"XAmzContentSHA256Mismatch":          ErrUnavailable,
	"XMinioStorageFull":                  ErrFull,
	"QuotaExceeded":                      ErrFull,
	"XMinioAdminBucketQuotaExceeded":     ErrFull,
}

// kind is the sentinel for an error answer. What no rule names is ErrUnavailable only where a later
// attempt may fare better.
func (f apiFault) kind() error {
	if kind, ok := kindByCode[f.code]; ok {
		return kind
	}
	switch f.status {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrDenied
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return ErrInvalidURL
	case http.StatusPreconditionFailed:
		return ErrExists
	case http.StatusNotImplemented:
		return ErrUnsupported
	case http.StatusInsufficientStorage:
		return ErrFull
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return ErrUnavailable // 409: another conditional write of the same key is under way
	}
	if f.status >= http.StatusInternalServerError {
		return ErrUnavailable
	}
	return errRefused
}

var errRefused = errors.New("the store refused the request")

// bucketError makes the error of a request from a server's answer.
func bucketError(op, key string, fault apiFault) error {
	kind := fault.kind()
	switch {
	case kind == ErrNotFound:
		return newError(op, key, kind, "")
	case kind == ErrExists && op == "put":
		return newError(op, key, kind, "")
	case kind == ErrExists:
		return newError(op, key, errRefused, "%s", fault.detail())
	case kind == ErrUnsupported && op == "put":
		return newError(op, key, kind, "the server has no create-only writes (If-None-Match on PUT), so nothing guards "+
			"an object from being overwritten: %s", fault.detail())
	}
	return newError(op, key, kind, "%s", fault.detail())
}

// networkError makes the error of a request that got no answer.
func networkError(ctx context.Context, op, key string, err error) error {
	if ended := contextError(ctx, op, key); ended != nil {
		return ended
	}
	if isContextError(err) {
		err = errors.New("timed out") // the SDK's own limit, not the caller's
	}
	return &opError{op: op, key: key, kind: ErrUnavailable, detail: plainNetError(err), cause: err}
}

// confirm checks what the bucket says it holds against what was put: size, SHA-256, encryption. A
// server that keeps no SHA-256 is asked for the whole object.
func confirm(ctx context.Context, s Store, key string, data []byte, sum [sha256.Size]byte, got stored, sse string) error {
	switch {
	case got.size != int64(len(data)):
		return newError("put", key, ErrMismatch, "it has %d bytes instead of %d", got.size, len(data))
	case got.sse != sse && sse != "":
		return newError("put", key, ErrUnsupported, "the server ignored sse=%s and stored the object unencrypted or otherwise encrypted", sse)
	case got.sha256 == base64.StdEncoding.EncodeToString(sum[:]):
		return nil
	case got.sha256 != "" && !strings.Contains(got.sha256, "-"):
		return newError("put", key, ErrMismatch, "its SHA-256 is another")
	}
	same, err := holds(ctx, s, key, data)
	if err == nil && !same {
		err = newError("put", key, ErrMismatch, "read back, it differs")
	}
	return err
}

// holds says whether the object is there with exactly these bytes.
func holds(ctx context.Context, s Store, key string, data []byte) (bool, error) {
	r, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return false, err
	}
	defer r.Close()
	buf := make([]byte, 64<<10)
	for at := 0; ; {
		n, err := io.ReadFull(r, buf)
		if n > len(data)-at || !bytes.Equal(buf[:n], data[at:at+n]) {
			return false, nil
		}
		at += n
		switch err {
		case nil:
		case io.EOF:
			return at == len(data), nil
		case io.ErrUnexpectedEOF:
			if at == len(data) {
				return true, nil
			}
			return false, nil
		default:
			return false, err
		}
	}
}

// rangeHeader is the Range of a Get, "" for the whole object. The length is not 0.
func rangeHeader(offset, length int64) string {
	switch {
	case length < 0 && offset == 0:
		return ""
	case length < 0 || offset+length < offset:
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
}

// promised returns how many bytes the answer to a Get holds, after checking that it is the range that was
// asked for.
func promised(key string, offset, length, contentLength int64, contentRange string) (int64, error) {
	if rangeHeader(offset, length) == "" {
		if contentLength < 0 {
			return 0, newError("get", key, ErrUnsupported, "the server doesn't say how long the object is")
		}
		return contentLength, nil
	}
	first, total, ok := parseContentRange(contentRange)
	if !ok || first != offset {
		return 0, newError("get", key, ErrUnsupported, "the server answered another range than was asked for")
	}
	want := spanLength(total, offset, length)
	if contentLength >= 0 && contentLength != want {
		return 0, newError("get", key, ErrMismatch, "the server sends %d bytes of a range of %d", contentLength, want)
	}
	return want, nil
}

// parseContentRange reads "bytes 5-9/20" as 5 and 20.
func parseContentRange(text string) (first, total int64, ok bool) {
	span, size, ok := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	if !ok {
		return 0, 0, false
	}
	from, _, ok := strings.Cut(span, "-")
	if !ok {
		return 0, 0, false
	}
	first, errFirst := strconv.ParseInt(from, 10, 64)
	total, errTotal := strconv.ParseInt(size, 10, 64)
	return first, total, errFirst == nil && errTotal == nil
}

// lister turns the pages of a bucket's list into the store's keys, and holds the server to the order.
type lister struct {
	loc    *location
	prefix string
	after  string // the last key given out, or where the list begins
	yield  func(Info, error) bool
}

// take hands on one object. It says whether to go on.
func (l *lister) take(full string, info Info) bool {
	key, ours := strings.CutPrefix(full, l.loc.key(""))
	if !ours || keyFault(key) != "" || !strings.HasPrefix(key, l.prefix) {
		return true // a folder marker, or somebody else's
	}
	if key <= l.after {
		l.yield(Info{}, newError("list", l.prefix, ErrUnsupported, "the server doesn't list in byte order of the keys: %s came after %s", key, l.after))
		return false
	}
	l.after = key
	info.Key = key
	return l.yield(info, nil)
}

// startAfter is the full key that the list begins after, "" for the beginning.
func (l *lister) startAfter() string {
	if l.after == "" {
		return ""
	}
	return l.loc.key(l.after)
}
