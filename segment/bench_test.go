package segment

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// workload is a stream of transactions of JSON events, or of bank transfers, as large in raw bytes as the
// benchmarks say.
type workload struct {
	name         string
	rows         int // per transaction
	transactions int
	bank         bool
}

var workloads = []workload{
	{name: "events/rows=1000", rows: 1000, transactions: 100},
	{name: "events/rows=1", rows: 1, transactions: 100_000},
	{name: "bank", transactions: 60_000, bank: true},
}

var eventsRelation = &Relation{ID: 16385, Namespace: "public", Name: "events", Identity: 'd', Columns: []Column{
	{Flags: 1, Name: "position", TypeOID: 20, Modifier: -1}, {Name: "stream_id", TypeOID: 2950, Modifier: -1},
	{Name: "version", TypeOID: 23, Modifier: -1}, {Name: "type", TypeOID: 25, Modifier: -1},
	{Name: "payload", TypeOID: 3802, Modifier: -1}, {Name: "at", TypeOID: 1184, Modifier: -1},
}}

func bankRelations() []*Relation {
	keyed := func(id uint32, name string) *Relation {
		return &Relation{ID: id, Namespace: "public", Name: name, Identity: 'd', Columns: []Column{
			{Flags: 1, Name: "id", TypeOID: 23, Modifier: -1}, {Name: "branch", TypeOID: 23, Modifier: -1},
			{Name: "balance", TypeOID: 23, Modifier: -1}, {Name: "filler", TypeOID: 1042, Modifier: 88}}}
	}
	return []*Relation{keyed(1, "accounts"), keyed(2, "tellers"), keyed(3, "branches"), keyed(4, "history")}
}

// rowsOf prepares the rows of a workload: column values in text, made once and sent over and over.
func (wl workload) rowsOf(n int) [][][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([][][]byte, n)
	filler := fmt.Appendf(nil, "%84s", "")
	for i := range rows {
		if wl.bank {
			rows[i] = [][]byte{fmt.Append(nil, r.IntN(100000)), fmt.Append(nil, r.IntN(10)), fmt.Append(nil, r.IntN(1e7)), filler}
			continue
		}
		rows[i] = [][]byte{
			fmt.Append(nil, 1_000_000+i), fmt.Appendf(nil, "%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.IntN(65536), r.IntN(4096), r.IntN(4096), r.Uint64()>>16),
			fmt.Append(nil, r.IntN(50)), []byte([]string{"OrderPlaced", "OrderPaid", "OrderShipped"}[r.IntN(3)]),
			fmt.Appendf(nil, `{"order_id": %d, "customer": {"id": %d, "country": "%s"}, "items": [{"sku": "SKU-%05d", "quantity": %d, "price": %d.%02d}], "currency": "EUR", "note": "leave at the door"}`,
				r.IntN(1e8), r.IntN(1e6), []string{"DE", "FR", "US", "JP"}[r.IntN(4)], r.IntN(1e5), 1+r.IntN(9), r.IntN(500), r.IntN(100)),
			fmt.Appendf(nil, "2025-03-%02d %02d:%02d:%02d.%06d+00", 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1e6)),
		}
	}
	return rows
}

