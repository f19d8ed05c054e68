package objectstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bucketDrivers opens both S3 drivers on an endpoint, with a short patience.
var bucketDrivers = map[string]func(t *testing.T, endpoint, query string) Store{
	"s3": func(t *testing.T, endpoint, query string) Store {
		loc, err := parseURL("s3://bucket/pre?region=us-east-1&endpoint=" + url.QueryEscape(endpoint) + query)
		require.NoError(t, err)
		s, err := newS3Store(t.Context(), loc, testStall)
		require.NoError(t, err)
		return s
	},
	"minio": func(t *testing.T, endpoint, _ string) Store {
		loc, err := parseURL("minio://" + strings.TrimPrefix(endpoint, "http://") + "/bucket/pre?tls=false")
		require.NoError(t, err)
		s, err := newMinioStore(loc, testStall)
		require.NoError(t, err)
		return s
	},
}

const testStall = 300 * time.Millisecond

const testSecret = "SECRETSECRETSECRET"

func setTestCredentials(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": testSecret, "AWS_REGION": "us-east-1",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"MINIO_ROOT_USER": "", "MINIO_ACCESS_KEY": "",
	} {
		t.Setenv(name, value)
	}
}

// withFake runs a test against both drivers with a server that answers as told.
func withFake(t *testing.T, query string, handler http.HandlerFunc, test func(t *testing.T, s Store)) {
	t.Helper()
	setTestCredentials(t)
	for name, open := range bucketDrivers {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			test(t, open(t, server.URL, query))
		})
	}
}

func fail(w http.ResponseWriter, r *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>said\nso</Message><AWSAccessKeyId>AKIDTEST</AWSAccessKeyId></Error>", code)
	}
}

func TestBucketErrorKinds(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   error
	}{
		{403, "AccessDenied", ErrDenied},
		{403, "InvalidAccessKeyId", ErrDenied},
		{403, "SignatureDoesNotMatch", ErrDenied},
		{400, "ExpiredToken", ErrDenied},
		{404, "NoSuchBucket", ErrInvalidURL},
		{301, "PermanentRedirect", ErrInvalidURL},
		{400, "AuthorizationHeaderMalformed", ErrInvalidURL},
		{412, "PreconditionFailed", ErrExists},
		{409, "ConditionalRequestConflict", ErrUnavailable},
		{501, "NotImplemented", ErrUnsupported},
		{503, "SlowDown", ErrUnavailable},
		{500, "InternalError", ErrUnavailable},
		{429, "TooManyRequests", ErrUnavailable},
		{400, "RequestTimeout", ErrUnavailable},
		{400, "BadDigest", ErrUnavailable},
		{507, "XMinioStorageFull", ErrFull},
		{400, "InvalidArgument", errRefused},
		{405, "MethodNotAllowed", errRefused},
	} {
		t.Run(c.code, func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) { fail(w, r, c.status, c.code) }
			withFake(t, "", handler, func(t *testing.T, s Store) {
				err := s.Put(t.Context(), "a/key", []byte("x"))
				require.ErrorIs(t, err, c.kind)
				for _, kind := range []error{ErrNotFound, ErrExists, ErrDenied, ErrUnavailable, ErrUnsupported, ErrInvalidURL} {
					if kind != c.kind && !(c.kind == ErrFull && kind == ErrUnavailable) {
						require.NotErrorIs(t, err, kind)
					}
				}
				require.Contains(t, err.Error(), "a/key")
				require.NotContains(t, err.Error(), testSecret)
				require.NotContains(t, err.Error(), "AKIDTEST")
				require.NotContains(t, err.Error(), "\n")
			})
		})
	}
}

func TestBucketWithoutConditionalPut(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) { fail(w, r, 501, "NotImplemented") }
	withFake(t, "", handler, func(t *testing.T, s Store) {
		require.ErrorContains(t, s.Put(t.Context(), "k", nil), "If-None-Match")
	})
}

