package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMask(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"postgres://app:s3cret@db:5432/shop", "postgres://app:*****@db:5432/shop"},
		{"postgresql://app:a:b@c/d@db/shop?sslmode=require", "postgresql://app:*****@db/shop?sslmode=require"},
		{"postgres://app@db/shop", "postgres://app@db/shop"},
		{"postgres://db/shop?user=app&password=s3cret&sslmode=require", "postgres://db/shop?user=app&password=*****&sslmode=require"},
		{"host=db password=s3cret user=app", "host=db password=***** user=app"},
		{`host=db password='s3 cr\'et' user=app`, "host=db password=***** user=app"},
		{"password = s3cret dbname=x", "password = ***** dbname=x"},
		{"sslpassword=s3cret", "sslpassword=*****"},
		{"PGPASSWORD=s3cret restorer list", "PGPASSWORD=***** restorer list"},
		{"CREATE USER app PASSWORD 's3''cret' LOGIN", "CREATE USER app PASSWORD ***** LOGIN"},
		{"minio://key:s3cret@host:9000/bucket", "minio://key:*****@host:9000/bucket"},
		{"https://b.s3.amazonaws.com/k?X-Amz-Signature=s3cret&x=1", "https://b.s3.amazonaws.com/k?X-Amz-Signature=*****&x=1"},
		{"secret_access_key=s3cret", "secret_access_key=*****"},
		{"two: postgres://a:s3cret@h/x http://b:s3cret@i/y", "two: postgres://a:*****@h/x http://b:*****@i/y"},
		{"http://127.0.0.1:9187/metrics at 10:30", "http://127.0.0.1:9187/metrics at 10:30"},
		{"no password was given", "no password was given"},
	} {
		require.Equal(t, c.want, Mask(c.in), c.in)
	}
}
