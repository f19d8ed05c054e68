package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyUnchangedMappingsAreForgotten(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 fe:00 1 /bin/archiver
Size:               1024 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
00500000-00600000 r--p 00100000 fe:00 1 /bin/archiver
Anonymous:             4 kB
00600000-00700000 r--p 00200000 fe:00 1 /bin/archiver
Anonymous:             0 kB
00700000-00800000 rw-p 00300000 fe:00 1 /bin/archiver
Anonymous:             0 kB
00800000-00900000 r--p 00300000 fe:00 1 /bin/archiver (deleted)
Anonymous:             0 kB
00900000-00a00000 r--p 00000000 00:00 0 
Anonymous:             0 kB
00b00000-00c00000 r--p 00000000 fe:00 2 /lib/libc.so.6
Anonymous:             0 kB
`
	require.Equal(t, []mapping{{0x400000, 0x500000}, {0x600000, 0x700000}}, unchangedMappings(smaps, "/bin/archiver"))
	forgetStart() // the test goes on
	require.Empty(t, unchangedMappings("", "/bin/archiver"))
}
