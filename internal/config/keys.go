package config

// Keys lists the settings of the commands of both binaries, so that one file can serve both. Each
// binary's tests hold this list complete (internal/cli.Unlisted).
func Keys() []string {
	return []string{
		// both
		"archive", "cpu-profile", "log-format", "log-level", "output",
		// archiver
		"source", "slot", "publication", "table", "segment-max-age", "segment-max-size", "until", "listen",
		"new-archive", "standby", "snapshot-schedule", "jobs", "sql", "wait", "timeout", "apply",
		"shutdown-grace", "heartbeat-interval", "accept-gap", "no-schema-capture", "snapshot-jobs", "pg-dump",
		// restorer
		"into", "create", "schema-only", "data-only", "no-owner", "no-privileges", "no-fold",
		"if-empty", "to-latest", "to-lsn", "to-time", "to-xid", "to-mark", "to-snapshot", "exclusive",
		"history", "as-schema", "with", "scratch", "limit", "since", "op", "min-rows", "usage", "level", "rows",
		"delay", "status", "accept-inexact", "retry-for", "copy-lag", "accept-loss",
	}
}
