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
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// s3Store keeps objects in an S3 bucket, through the AWS SDK.
type s3Store struct {
	loc    *location
	client *s3.Client
}

var _ Store = (*s3Store)(nil)

func newS3Store(ctx context.Context, loc *location, stall time.Duration) (*s3Store, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(tuneTransport(stall))),
	}
	if loc.region != "" {
		options = append(options, config.WithRegion(loc.region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, &opError{op: "open", kind: ErrDenied, detail: "the AWS configuration can't be read: " + printable(err.Error()), cause: err}
	}
	if cfg.Region == "" {
		if loc.endpoint == "" {
			return nil, invalidURL("no region: give region= or set AWS_REGION")
		}
		cfg.Region = "us-east-1" // what servers other than AWS's call themselves
	}
	cfg.Credentials = &trackedCredentials{inner: cfg.Credentials}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.Retryer = aws.NopRetryer{} // Retry rules
		o.UsePathStyle = loc.pathStyle
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		if loc.endpoint != "" {
			o.BaseEndpoint = aws.String(loc.endpoint)
		}
	})
	return &s3Store{loc: loc, client: client}, nil
}

// Put implements Store.
func (s *s3Store) Put(ctx context.Context, key string, data []byte) error {
	if err := checkKey("put", key); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	in := &s3.PutObjectInput{
		Bucket:         aws.String(s.loc.bucket),
		Key:            aws.String(s.loc.key(key)),
		Body:           bytes.NewReader(data),
		ContentLength:  aws.Int64(int64(len(data))),
		IfNoneMatch:    aws.String("*"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	}
	if s.loc.sse != "" {
		in.ServerSideEncryption = types.ServerSideEncryption(s.loc.sse)
	}
	if s.loc.kmsKey != "" {
		in.SSEKMSKeyId = aws.String(s.loc.kmsKey)
	}
	if _, err := s.client.PutObject(ctx, in, knownPayload(sum)); err != nil {
		return s.fault(ctx, "put", key, err)
	}
	got, err := s.head(ctx, "put", key)
	if errors.Is(err, ErrNotFound) {
		return newError("put", key, ErrMismatch, "the server accepted it and doesn't have it")
	}
	if err != nil {
		return err
	}
	return confirm(ctx, s, key, data, sum, got.stored, s.loc.sse)
}

// knownPayload spares the signer from hashing the body a second time.
func knownPayload(sum [sha256.Size]byte) func(*s3.Options) {
	hash := hex.EncodeToString(sum[:])
	step := middleware.FinalizeMiddlewareFunc("TidemarkPayloadHash", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		return next.HandleFinalize(v4.SetPayloadHash(ctx, hash), in)
	})
	return s3.WithAPIOptions(func(stack *middleware.Stack) error {
		return stack.Finalize.Add(step, middleware.Before)
	})
}

// Get implements Store.
func (s *s3Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := checkGet(ctx, key, offset); err != nil {
		return nil, err
	}
	if length == 0 {
		_, err := s.head(ctx, "get", key)
		return emptyBody(), err
	}
	in := &s3.GetObjectInput{Bucket: aws.String(s.loc.bucket), Key: aws.String(s.loc.key(key))}
	if span := rangeHeader(offset, length); span != "" {
		in.Range = aws.String(span)
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		if status(err) == http.StatusRequestedRangeNotSatisfiable { // it begins past the end
			return emptyBody(), nil
		}
		return nil, s.fault(ctx, "get", key, err)
	}
	size := int64(-1)
	if out.ContentLength != nil {
		size = *out.ContentLength
	}
	want, err := promised(key, offset, length, size, aws.ToString(out.ContentRange))
	if err != nil {
		_ = out.Body.Close()
		return nil, err
	}
	return newBody(ctx, key, out.Body, want, alwaysUnavailable), nil
}

func alwaysUnavailable(error) error { return ErrUnavailable }

// Stat implements Store.
func (s *s3Store) Stat(ctx context.Context, key string) (Info, error) {
	if err := checkKey("stat", key); err != nil {
		return Info{}, err
	}
	got, err := s.head(ctx, "stat", key)
	if err != nil {
		return Info{}, err
	}
	return Info{Key: key, Size: got.size, Modified: got.modified}, nil
}

type headAnswer struct {
	stored
	modified time.Time
}

