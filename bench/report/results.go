package report

import (
	"encoding/json"
	"os"
	"time"
)

// Point is what a run of some size took.
type Point struct {
	Events           int     `json:"events"`
	ArchiveSeconds   float64 `json:"archive_seconds"`
	ArchiveMemory    int64   `json:"archive_memory"` // bytes
	RestoreSeconds   float64 `json:"restore_seconds"`
	RestoreMemory    int64   `json:"restore_memory"`    // bytes
	ReferenceSeconds float64 `json:"reference_seconds"` // of pg_recvlogical, for the same slot
}

// Results are all that one run of the benchmarks found.
type Results struct {
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`
	Commit   string    `json:"commit,omitempty"`
	Machine  string    `json:"machine"`
	Cores    int       `json:"cores"`
	Postgres string    `json:"postgres"`
	Scale    float64   `json:"scale"`
	Runs     int       `json:"runs"`
	Rows     []Row     `json:"rows"`
	Sizes    []Point   `json:"sizes,omitempty"`
	Failed   []string  `json:"failed,omitempty"` // scenarios that could not be measured, and why
}

// Load reads results that were saved.
func Load(path string) (*Results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Results{}
	return r, json.Unmarshal(text, r)
}

// Keep adds what earlier results have and these don't: rows, in the order that names gives, and sizes.
func (r *Results) Keep(earlier *Results, names []string) {
	all := map[string]Row{}
	for _, rows := range [][]Row{earlier.Rows, r.Rows} {
		for _, row := range rows {
			all[row.Name] = row
		}
	}
	r.Rows = nil
	for _, name := range names {
		if row, ok := all[name]; ok {
			r.Rows = append(r.Rows, row)
		}
	}
	if len(r.Sizes) == 0 {
		r.Sizes = earlier.Sizes
	}
}

// Save writes the results as JSON.
func (r *Results) Save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
