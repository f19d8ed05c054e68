package objectstore

import "context"

// Open returns the store that an archive URL names, without touching it: an archive that isn't there is
// found out by the first request.
//
//	file:///path, or a plain path
//	s3://bucket/prefix?region=&endpoint=&path_style=&sse=&kms_key=   (AWS SDK and its credential chain)
//	minio://host:port/bucket/prefix?tls=                             (tls defaults to true)
//	mem://name                                                       (one per process and name, for tests)
//
// MinIO's credentials come from MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, MINIO_ACCESS_KEY and
// MINIO_SECRET_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. A URL that can't be used, in whole or
// in part, is an ErrInvalidURL; missing MinIO credentials are an ErrDenied. No error repeats the URL.
func Open(ctx context.Context, rawURL string) (Store, error) {
	loc, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	switch loc.scheme {
	case "file":
		return newFileStore(loc)
	case "mem":
		return openMem(loc.path), nil
	case "minio":
		return newMinioStore(loc, defaultStall)
	}
	return newS3Store(ctx, loc, defaultStall)
}