func (s *s3Store) head(ctx context.Context, op, key string) (headAnswer, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket:       aws.String(s.loc.bucket),
		Key:          aws.String(s.loc.key(key)),
		ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return headAnswer{}, s.fault(ctx, op, key, err)
	}
	if out.ContentLength == nil {
		return headAnswer{}, newError(op, key, ErrUnsupported, "the server doesn't say how long the object is")
	}
	return headAnswer{
		stored:   stored{size: *out.ContentLength, sha256: aws.ToString(out.ChecksumSHA256), sse: string(out.ServerSideEncryption)},
		modified: aws.ToTime(out.LastModified),
	}, nil
}

// List implements Store.
func (s *s3Store) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		l := &lister{loc: s.loc, prefix: prefix, after: after, yield: yield}
		in := &s3.ListObjectsV2Input{
			Bucket:  aws.String(s.loc.bucket),
			Prefix:  aws.String(s.loc.key(prefix)),
			MaxKeys: aws.Int32(firstPage),
		}
		if start := l.startAfter(); start != "" {
			in.StartAfter = aws.String(start)
		}
		for s.listPage(ctx, l, in) {
			in.MaxKeys = aws.Int32(listPage)
		}
	}
}

// listPage asks for one page and hands it on. It says whether another is wanted, and readies in for it.
func (s *s3Store) listPage(ctx context.Context, l *lister, in *s3.ListObjectsV2Input) bool {
	out, err := s.client.ListObjectsV2(ctx, in)
	if err != nil {
		l.yield(Info{}, s.fault(ctx, "list", l.prefix, err))
		return false
	}
	for _, object := range out.Contents {
		info := Info{Size: aws.ToInt64(object.Size), Modified: aws.ToTime(object.LastModified)}
		if !l.take(aws.ToString(object.Key), info) {
			return false
		}
	}
	if !aws.ToBool(out.IsTruncated) {
		return false
	}
	if aws.ToString(out.NextContinuationToken) == "" {
		l.yield(Info{}, newError("list", l.prefix, ErrUnsupported, "the server says there is more but not how to ask for it"))
		return false
	}
	in.ContinuationToken = out.NextContinuationToken
	return true
}

// Delete implements Store.
func (s *s3Store) Delete(ctx context.Context, key string) error {
	if err := checkKey("delete", key); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{
		Bucket: aws.String(s.loc.bucket),
		Key:    aws.String(s.loc.key(key)),
	})
	if err == nil {
		return nil
	}
	if err = s.fault(ctx, "delete", key, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// String implements Store.
func (s *s3Store) String() string { return s.loc.String() }

// fault gives an SDK error one of this package's kinds.
func (s *s3Store) fault(ctx context.Context, op, key string, err error) error {
	if ended := contextError(ctx, op, key); ended != nil {
		return ended
	}
	if missing, ok := errors.AsType[*credentialsError](err); ok {
		kind := ErrDenied
		if missing.hadSome {
			kind = ErrUnavailable
		}
		return &opError{op: op, key: key, kind: kind, detail: "no AWS credentials: " + printable(missing.Error()), cause: err}
	}
	fault := apiFault{status: status(err)}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		fault.code, fault.message = api.ErrorCode(), api.ErrorMessage()
	}
	if fault.status == 0 {
		return networkError(ctx, op, key, err)
	}
	if fault.status == http.StatusOK { // an answer that broke off, or was no S3 answer
		return networkError(ctx, op, key, err)
	}
	return bucketError(op, key, fault)
}

// status is the HTTP status of an error answer, 0 if there was no answer.
func status(err error) int {
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return response.HTTPStatusCode()
	}
	return 0
}

// trackedCredentials tells "there were never any" (a fault of the configuration) from "they can't be
// renewed now" (worth waiting for).
type trackedCredentials struct {
	inner   aws.CredentialsProvider
	hadSome atomic.Bool
}

type credentialsError struct {
	error
	hadSome bool
}

// Unwrap gives the provider's error.
func (e *credentialsError) Unwrap() error { return e.error }

// Retrieve implements aws.CredentialsProvider.
func (t *trackedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := t.inner.Retrieve(ctx)
	if err != nil {
		return got, &credentialsError{error: err, hadSome: t.hadSome.Load()}
	}
	t.hadSome.Store(true)
	return got, nil
}
