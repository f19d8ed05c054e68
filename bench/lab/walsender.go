package lab

import (
	"context"
	"time"
)

// watchWalsender looks at the processor time of the process that serves a slot, from when there is one until the
// function it returns is called, which gives the last value seen.
func (src *Source) watchWalsender(ctx context.Context, slot string) func() time.Duration {
	ctx, cancel := context.WithCancel(ctx)
	used := make(chan time.Duration, 1)
	go func() { used <- src.walsenderCPU(ctx, slot) }()
	return func() time.Duration {
		cancel()
		return <-used
	}
}

func (src *Source) walsenderCPU(ctx context.Context, slot string) (used time.Duration) {
	conn, err := Connect(ctx, src.DSN())
	if err != nil {
		return 0
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var pid *int32
	for {
		select {
		case <-ctx.Done():
			return used
		case <-tick.C:
		}
		if pid == nil {
			if err := conn.QueryRow(ctx, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&pid); err != nil {
				return used
			}
			continue
		}
		if now, err := CPUOf(int(*pid)); err == nil {
			used = now
		}
	}
}
