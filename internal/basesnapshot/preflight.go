package basesnapshot

import "context"

// CheckPgDump reports, as a Usage fault with a hint, that there is no pg_dump that can read a server of
// serverVersion (server_version_num). An empty path searches as Take does.
func CheckPgDump(ctx context.Context, path string, serverVersion int) error {
	_, err := findPgDump(ctx, path, serverVersion/10000)
	return err
}
