package catalog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/objectstore"
)

func TestIdentityFlips(t *testing.T) {
	data, err := encodeIdentity(Identity{Format: 1, ID: testID, Made: testBegin, SystemID: "73", Database: "a<b>&", Slot: "s"})
	require.NoError(t, err)
	id, err := decodeIdentity(data)
	require.NoError(t, err)
	require.Equal(t, "a<b>&", id.Database)
	require.EqualValues(t, 0x7f, id.UUID()[0])
	for i := range data {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(data)
			bad[i] ^= bit
			_, err := decodeIdentity(bad)
			require.Equal(t, fault.Damage, fault.CodeOf(asFault(err)), "byte %d: %v", i, err)
		}
	}
	_, err = decodeIdentity(data[:40])
	require.ErrorContains(t, err, "only 40 bytes")
}

func TestIdentityNewerVersion(t *testing.T) {
	data, err := encodeIdentity(Identity{Format: 2, ID: testID})
	require.NoError(t, err)
	_, err = decodeIdentity(data)
	require.ErrorContains(t, err, "archive.json has format version 2")
	require.NotEqual(t, fault.Damage, fault.CodeOf(err))
}

func TestKeys(t *testing.T) {
	require.Equal(t, "catalog/log/00000000000000000001/00000000000000004100", logKey(4100))
	require.Equal(t, "catalog/root/99999999999999995899", rootKey(4100))
	require.Equal(t, "catalog/book/00000000000000000007", bookKey(7))
	for _, seq := range []uint64{1, 9, 4095, 4096, 1 << 40, 1<<64 - 1} {
		got, ok := parseLogKey(logKey(seq))
		require.True(t, ok && got == seq)
		got, ok = parseRootKey(rootKey(seq))
		require.True(t, ok && got == seq)
	}
	for _, key := range []string{"catalog/log/00000000000000000000/00000000000000004100", "catalog/log/x", "", "catalog/log/00000000000000000000/00000000000000000000",
		"catalog/log/00000000000000000000/0000000000000000004x", logKey(3) + ".tmp"} {
		_, ok := parseLogKey(key)
		require.False(t, ok, key)
	}
	_, ok := parseRootKey("catalog/root/00000000000000000000")
	require.False(t, ok, "its seq does not fit uint64")
	require.Less(t, rootKey(65), rootKey(64))
}

func TestSpan(t *testing.T) {
	for seq, want := range map[uint64]uint64{1: 1, 6: 6, 8: 8, 15: 7, 24: 24, 63: 7, 64: 64, 72: 8, 128: 128, 448: 448, 512: 512, 1024: 512, 4096: 512, 4104: 8, 4608: 512} {
		require.Equal(t, want, span(seq), seq)
	}
}

func TestLineIsStrict(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	e := l.View().Head()
	line, _, err := encodeEntry(e)
	require.NoError(t, err)
	_, err = decodeEntry(line)
	require.NoError(t, err)

	for name, bad := range map[string]string{
		"unknown field":   strings.Replace(string(line), `"kind":`, `"flavour":1,"kind":`, 1),
		"order":           strings.Replace(string(line), `"seq":3,`, ``, 1) + ``,
		"white space":     strings.Replace(string(line), `,"seq"`, `, "seq"`, 1),
		"other case":      strings.Replace(string(line), `"kind"`, `"Kind"`, 1),
		"twice":           strings.Replace(string(line), `"seq":3,`, `"seq":3,"seq":3,`, 1),
		"second payload":  strings.Replace(string(line), `"snapshot":{`, `"gap":{"reason":""},"snapshot":{`, 1),
		"no payload":      strings.Replace(string(line), `"kind":"snapshot"`, `"kind":"hold"`, 1),
		"trailing":        string(line) + "{}",
		"version 0":       strings.Replace(string(line), `{"v":1,`, `{"v":0,`, 1),
		"escaped":         strings.Replace(string(line), `"s1"`, `"\u00731"`, 1),
		"other zone":      strings.Replace(string(line), `:30Z"`, `:30+00:00"`, 1),
		"bad hash":        strings.Replace(string(line), e.Prev, strings.ToUpper(e.Prev), 1),
		"range":           strings.Replace(string(line), `"to":"0/1000"`, `"to":"0/1001"`, 1),
		"manifest digest": strings.Replace(string(line), "0a0a", "0g0a", 1),
		"empty":           "",
		"null":            "null",
	} {
		require.NotEqual(t, bad, string(line), name)
		_, err := decodeEntry([]byte(bad))
		require.Error(t, err, name)
	}

	newer := strings.Replace(string(line), `{"v":1,`, `{"v":2,"colour":"red",`, 1)
	_, err = decodeEntry([]byte(newer))
	require.ErrorContains(t, lineError("catalog/log/x", err), "catalog/log/x has format version 2")
	require.NotEqual(t, fault.Damage, fault.CodeOf(lineError("x", err)))
}

