package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tidemark/internal/fault"
)

// Monitoring is the HTTP endpoint: /metrics for Prometheus, /healthz for a restarter, /readyz for a waiter.
// Liveness depends on neither Postgres nor the store: restarting the program mends neither.
type Monitoring struct {
	server  *http.Server
	isReady atomic.Bool
}

// Serve starts the endpoint and returns it with the address it listens on. Yes and no are what /readyz
// answers. The caller closes it.
func Serve(addr string, reg *prometheus.Registry, yes, no string, log *slog.Logger) (*Monitoring, string, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, "", fault.Wrap(err, fault.Usage, "give --listen a free address such as 127.0.0.1:9187", "listening on %s", addr)
	}
	m := &Monitoring{}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, true, "alive") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if m.isReady.Load() {
			answer(w, true, yes)
			return
		}
		answer(w, false, no)
	})
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := m.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("monitoring endpoint failed", "err", err)
		}
	}()
	log.Info("serving metrics", "addr", listener.Addr().String())
	return m, listener.Addr().String(), nil
}

func answer(w http.ResponseWriter, ok bool, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The client may be gone; there is nobody to tell.
	_, _ = w.Write([]byte(text + "\n"))
}

// Ready sets what /readyz answers; at first it says no.
func (m *Monitoring) Ready(ok bool) { m.isReady.Store(ok) }

// Close ends the endpoint.
func (m *Monitoring) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// The process is ending: whoever still reads is cut off.
	_ = m.server.Shutdown(ctx)
}
