package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// minioStore keeps objects in a bucket of a MinIO (or other S3) server, through minio-go.
type minioStore struct {
	loc  *location
	core minio.Core
}

var _ Store = (*minioStore)(nil)

func newMinioStore(loc *location, stall time.Duration) (*minioStore, error) {
	chain := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvMinio{}, &credentials.EnvAWS{}})
	found, err := chain.GetWithContext(nil)
	if err != nil || found.SignerType.IsAnonymous() {
		return nil, newError("open", "", ErrDenied, "no MinIO credentials: set MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, "+
			"MINIO_ACCESS_KEY and MINIO_SECRET_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	tuneTransport(stall)(transport)
	client, err := minio.New(loc.host, &minio.Options{
		Creds:        chain,
		Secure:       loc.tls,
		Transport:    transport,
		Region:       os.Getenv("AWS_REGION"), // else the server is asked
		BucketLookup: minio.BucketLookupPath,
		MaxRetries:   1, // Retry rules
	})
	if err != nil {
		return nil, invalidURL("%s", printable(minio.ToErrorResponse(err).Message))
	}
	return &minioStore{loc: loc, core: minio.Core{Client: client}}, nil
}

// Put implements Store.
func (s *minioStore) Put(ctx context.Context, key string, data []byte) error {
	if err := checkKey("put", key); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	opts := minio.PutObjectOptions{
		DisableContentSha256: true, // not by chunks: the whole body's hash is signed, as given below
		UserMetadata:         map[string]string{minio.ChecksumSHA256.Key(): base64.StdEncoding.EncodeToString(sum[:])},
	}
	opts.SetMatchETagExcept("*")
	_, err := s.core.PutObject(ctx, s.loc.bucket, s.loc.key(key), bytes.NewReader(data), int64(len(data)),
		"", hex.EncodeToString(sum[:]), opts)
	if err != nil {
		return s.fault(ctx, "put", key, err)
	}
	info, err := s.head(ctx, "put", key)
	if errors.Is(err, ErrNotFound) {
		return newError("put", key, ErrMismatch, "the server accepted it and doesn't have it")
	}
	if err != nil {
		return err
	}
	return confirm(ctx, s, key, data, sum, stored{size: info.Size, sha256: info.ChecksumSHA256}, "")
}

// Get implements Store.
func (s *minioStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := checkGet(ctx, key, offset); err != nil {
		return nil, err
	}
	if length == 0 {
		_, err := s.head(ctx, "get", key)
		return emptyBody(), err
	}
	opts := minio.GetObjectOptions{}
	if span := rangeHeader(offset, length); span != "" {
		opts.Set("Range", span)
	}
	inner, info, header, err := s.core.GetObject(ctx, s.loc.bucket, s.loc.key(key), opts)
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return emptyBody(), nil // it begins past the end
		}
		return nil, s.fault(ctx, "get", key, err)
	}
	want, err := promised(key, offset, length, info.Size, header.Get("Content-Range"))
	if err != nil {
		_ = inner.Close()
		return nil, err
	}
	return newBody(ctx, key, inner, want, alwaysUnavailable), nil
}

// Stat implements Store.
func (s *minioStore) Stat(ctx context.Context, key string) (Info, error) {
	if err := checkKey("stat", key); err != nil {
		return Info{}, err
	}
	info, err := s.head(ctx, "stat", key)
	if err != nil {
		return Info{}, err
	}
	return Info{Key: key, Size: info.Size, Modified: info.LastModified}, nil
}

func (s *minioStore) head(ctx context.Context, op, key string) (minio.ObjectInfo, error) {
	info, err := s.core.StatObject(ctx, s.loc.bucket, s.loc.key(key), minio.StatObjectOptions{Checksum: true})
	if err != nil {
		return info, s.fault(ctx, op, key, err)
	}
	if info.Size < 0 {
		return info, newError(op, key, ErrUnsupported, "the server doesn't say how long the object is")
	}
	return info, nil
}

// List implements Store.
func (s *minioStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		l := &lister{loc: s.loc, prefix: prefix, after: after, yield: yield}
		first := 0
		last := "" // as the server names it
		done := s.list(ctx, l, l.startAfter(), firstPage, func(full string) bool {
			first, last = first+1, full
			return first < firstPage
		})
		if !done {
			s.list(ctx, l, last, listPage, func(string) bool { return true })
		}
	}
}

// list hands on objects from a key onwards, until there are no more or more says so after one. It says
// whether the list is at its end.
func (s *minioStore) list(ctx context.Context, l *lister, after string, page int, more func(full string) bool) bool {
	owner := false
	objects := s.core.ListObjectsIter(ctx, s.loc.bucket, minio.ListObjectsOptions{
		Prefix: s.loc.key(l.prefix), Recursive: true, MaxKeys: page, StartAfter: after, FetchOwner: &owner,
	})
	for object := range objects {
		if object.Err != nil {
			l.yield(Info{}, s.fault(ctx, "list", l.prefix, object.Err))
			return true
		}
		if !l.take(object.Key, Info{Size: object.Size, Modified: object.LastModified}) {
			return true
		}
		if !more(object.Key) {
			return false
		}
	}
	// minio-go ends a list in silence when its context ends.
	if err := contextError(ctx, "list", l.prefix); err != nil {
		l.yield(Info{}, err)
	}
	return true
}

// Delete implements Store.
func (s *minioStore) Delete(ctx context.Context, key string) error {
	if err := checkKey("delete", key); err != nil {
		return err
	}
	err := s.core.RemoveObject(ctx, s.loc.bucket, s.loc.key(key), minio.RemoveObjectOptions{})
	if err == nil {
		return nil
	}
	if err = s.fault(ctx, "delete", key, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// String implements Store.
func (s *minioStore) String() string { return s.loc.String() }

// fault gives a minio-go error one of this package's kinds.
func (s *minioStore) fault(ctx context.Context, op, key string, err error) error {
	if ended := contextError(ctx, op, key); ended != nil {
		return ended
	}
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok || answer.StatusCode == 0 {
		return networkError(ctx, op, key, err)
	}
	return bucketError(op, key, apiFault{status: answer.StatusCode, code: answer.Code, message: answer.Message})
}