func TestLineTextThatIsNotUTF8(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	e := nextSegment(l.View())
	e.Segment.Tables = []TableCounts{{Table: "public.caf\xe9 <&>\u2028", Inserts: 1}}
	stored := put(t, l, e)
	require.Equal(t, "public.caf\ufffd <&>\u2028", stored.Segment.Tables[0].Table)
	again := put(t, l, nextSegment(l.View()))
	require.Equal(t, stored.Seq+1, again.Seq)
}

func TestLinkOf(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	grow(t, l, 20)
	for _, line := range l.leaf.lines {
		e, err := decodeEntry(line)
		require.NoError(t, err)
		seq, prev, ok := linkOf(line)
		require.True(t, ok)
		require.Equal(t, e.Seq, seq)
		require.Equal(t, e.Prev, prev)
	}
	for _, bad := range []string{"", "{", `{"v":1,"archive":"`, `{"v":1,"archive":"x","seq":99999999999999999999,"prev":"a"`} {
		_, _, ok := linkOf([]byte(bad))
		require.False(t, ok, bad)
	}
}

// TestObjectFlips changes every byte of one object of each kind.
func TestObjectFlips(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	grow(t, l, 64)
	lines := l.leaf.lines
	text, err := rootText(testID, l.leaf)
	require.NoError(t, err)
	book := make([][]byte, bookSize)
	for i := range book {
		book[i] = fmt.Appendf(nil, "%d", i)
	}
	for name, c := range map[string]struct {
		data   []byte
		decode func([]byte) error
	}{
		"log":  {encodeLogObject(lines[63], lines[:63]), func(b []byte) error { _, _, err := decodeLogObject("k", b); return err }},
		"root": {sealed(t, magicRoot, text), func(b []byte) error { _, err := decodeRoot("k", testID, 64, b); return err }},
		"book": {sealed(t, magicBook, joinLines(book)), func(b []byte) error { _, err := decodeBook("k", b); return err }},
	} {
		require.NoError(t, c.decode(c.data), name)
		for i := range c.data {
			bad := bytes.Clone(c.data)
			bad[i] ^= byte(1 << rand.N(8))
			require.Equal(t, fault.Damage, fault.CodeOf(asFault(c.decode(bad))), "%s byte %d", name, i)
		}
		for _, n := range []int{0, 1, 39, 40, len(c.data) / 2, len(c.data) - 1} {
			require.Equal(t, fault.Damage, fault.CodeOf(asFault(c.decode(c.data[:n]))), "%s cut to %d", name, n)
		}
		newer := bytes.Clone(c.data[:len(c.data)-32])
		at := bytes.Index(newer, []byte("TM"))
		if name == "log" {
			at = len(newer) - magicSize
		}
		newer[at+magicSize-1] = 7
		err := c.decode(appendSum(newer))
		require.ErrorContains(t, err, "format version 7", name)
	}
}

func TestCarryIsBounded(t *testing.T) {
	long := make([]byte, maxCarry/2)
	for i := range long {
		long[i] = 'a' + byte(rand.N(26))
	}
	line, carried, err := decodeLogObject("k", encodeLogObject([]byte("own"), [][]byte{[]byte("a"), long, long, []byte("z")}))
	require.NoError(t, err)
	require.Equal(t, "own", string(line))
	require.Len(t, carried, 2, "the newest that fit, without a hole")
	require.Equal(t, "z", string(carried[1]))

	line, carried, err = decodeLogObject("k", encodeLogObject([]byte("own"), [][]byte{make([]byte, maxCarry/2)}))
	require.NoError(t, err, "what would not be read is not written")
	require.Equal(t, "own", string(line))
	require.Empty(t, carried)
}

func TestInflateLimits(t *testing.T) {
	big := packer().EncodeAll(make([]byte, 64<<20), nil)
	_, err := inflate(big, 1<<20)
	require.ErrorContains(t, err, "sane size")
	small := packer().EncodeAll([]byte("abc"), nil)
	_, err = inflate(append(bytes.Clone(small), big...), maxRaw)
	require.Error(t, err, "a second frame is not read")
	_, err = inflate(nil, maxRaw)
	require.Error(t, err)
}

// TestWritersOfOlderVersionsAreRead: their entries don't say which boot and PID namespace they ran in.
func TestWritersOfOlderVersionsAreRead(t *testing.T) {
	line := `{"v":1,"archive":"` + testID + `","seq":1,"prev":"","kind":"writer","at":"2026-03-01T12:00:00Z","epoch":1,"from":"0/0","to":"0/0",` +
		`"writer":{"instance":"i1","host":"db1","pid":42,"version":"0.1","timeline":1}}`
	e, err := decodeEntry([]byte(line))
	require.NoError(t, err)
	require.Equal(t, claim().Writer, e.Writer)
}
