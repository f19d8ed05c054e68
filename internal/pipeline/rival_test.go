package pipeline

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
)

func TestDeadProcessesOfThisHostAreNoRivals(t *testing.T) {
	self := instance{id: "self", host: "here", pid: 1}
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	living := exec.Command("cat") // waits for its standard input
	in, err := living.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, living.Start())
	defer func() { _ = in.Close(); _ = living.Wait() }()

	require.True(t, self.knowsDead(catalog.Writer{Host: "here", PID: gone.Process.Pid}))
	require.False(t, self.knowsDead(catalog.Writer{Host: "here", PID: living.Process.Pid}))
	require.False(t, self.knowsDead(catalog.Writer{Host: "there", PID: gone.Process.Pid}), "another host's processes can't be asked")
	require.True(t, self.knowsDead(catalog.Writer{Host: "here", PID: 1}), "its number is ours now")
}
