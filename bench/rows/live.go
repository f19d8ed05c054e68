package rows

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"tidemark/bench/lab"
	"tidemark/bench/report"
)

// live measures what following a busy database takes: processor time of the reader and its walsender, while pgbench
// runs, once as fast as it can and once at a moderate rate.
var live = Scenario{
	Name: "live",
	Rows: []string{"live-full-cpu", "live-1000-cpu"},
	Run: func(ctx context.Context, b *Bench) error {
		src, err := b.benchSource(ctx, 10)
		if err != nil {
			return err
		}
		folder, err := src.NewFolder("live")
		if err != nil {
			return err
		}
		for _, rate := range []int{0, 1000} {
			name, what := "live-full-cpu", "pgbench -N at full speed"
			if rate > 0 {
				name, what = "live-1000-cpu", fmt.Sprintf("pgbench -N, %d transactions a second", rate)
			}
			if !b.Want(name) {
				continue
			}
			ours, theirs, err := b.liveBoth(ctx, src, folder, rate)
			if err != nil {
				return err
			}
			b.Add(report.Compare(name, "CPU of client and walsender for 1,000 commits of "+what, report.AtMost(0.6), ours, theirs).In("TCP", "2", b.Cores()))
		}
		return nil
	},
}

func (b *Bench) liveBoth(ctx context.Context, src *lab.Source, folder string, rate int) (ours, theirs report.Side, err error) {
	ours, theirs = report.Side{Name: "archiver", Unit: "CPU ms"}, report.Side{Name: "pg_recvlogical", Unit: "CPU ms"}
	for range b.Runs {
		for _, one := range []struct {
			into    *report.Side
			measure func() (float64, error)
		}{
			{&ours, func() (float64, error) { return b.liveOurs(ctx, src, folder, rate) }},
			{&theirs, func() (float64, error) { return b.liveTheirs(ctx, src, rate) }},
		} {
			v, err := one.measure()
			if err != nil {
				return ours, theirs, err
			}
			b.Logf("  %s: %.1f ms CPU for 1,000 commits", one.into.Name, v)
			one.into.Runs = append(one.into.Runs, v)
		}
	}
	return ours, theirs, nil
}

func (b *Bench) liveOurs(ctx context.Context, src *lab.Source, folder string, rate int) (float64, error) {
	p, err := lab.Start(ctx, b.Archiver(nil, "run", "--source", src.DSN(), "--archive", folder))
	if err != nil {
		return 0, err
	}
	defer p.Interrupt()
	return b.liveCPU(ctx, src, p, src.Slot(), rate)
}

func (b *Bench) liveTheirs(ctx context.Context, src *lab.Source, rate int) (float64, error) {
	const slot = "attached"
	if err := src.Server.Exec(ctx, src.Database, "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')"); err != nil {
		return 0, err
	}
	file := b.Path("attached.out")
	defer os.Remove(file)
	p, err := src.Attach(ctx, src.DSN(), slot, file)
	if err != nil {
		return 0, err
	}
	v, err := b.liveCPU(ctx, src, p, slot, rate)
	p.Interrupt()
	if err != nil {
		return 0, err
	}
	return v, src.Drop(ctx, slot)
}

// liveCPU runs pgbench beside a reader that has caught up, waits until the walsender has sent all of it, and returns
// the milliseconds of processor time for 1,000 commits.
func (b *Bench) liveCPU(ctx context.Context, src *lab.Source, p *lab.Process, slot string, rate int) (float64, error) {
	walsender, err := caughtUp(ctx, src, p, slot)
	if err != nil {
		return 0, err
	}
	before, err := cpuOf(p.PID(), walsender)
	if err != nil {
		return 0, err
	}
	commits, err := timedPgbench(src, max(3, int(15*min(1, b.Scale))), rate)
	if err != nil {
		return 0, err
	}
	same, err := caughtUp(ctx, src, p, slot)
	if err != nil {
		return 0, err
	}
	if same != walsender {
		return 0, fmt.Errorf("the walsender of %s has changed", slot)
	}
	after, err := cpuOf(p.PID(), walsender)
	return float64((after - before).Milliseconds()) / (float64(commits) / 1000), err
}

// caughtUp waits until a slot's walsender has sent all there is, and returns its process.
func caughtUp(ctx context.Context, src *lab.Source, p *lab.Process, slot string) (walsender int, err error) {
	text, err := src.Server.Query(ctx, src.Database, "SELECT pg_current_wal_flush_lsn()")
	if err != nil {
		return 0, err
	}
	err = p.Until(ctx, "all is sent", func() bool {
		pid, err := src.Server.Query(ctx, src.Database, "SELECT r.pid FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = $1 AND r.sent_lsn >= $2::text::pg_lsn", slot, text)
		if err != nil || pid == "" {
			return false
		}
		walsender, err = strconv.Atoi(pid)
		return err == nil
	})
	return walsender, err
}

func cpuOf(pids ...int) (sum time.Duration, err error) {
	for _, pid := range pids {
		d, err := lab.CPUOf(pid)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}
