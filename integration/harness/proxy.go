package harness

import (
	"context"
	"fmt"
	"strings"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Proxy is a TCP proxy on the loopback address whose network can be taken away.
type Proxy struct {
	Address string // host:port to connect to
	proxy   *toxiproxy.Proxy
}

// StartProxy puts a proxy in front of a server until the test ends.
func StartProxy(tb TB, upstream string) *Proxy {
	tb.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "store", "127.0.0.1:0", upstream)
	if err := p.Start(); err != nil {
		tb.Fatalf("starting a proxy: %v", err)
	}
	tb.Cleanup(p.Stop)
	return &Proxy{Address: p.Listen, proxy: p}
}

// Blackhole lets connections be made and bytes be sent, and nothing arrive, in either direction.
func (p *Proxy) Blackhole(tb TB) {
	tb.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		toxic := fmt.Sprintf(`{"name": %q, "type": "timeout", "stream": %q, "attributes": {"timeout": 0}}`, stream, stream)
		if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			tb.Fatalf("cutting the network: %v", err)
		}
	}
}

// Heal ends Blackhole; connections that were open meanwhile are closed.
func (p *Proxy) Heal() { p.proxy.Toxics.ResetToxics(context.Background()) }

// Refuse closes the port.
func (p *Proxy) Refuse() { p.proxy.Stop() }

// Accept opens the port again.
func (p *Proxy) Accept(tb TB) {
	tb.Helper()
	if err := p.proxy.Start(); err != nil {
		tb.Fatalf("starting the proxy again: %v", err)
	}
}
