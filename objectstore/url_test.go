package objectstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseURL(t *testing.T) {
	here, err := os.Getwd()
	require.NoError(t, err)
	for raw, want := range map[string]location{
		"file:///var/archive":           {scheme: "file", path: "/var/archive"},
		"file:///var/archive/":          {scheme: "file", path: "/var/archive"},
		"file:///with%20space/a%23b":    {scheme: "file", path: "/with space/a#b"},
		"file://localhost/a":            {scheme: "file", path: "/a"},
		"/plain/path":                   {scheme: "file", path: "/plain/path"},
		"/odd?name&50%":                 {scheme: "file", path: "/odd?name&50%"},
		"relative/x":                    {scheme: "file", path: filepath.Join(here, "relative/x")},
		"mem://name":                    {scheme: "mem", path: "name"},
		"s3://bucket":                   {scheme: "s3", bucket: "bucket"},
		"s3://bucket/":                  {scheme: "s3", bucket: "bucket"},
		"s3://bucket/a/b/?region=eu-w1": {scheme: "s3", bucket: "bucket", prefix: "a/b", region: "eu-w1"},
		"s3://bucket/a?endpoint=http://127.0.0.1:9000": {
			scheme: "s3", bucket: "bucket", prefix: "a", endpoint: "http://127.0.0.1:9000", pathStyle: true},
		"s3://bucket/a?endpoint=https://s3.example.com&path_style=false": {
			scheme: "s3", bucket: "bucket", prefix: "a", endpoint: "https://s3.example.com"},
		"s3://bucket/a?sse=aws:kms&kms_key=alias/k": {
			scheme: "s3", bucket: "bucket", prefix: "a", sse: "aws:kms", kmsKey: "alias/k"},
		"minio://host:9000/bucket/a/b":            {scheme: "minio", host: "host:9000", bucket: "bucket", prefix: "a/b", tls: true},
		"minio://host/bucket?tls=false":           {scheme: "minio", host: "host", bucket: "bucket"},
		"minio://127.0.0.1:9000/bucket/?tls=true": {scheme: "minio", host: "127.0.0.1:9000", bucket: "bucket", tls: true},
	} {
		got, err := parseURL(raw)
		require.NoError(t, err, raw)
		again, err := parseURL(got.String())
		require.NoError(t, err, got.String())
		require.Equal(t, got.String(), again.String(), "String must give the same store again")
		got.given, again.given = nil, nil
		require.Equal(t, want, *got, raw)
		require.Equal(t, want, *again, raw)
	}
}

func TestParseURLRefuses(t *testing.T) {
	for raw, says := range map[string]string{
		"":                                         "empty",
		"gs://bucket/x":                            "Google Cloud Storage",
		"azblob://container/x":                     "Azure Blob Storage",
		"ftp://host/x":                             "unknown scheme",
		"S3://bucket":                              "unknown scheme",
		"s3:bucket":                                "two slashes",
		"file:archive":                             "two slashes",
		"file://relative/x":                        "three slashes",
		"file:///x?region=a":                       `unknown key "region"`,
		"mem://":                                   "a name",
		"mem://a/b":                                "a name",
		"s3://":                                    "bucket name",
		"s3://b":                                   "bucket name",
		"s3://bucket:80/x":                         "endpoint=",
		"s3://bucket/x?regoin=a":                   `unknown key "regoin"`,
		"s3://bucket/x?access_key=SECRET":          `unknown key "access_key"`,
		"s3://bucket/x?region=":                    "no value",
		"s3://bucket/x?region=a&region=b":          "more than once",
		"s3://bucket/x?region=a;b":                 "query",
		"s3://bucket/x#SECRET":                     "#",
		"s3://bucket/../x":                         "prefix",
		"s3://bucket/a//b":                         "prefix",
		"s3://bucket/x?path_style=maybe":           "true or false",
		"s3://bucket/x?sse=rot13":                  "AES256",
		"s3://bucket/x?kms_key=k":                  "sse=aws:kms",
		"s3://bucket/x?endpoint=host:9000":         "http://host:port",
		"s3://bucket/x?endpoint=ftp://h":           "http://host:port",
		"s3://bucket/x?endpoint=http://h/p":        "http://host:port",
		"s3://user:SECRET@bucket/x":                "environment",
		"s3://SECRET@bucket/x":                     "environment",
		"s3://user:SEC/RET@bucket/x":               "",
		"minio://u:SECRET@host/bucket":             "environment",
		"minio://host:SECRET/bucket":               "parsed",
		"minio://host:9000":                        "bucket name",
		"minio://host:9000/bucket?region=x":        `unknown key "region"`,
		"minio:///bucket/x":                        "host:port",
		"s3://bucket/x?endpoint=http://u:SECRET@h": "http://host:port",
	} {
		_, err := parseURL(raw)
		require.ErrorIs(t, err, ErrInvalidURL, raw)
		require.Contains(t, err.Error(), says, raw)
		require.NotContains(t, err.Error(), "SECRET", raw)
		require.NotContains(t, err.Error(), "\n", raw)
	}
}

func TestOpenWithoutCredentials(t *testing.T) {
	for _, name := range []string{"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY",
		"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	_, err := Open(t.Context(), "minio://127.0.0.1:1/bucket?tls=false")
	require.ErrorIs(t, err, ErrDenied)
	require.ErrorContains(t, err, "MINIO_ROOT_USER")

	_, err = Open(t.Context(), "s3://bucket")
	require.ErrorIs(t, err, ErrInvalidURL)
	require.ErrorContains(t, err, "AWS_REGION")

	s, err := Open(t.Context(), "s3://bucket?endpoint=http://127.0.0.1:1")
	require.NoError(t, err)
	_, err = s.Stat(t.Context(), "x")
	require.ErrorIs(t, err, ErrDenied)
	require.ErrorContains(t, err, "no AWS credentials")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(t.Context(), file)
	require.ErrorIs(t, err, ErrInvalidURL)
}

func TestMemRegistry(t *testing.T) {
	a, err := Open(t.Context(), "mem://registry-test")
	require.NoError(t, err)
	b, err := Open(t.Context(), "mem://registry-test")
	require.NoError(t, err)
	require.NoError(t, a.Put(t.Context(), "k", []byte("v")))
	got, err := GetAll(t.Context(), b, "k")
	require.NoError(t, err)
	require.Equal(t, "v", string(got))
}
