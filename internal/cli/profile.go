package cli

import (
	"errors"
	"os"
	"runtime/pprof"

	"tidemark/internal/fault"
)

// profile writes the process's CPU profile to a file until the returned function is called; "" is no profile. Errors are
// usage faults: the file can't be written.
func profile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, profileFault(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, profileFault(errors.Join(err, f.Close()))
	}
	return func() error {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			return profileFault(err)
		}
		return nil
	}, nil
}

func profileFault(err error) error {
	return fault.Wrap(err, fault.Usage, "name a file in a folder that can be written to", "--cpu-profile")
}