// lying is a server that takes puts and then reports what it is told to.
type lying struct {
	mu       sync.Mutex
	received []byte
	size     func(n int) int
	checksum func(body []byte) string
	body     func(body []byte) []byte
	sse      string
	puts     int
}

func (l *lying) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
	w.Header().Set("ETag", `"x"`)
	switch r.Method {
	case http.MethodPut:
		l.puts++
		if r.Header.Get("If-None-Match") != "*" || r.Header.Get("X-Amz-Checksum-Sha256") == "" {
			fail(w, r, 400, "MissingHeaders")
			return
		}
		l.received, _ = io.ReadAll(r.Body)
	case http.MethodHead:
		w.Header().Set("Content-Length", fmt.Sprint(l.size(len(l.received))))
		if sum := l.checksum(l.received); sum != "" {
			w.Header().Set("X-Amz-Checksum-Sha256", sum)
		}
		if l.sse != "" {
			w.Header().Set("X-Amz-Server-Side-Encryption", l.sse)
		}
	case http.MethodGet:
		_, _ = w.Write(l.body(l.received))
	}
}

func honest() *lying {
	return &lying{
		size:     func(n int) int { return n },
		checksum: sha256Base64,
		body:     func(b []byte) []byte { return b },
	}
}

func sha256Base64(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A server's "200 OK" is not believed: what it holds is compared.
func TestBucketPutConfirmed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*lying)
		want   error
	}{
		"honest":      {func(*lying) {}, nil},
		"empty":       {func(l *lying) { l.size = func(int) int { return 0 } }, ErrMismatch},
		"longer":      {func(l *lying) { l.size = func(n int) int { return n + 1 } }, ErrMismatch},
		"other bytes": {func(l *lying) { l.checksum = func([]byte) string { return sha256Base64([]byte("other")) } }, ErrMismatch},
		"no checksum": {func(l *lying) { l.checksum = func([]byte) string { return "" } }, nil},
		"no checksum, other bytes": {func(l *lying) {
			l.checksum = func([]byte) string { return "" }
			l.body = func(b []byte) []byte { return append([]byte("X"), b[1:]...) }
		}, ErrMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			for driver, open := range bucketDrivers {
				setTestCredentials(t)
				l := honest()
				c.change(l)
				server := httptest.NewServer(l)
				err := open(t, server.URL, "").Put(t.Context(), "k", []byte("some bytes"))
				server.Close()
				if c.want == nil {
					require.NoError(t, err, driver)
				} else {
					require.ErrorIs(t, err, c.want, driver)
				}
				require.Equal(t, 1, l.puts, driver)
			}
		})
	}
}

// Encryption that was asked for and ignored is an error, never plaintext in silence.
func TestS3EncryptionConfirmed(t *testing.T) {
	setTestCredentials(t)
	l := honest()
	server := httptest.NewServer(l)
	defer server.Close()
	s := bucketDrivers["s3"](t, server.URL, "&sse=AES256")
	require.ErrorIs(t, s.Put(t.Context(), "k", []byte("x")), ErrUnsupported)
	l.sse = "AES256"
	require.NoError(t, s.Put(t.Context(), "k", []byte("x")))
}

func TestBucketShortBody(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("Content-Length", "1000")
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", "bytes 5-1004/2000")
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(make([]byte, 400))
	}
	withFake(t, "", handler, func(t *testing.T, s Store) {
		for _, span := range [][2]int64{{0, -1}, {5, 1000}} {
			r, err := s.Get(t.Context(), "k", span[0], span[1])
			require.NoError(t, err)
			data, err := io.ReadAll(r)
			require.Len(t, data, 400)
			require.ErrorIs(t, err, ErrUnavailable)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			_, err = r.Read(make([]byte, 1))
			require.Error(t, err, "the error stays")
			require.NoError(t, r.Close())
		}
	})
}

