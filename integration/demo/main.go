// Command demo shows Tidemark at work on a throwaway PostgreSQL: an order-processing event store is
// archived while clients write to it, a careless DELETE destroys part of it, and it is brought back to
// just before. It ends with exit code 0 only if every table is exactly as it was. Nothing stays behind.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	c := newConsole(os.Stdout)
	err := run(ctx, c)
	interrupted := ctx.Err() != nil
	stop()
	if interrupted {
		c.bad("interrupted; all is cleaned up")
		os.Exit(130)
	}
	if err != nil {
		c.bad("%v", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c *console) (err error) {
	begin := time.Now()
	d := &demo{console: c}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.work(ctx); err != nil {
		return err
	}
	before, err := d.destroy(ctx)
	if err != nil {
		return err
	}
	flags, err := d.find(ctx)
	if err != nil {
		return err
	}
	if err := d.restore(ctx, flags); err != nil {
		return err
	}
	if err := d.compare(ctx, before); err != nil {
		return err
	}
	if err := d.close(); err != nil {
		return err
	}
	c.good("Every table is exactly as it was before the DELETE. It took %.0f seconds, and nothing is left running.",
		time.Since(begin).Seconds())
	return nil
}