// write sends the workload through w.
func (wl workload) write(w *Writer, rows [][][]byte, start LSN) (end LSN, err error) {
	lsn, at := start, Timestamp(7e14)
	r := rand.New(rand.NewPCG(3, 4))
	next := 0
	row := func(op Op, id uint32) {
		values := rows[next%len(rows)]
		next++
		err = firstOf(err, w.Row(op, id), w.Tuple(New, len(values)))
		for _, v := range values {
			err = firstOf(err, w.Value(len(v)), w.Bytes(v))
		}
		err = firstOf(err, w.EndRow())
	}
	for i := range wl.transactions {
		lsn += LSN(200 + r.IntN(400))
		at += Timestamp(r.IntN(900))
		err = firstOf(err, w.Begin(Begin{CommitLSN: lsn, CommitTime: at, XID: uint32(700 + i)}))
		if wl.bank {
			row(OpUpdate, 1)
			row(OpUpdate, 2)
			row(OpUpdate, 3)
			row(OpInsert, 4)
		}
		for range wl.rows {
			row(OpInsert, eventsRelation.ID)
		}
		err = firstOf(err, w.Commit(Commit{CommitLSN: lsn, EndLSN: lsn + 48, CommitTime: at}))
	}
	return lsn + 48, err
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare makes a Writer that recycles its buffers, with the relations defined.
func (wl workload) prepare(t testing.TB, emit func(Part) error) *Writer {
	o := testOptions(0, 0)
	var free [][]byte
	o.Buffer = func() ([]byte, error) {
		if n := len(free); n > 0 {
			b := free[n-1]
			free = free[:n-1]
			return b, nil
		}
		return make([]byte, 0, BufferSize(DefaultPartSize, DefaultBlockSize)), nil
	}
	o.Emit = func(p Part) error {
		if emit != nil {
			return emit(p)
		}
		free = append(free, p.Data[:0])
		return nil
	}
	w, err := NewWriter(o)
	require.NoError(t, err)
	relations := []*Relation{eventsRelation}
	if wl.bank {
		relations = bankRelations()
	}
	for _, r := range relations {
		require.NoError(t, w.Relation(r))
	}
	return w
}

// cpu returns the processor time that the process has used: on a busy machine it says more than the clock.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU reports the raw megabytes for each second of processor time since start.
func reportCPU(b *testing.B, rawBytes int64, start time.Duration) {
	b.ReportMetric(float64(rawBytes)*float64(b.N)/1e6/(cpu()-start).Seconds(), "MB/cpu-s")
}

func BenchmarkWriter(b *testing.B) {
	for _, wl := range workloads {
		b.Run(wl.name, func(b *testing.B) {
			rows := wl.rowsOf(50_000)
			b.ReportAllocs()
			var s Summary
			start := cpu()
			for b.Loop() {
				w := wl.prepare(b, nil)
				end, err := wl.write(w, rows, w.o.Start)
				require.NoError(b, err)
				s, err = w.Close(end)
				require.NoError(b, err)
				b.SetBytes(s.RawBytes)
			}
			reportCPU(b, s.RawBytes, start)
			b.ReportMetric(float64(s.StoredBytes)/float64(s.RawBytes), "stored/raw")
		})
	}
}

func BenchmarkReader(b *testing.B) {
	for _, wl := range workloads {
		b.Run(wl.name, func(b *testing.B) {
			var data [][]byte
			w := wl.prepare(b, func(p Part) error {
				data = append(data, p.Data)
				return nil
			})
			end, err := wl.write(w, wl.rowsOf(50_000), w.o.Start)
			require.NoError(b, err)
			s, err := w.Close(end)
			require.NoError(b, err)
			b.SetBytes(s.RawBytes)
			b.ReportAllocs()
			start := cpu()
			for b.Loop() {
				_, err := readAll(filesOf(data), ReaderOptions{}, func(*Record) {})
				require.NoError(b, err)
			}
			reportCPU(b, s.RawBytes, start)
		})
	}
}

func BenchmarkReadIndex(b *testing.B) {
	wl := workload{transactions: 500_000, bank: true}
	var last Part
	w := wl.prepare(b, func(p Part) error {
		last = p
		return nil
	})
	end, err := wl.write(w, wl.rowsOf(50_000), w.o.Start)
	require.NoError(b, err)
	_, err = w.Close(end)
	require.NoError(b, err)
	for name, from := range map[string]LSN{"all": 0, "last": end - 1} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := ReadIndexFrom(memoryFile(0, last.Data), from)
				require.NoError(b, err)
			}
		})
	}
}