func TestBucketOtherRange(t *testing.T) {
	for name, answer := range map[string]string{"ignored": "", "shifted": "bytes 0-9/20", "nonsense": "bytes x"} {
		t.Run(name, func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
				if answer != "" {
					w.Header().Set("Content-Range", answer)
					w.WriteHeader(http.StatusPartialContent)
				}
				_, _ = w.Write(make([]byte, 10))
			}
			withFake(t, "", handler, func(t *testing.T, s Store) {
				_, err := s.Get(t.Context(), "k", 5, 10)
				require.ErrorIs(t, err, ErrUnsupported)
			})
		})
	}
}

func TestBucketListOutOfOrder(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated>`+
			`<Contents><Key>pre/b</Key><Size>1</Size></Contents><Contents><Key>pre/a</Key><Size>1</Size></Contents></ListBucketResult>`)
	}
	withFake(t, "", handler, func(t *testing.T, s Store) {
		var last error
		for _, err := range s.List(t.Context(), "", "") {
			last = err
		}
		require.ErrorIs(t, last, ErrUnsupported)
	})
}

// A server that takes the connection and then says nothing is out of reach, soon.
func TestBucketStalled(t *testing.T) {
	setTestCredentials(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	for name, open := range bucketDrivers {
		t.Run(name, func(t *testing.T) {
			s := open(t, "http://"+listener.Addr().String(), "")
			began := time.Now()
			err := s.Put(t.Context(), "k", make([]byte, 8<<20))
			require.ErrorIs(t, err, ErrUnavailable)
			_, err = s.Stat(t.Context(), "k")
			require.ErrorIs(t, err, ErrUnavailable)
			require.ErrorContains(t, err, "stalled")
			require.Less(t, time.Since(began), 10*time.Second)

			ctx, cancel := context.WithTimeout(t.Context(), testStall/3)
			defer cancel()
			_, err = s.Stat(ctx, "k")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotErrorIs(t, err, ErrUnavailable)
		})
	}
}

// A body that stalls in the middle fails; one that is slow but moves doesn't.
func TestBucketStalledBody(t *testing.T) {
	release := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("Content-Length", "10")
		for range 9 { // longer in all than the stall
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(testStall / 6):
			}
		}
		if strings.HasSuffix(r.URL.Path, "/stalls") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		_, _ = w.Write([]byte("x"))
	}
	withFake(t, "", handler, func(t *testing.T, s Store) {
		data, err := GetAll(t.Context(), s, "slow")
		require.NoError(t, err)
		require.Len(t, data, 10)
		_, err = GetAll(t.Context(), s, "stalls")
		require.ErrorIs(t, err, ErrUnavailable)
	})
	close(release)
}

func TestBucketUnreachable(t *testing.T) {
	setTestCredentials(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	for name, open := range bucketDrivers {
		t.Run(name, func(t *testing.T) {
			s := open(t, "http://"+address, "")
			for _, err := range []error{
				s.Put(t.Context(), "k", nil), s.Delete(t.Context(), "k"), listError(t, s), getError(t, s),
			} {
				require.ErrorIs(t, err, ErrUnavailable)
				require.ErrorContains(t, err, "connection refused")
			}
		})
	}
}

func listError(t *testing.T, s Store) error {
	for _, err := range s.List(t.Context(), "", "") {
		return err
	}
	return nil
}

func getError(t *testing.T, s Store) error {
	_, err := s.Get(t.Context(), "k", 0, -1)
	return err
}

// A put allocates next to nothing beside its data: no driver copies the body.
func TestPutDoesNotCopy(t *testing.T) {
	setTestCredentials(t)
	data := make([]byte, 8<<20)
	sum := sha256Base64(data)
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			w.Header().Set("X-Amz-Checksum-Sha256", sum)
		}
	}
	stores := map[string]func(t *testing.T, endpoint, query string) Store{
		"file": func(t *testing.T, _, _ string) Store { return openFolder(t, t.TempDir()) },
	}
	for name, open := range bucketDrivers {
		stores[name] = open
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(handler))
			defer server.Close()
			s := open(t, server.URL, "")
			require.NoError(t, s.Put(t.Context(), "warm", data))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			require.NoError(t, s.Put(t.Context(), "key", data))
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
		})
	}
}
