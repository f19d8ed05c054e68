package lab

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"tidemark/internal/testserver/s3"
)

// Counter is a proxy in front of a store that counts the requests.
type Counter struct {
	URL    string // http://127.0.0.1:port
	server *http.Server
	n      atomic.Int64
}

// Count puts a counter in front of an S3 server until the stage is closed.
func (s *Stage) Count(store *s3.Server) (*Counter, error) {
	target, err := url.Parse(store.Endpoint)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &Counter{URL: "http://" + listener.Addr().String()}
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16},
		Rewrite: func(r *httputil.ProxyRequest) {
			c.n.Add(1)
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
	}
	c.server = &http.Server{Handler: proxy}
	go func() { _ = c.server.Serve(listener) }()
	s.closes = append(s.closes, c.server.Close)
	return c, nil
}

// Through makes an archive URL of the store lead through the counter.
func (c *Counter) Through(store *s3.Server, archive string) string {
	return strings.Replace(archive, url.QueryEscape(store.Endpoint), url.QueryEscape(c.URL), 1)
}

// Take returns the number of requests since the last call.
func (c *Counter) Take() int { return int(c.n.Swap(0)) }
