// Package clitest has commands for the scripts that test the binaries' command lines.
package clitest

import (
	"errors"
	"fmt"

	"github.com/rogpeppe/go-internal/testscript"
)

// Exits is the script command "exits CODE program args…": it runs the program and fails unless it ends with
// that exit code.
func Exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		code = fmt.Sprint(exit.ExitCode())
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s (%v)", code, args[0], err)
	}
}
