package objectstore

import (
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// location is a parsed archive URL.
type location struct {
	scheme string
	path   string // file: absolute path; mem: the name
	host   string // minio: host[:port]
	bucket string
	prefix string // within the bucket, no slash at either end, may be empty

	region, endpoint string
	pathStyle        bool
	sse, kmsKey      string
	tls              bool
	given            url.Values // the query as given, for String
}

// The keys a URL's query may have, by scheme. All others are refused.
var queryKeys = map[string][]string{
	"file":  nil,
	"mem":   nil,
	"s3":    {"region", "endpoint", "path_style", "sse", "kms_key"},
	"minio": {"tls"},
}

// Schemes of the contract that this version has no driver for.
var unsupportedSchemes = map[string]string{
	"gs":     "Google Cloud Storage",
	"azblob": "Azure Blob Storage",
}

var (
	bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)
	memName    = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

// parseURL reads an archive URL. No error repeats the URL, since somebody may have put a password there.
func parseURL(raw string) (*location, error) {
	if raw == "" {
		return nil, invalidURL("it is empty")
	}
	scheme, rest, isURL := strings.Cut(raw, "://")
	if !isURL {
		return parsePlainPath(raw)
	}
	if name, ok := unsupportedSchemes[scheme]; ok {
		return nil, invalidURL("%s:// (%s) is not supported by this version", scheme, name)
	}
	if _, known := queryKeys[scheme]; !known {
		return nil, invalidURL("unknown scheme %q: file, s3 and minio are known", printable(scheme))
	}
	if strings.Contains(strings.SplitN(rest, "/", 2)[0], "@") {
		return nil, invalidURL("it holds a user name or password: credentials come from the environment, never from the URL")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return nil, invalidURL("it can't be parsed as a URL")
	}
	if u.User != nil {
		return nil, invalidURL("it holds a user name or password: credentials come from the environment, never from the URL")
	}
	if u.Fragment != "" {
		return nil, invalidURL("it has a # part: write %%23 for a # in a path")
	}
	query, err := parseQuery(scheme, u.RawQuery)
	if err != nil {
		return nil, err
	}
	loc := &location{scheme: scheme, given: query}
	switch scheme {
	case "file":
		return loc, loc.parseFile(u)
	case "mem":
		return loc, loc.parseMem(u)
	case "minio":
		return loc, loc.parseMinio(u)
	}
	return loc, loc.parseS3(u)
}

func parsePlainPath(raw string) (*location, error) {
	for scheme := range queryKeys {
		if strings.HasPrefix(raw, scheme+":") {
			return nil, invalidURL("write %s:// with two slashes", scheme)
		}
	}
	if strings.ContainsRune(raw, 0) {
		return nil, invalidURL("it has a NUL character")
	}
	abs, err := filepath.Abs(raw)
	if err != nil {
		return nil, invalidURL("the current folder is unknown")
	}
	return &location{scheme: "file", path: abs}, nil
}

func parseQuery(scheme, raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalidURL("its query can't be parsed")
	}
	for key, values := range query {
		switch {
		case !slices.Contains(queryKeys[scheme], key):
			return nil, invalidURL("unknown key %q: %s", printable(key), knownKeys(scheme))
		case len(values) != 1:
			return nil, invalidURL("key %q is given more than once", key)
		case values[0] == "":
			return nil, invalidURL("key %q has no value", key)
		}
	}
	return query, nil
}

func knownKeys(scheme string) string {
	if len(queryKeys[scheme]) == 0 {
		return scheme + ":// takes none"
	}
	return scheme + ":// takes " + strings.Join(queryKeys[scheme], ", ")
}

func (l *location) parseFile(u *url.URL) error {
	if u.Host != "" && u.Host != "localhost" {
		return invalidURL("file:// takes an absolute path: write three slashes")
	}
	if !strings.HasPrefix(u.Path, "/") || strings.ContainsRune(u.Path, 0) {
		return invalidURL("file:// takes an absolute path")
	}
	l.path = filepath.Clean(u.Path)
	return nil
}

func (l *location) parseMem(u *url.URL) error {
	if !memName.MatchString(u.Host) || strings.Trim(u.Path, "/") != "" {
		return invalidURL("mem:// takes a name and nothing else")
	}
	l.path = u.Host
	return nil
}

func (l *location) parseMinio(u *url.URL) error {
	if u.Hostname() == "" {
		return invalidURL("minio:// takes host:port/bucket/prefix")
	}
	l.host = u.Host
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if err := l.setBucket(bucket, prefix); err != nil {
		return err
	}
	var err error
	l.tls, err = l.boolean("tls", true)
	return err
}

func (l *location) parseS3(u *url.URL) error {
	if u.Port() != "" {
		return invalidURL("s3:// takes a bucket, not a host: give the host as endpoint=")
	}
	if err := l.setBucket(u.Host, strings.TrimPrefix(u.Path, "/")); err != nil {
		return err
	}
	l.region, l.endpoint = l.given.Get("region"), l.given.Get("endpoint")
	if l.endpoint != "" {
		e, err := url.Parse(l.endpoint)
		if err != nil || (e.Scheme != "http" && e.Scheme != "https") || e.Hostname() == "" ||
			e.User != nil || strings.Trim(e.Path, "/") != "" || e.RawQuery != "" || e.Fragment != "" {
			return invalidURL("endpoint takes http://host:port or https://host:port and nothing more")
		}
	}
	var err error
	if l.pathStyle, err = l.boolean("path_style", l.endpoint != ""); err != nil {
		return err
	}
	return l.setEncryption()
}

func (l *location) setEncryption() error {
	l.sse, l.kmsKey = l.given.Get("sse"), l.given.Get("kms_key")
	if !slices.Contains([]string{"", "AES256", "aws:kms", "aws:kms:dsse"}, l.sse) {
		return invalidURL("sse takes AES256, aws:kms or aws:kms:dsse")
	}
	if l.kmsKey != "" && !strings.HasPrefix(l.sse, "aws:kms") {
		return invalidURL("kms_key needs sse=aws:kms")
	}
	return nil
}

func (l *location) setBucket(bucket, prefix string) error {
	if !bucketName.MatchString(bucket) {
		return invalidURL("%q is no bucket name", printable(bucket))
	}
	prefix = strings.TrimSuffix(prefix, "/")
	if fault := keyFault(prefix); prefix != "" && fault != "" {
		return invalidURL("the prefix can't begin keys: %s", fault)
	}
	if len(prefix) > 100 {
		return invalidURL("the prefix is longer than 100 bytes")
	}
	l.bucket, l.prefix = bucket, prefix
	return nil
}

func (l *location) boolean(key string, otherwise bool) (bool, error) {
	text := l.given.Get(key)
	if text == "" {
		return otherwise, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, invalidURL("%s takes true or false", key)
	}
	return value, nil
}

// key is the full key in the bucket for a key of the store.
func (l *location) key(key string) string {
	if l.prefix == "" {
		return key
	}
	return l.prefix + "/" + key
}

// String is the URL again, without anything that could be a secret.
func (l *location) String() string {
	u := url.URL{Scheme: l.scheme, RawQuery: l.given.Encode()}
	switch l.scheme {
	case "file":
		u.Path = l.path
	case "mem":
		u.Host = l.path
	case "minio":
		u.Host, u.Path = l.host, "/"+l.bucket+"/"+l.prefix
	case "s3":
		u.Host, u.Path = l.bucket, "/"+l.prefix
	}
	return strings.TrimSuffix(u.String(), "/")
}
