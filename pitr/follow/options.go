package follow

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/objectstore"
	"tidemark/pitr"
)

// Options say what to follow and where to.
type Options struct {
	Store  objectstore.Store
	DSN    string      // names the database that is fed
	Target pitr.Target // where to end; ToLatest: never

	// Delay keeps the database this far behind the source: a transaction is applied once its commit time is
	// that long past by this machine's clock.
	Delay time.Duration

	Create        bool // make the database if it isn't there
	Jobs          int  // connections of the first restore; 0: 4
	NoOwner       bool // everything belongs to the connecting role
	NoPrivileges  bool // no GRANT and REVOKE
	AcceptInexact bool // go on past changes that can't be replayed exactly

	Poll     time.Duration // how often the archive is asked for more; at first; 0: 250ms, growing while nothing comes
	Patience time.Duration // how long a database or store may be away before that is an error; 0: 10m
	Arrival  time.Duration // how long an object that the catalog names may still be on its way, in a copy of an archive; 0: not at all

	Progress   func(pitr.Progress)    // of the first restore; may be nil
	Confirm    func(*pitr.Plan) error // of the first restore; may be nil
	Ready      func(bool)             // may be nil; told whether the feed works
	Registerer prometheus.Registerer  // nil: no metrics
	Log        *slog.Logger           // nil: none
	Now        func() time.Time       // nil: time.Now
	Zone       *time.Location         // that times are shown in; nil: UTC
}

func (o *Options) defaults() {
	if o.Poll <= 0 {
		o.Poll = 250 * time.Millisecond
	}
	if o.Patience <= 0 {
		o.Patience = 10 * time.Minute
	}
	if o.Ready == nil {
		o.Ready = func(bool) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
}
