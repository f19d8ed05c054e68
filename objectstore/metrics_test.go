package objectstore_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
)

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := faulty.New(objectstore.NewMem())
	s := objectstore.Metrics(f, reg)
	objectstore.Metrics(f, reg) // a second store on the registry shares the numbers

	require.NoError(t, s.Put(t.Context(), "k", []byte("12345")))
	require.Error(t, s.Put(t.Context(), "k", []byte("12345")))
	_, err := objectstore.GetAll(t.Context(), s, "k")
	require.NoError(t, err)
	_, err = s.Stat(t.Context(), "nothing")
	require.Error(t, err)
	f.BreakGet(2)
	_, err = objectstore.GetAll(t.Context(), s, "k")
	require.Error(t, err)
	for range s.List(t.Context(), "", "") {
	}
	f.Cut()
	require.Error(t, s.Delete(t.Context(), "k"))

	require.Equal(t, map[string]float64{
		"tidemark_store_bytes_total received":              7,
		"tidemark_store_bytes_total sent":                  5,
		"tidemark_store_requests_total delete unavailable": 1,
		"tidemark_store_requests_total get ok":             1,
		"tidemark_store_requests_total get unavailable":    1,
		"tidemark_store_requests_total list ok":            1,
		"tidemark_store_requests_total put exists":         1,
		"tidemark_store_requests_total put ok":             1,
		"tidemark_store_requests_total stat not_found":     1,
		"tidemark_store_request_seconds delete":            1,
		"tidemark_store_request_seconds get":               2,
		"tidemark_store_request_seconds list":              1,
		"tidemark_store_request_seconds put":               2,
		"tidemark_store_request_seconds stat":              1,
	}, gathered(t, reg))
}

// gathered are a registry's counters, and its histograms' counts, by name and label values.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			values[name] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return values
}
