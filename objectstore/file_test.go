package objectstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

func openFolder(t *testing.T, folder string) *fileStore {
	t.Helper()
	s, err := newFileStore(&location{scheme: "file", path: folder})
	require.NoError(t, err)
	return s
}

func TestFileReadsCreateNothing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "archive")
	s := openFolder(t, root)
	_, err := s.Get(t.Context(), "archive.json", 0, -1)
	require.ErrorIs(t, err, ErrNotFound)
	for range s.List(t.Context(), "", "") {
		require.Fail(t, "nothing to list")
	}
	require.NoError(t, s.Delete(t.Context(), "a/b"))
	require.NoDirExists(t, root)
	require.NoError(t, s.Put(t.Context(), "a/b", nil))
	require.DirExists(t, root)
}

// Both ways of giving a file its name refuse to replace, also when many try at once.
func TestFilePublishNeverOverwrites(t *testing.T) {
	for name, way := range map[string]func(temp, target string) error{"link": publish, "rename": publishByRename} {
		t.Run(name, func(t *testing.T) {
			s := openFolder(t, t.TempDir())
			s.publish = way
			const putters = 16
			var mu sync.Mutex
			won := 0
			var group errgroup.Group
			for i := range putters {
				group.Go(func() error {
					err := s.Put(t.Context(), "k/x", bytes.Repeat([]byte{byte(i)}, 1000+i))
					if err == nil {
						mu.Lock()
						won++
						mu.Unlock()
					} else if !errors.Is(err, ErrExists) {
						return err
					}
					return nil
				})
			}
			require.NoError(t, group.Wait())
			require.Equal(t, 1, won)
			temps, err := os.ReadDir(filepath.Join(s.root, tempFolder))
			require.NoError(t, err)
			require.Empty(t, temps)
		})
	}
}

func TestFilePublishUnsupported(t *testing.T) {
	err := publishByRename("/proc/self/status", "/proc/self/x") // procfs can do neither
	require.Error(t, err)
	s := openFolder(t, t.TempDir())
	s.publish = func(string, string) error { return newError("put", "", ErrUnsupported, "neither") }
	require.ErrorIs(t, s.Put(t.Context(), "k", nil), ErrUnsupported)
}

// A link whose answer was lost and repeated (NFS) is a success, not somebody else's object.
func TestFilePublishOwnLink(t *testing.T) {
	s := openFolder(t, t.TempDir())
	s.publish = func(temp, target string) error {
		if err := publish(temp, target); err != nil {
			return err
		}
		return publish(temp, target)
	}
	require.NoError(t, s.Put(t.Context(), "k", []byte("v")))
}

// A put that failed after its name was placed is resolved by the next attempt.
func TestFilePutRetriedAfterPlacing(t *testing.T) {
	s := openFolder(t, t.TempDir())
	failed := false
	s.publish = func(temp, target string) error {
		err := publish(temp, target)
		if err == nil && !failed {
			failed = true
			return syscall.EIO
		}
		return err
	}
	require.NoError(t, Retry(s, RetryOptions{FirstWait: time.Millisecond}).Put(t.Context(), "k", []byte("v")))
	require.True(t, failed)
	require.ErrorIs(t, s.Put(t.Context(), "k", []byte("v")), ErrExists)
}

func TestFileFolderRemovedMeanwhile(t *testing.T) {
	s := openFolder(t, t.TempDir())
	require.NoError(t, s.Put(t.Context(), "a/b/c", []byte("1")))
	require.NoError(t, os.RemoveAll(filepath.Join(s.root, "a")))
	require.NoError(t, s.Put(t.Context(), "a/b/c", []byte("2")))
	got, err := GetAll(t.Context(), s, "a/b/c")
	require.NoError(t, err)
	require.Equal(t, "2", string(got))
}

// TestFileSystemUnmounted: an archive's folder that has gone is not made anew, and what comes in its place is not taken for it.
func TestFileSystemUnmounted(t *testing.T) {
	above := t.TempDir()
	root, away := filepath.Join(above, "archive"), filepath.Join(above, "away")
	s := openFolder(t, root)
	require.NoError(t, s.Put(t.Context(), "a/b", []byte("1")))
	read := openFolder(t, root) // it has only read
	_, err := GetAll(t.Context(), read, "a/b")
	require.NoError(t, err)
	require.NoError(t, os.Rename(root, away))
	gone := func() {
		t.Helper()
		for _, s := range []*fileStore{s, read} {
			require.ErrorIs(t, s.Put(t.Context(), "a/c", []byte("2")), ErrUnavailable)
			require.ErrorIs(t, s.Put(t.Context(), "a/b", []byte("2")), ErrUnavailable)
			require.ErrorIs(t, s.Delete(t.Context(), "a/b"), ErrUnavailable)
			_, err := s.Stat(t.Context(), "a/b")
			require.ErrorIs(t, err, ErrUnavailable)
			_, err = s.Get(t.Context(), "a/b", 0, -1)
			require.ErrorIs(t, err, ErrUnavailable)
			for _, err = range s.List(t.Context(), "", "") {
			}
			require.ErrorIs(t, err, ErrUnavailable)
		}
	}
	gone()
	require.NoDirExists(t, root)
	require.NoError(t, os.Mkdir(root, 0o755)) // the bare mount point
	gone()
	left, err := os.ReadDir(root)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, os.Remove(root))
	require.NoError(t, os.CopyFS(root, os.DirFS(away))) // mounted again, as another device
	for i, s := range []*fileStore{s, read} {
		require.NoError(t, s.Put(t.Context(), fmt.Sprintf("a/c%d", i), []byte("2")))
		require.ErrorIs(t, s.Put(t.Context(), "a/b", []byte("2")), ErrExists)
	}
}

func TestFileKeyInsideObject(t *testing.T) {
	s := openFolder(t, t.TempDir())
	require.NoError(t, s.Put(t.Context(), "a/b", nil))
	require.ErrorIs(t, s.Put(t.Context(), "a/b/c", nil), ErrInvalidKey)
	require.ErrorIs(t, s.Put(t.Context(), "a", nil), ErrInvalidKey)
}

func TestFileStaleTempFiles(t *testing.T) {
	s := openFolder(t, t.TempDir())
	folder := filepath.Join(s.root, tempFolder)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	old, young := filepath.Join(folder, "old"), filepath.Join(folder, "young")
	for path, age := range map[string]time.Duration{old: tempStale + time.Hour, young: tempStale - time.Hour} {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
		at := time.Now().Add(-age)
		require.NoError(t, os.Chtimes(path, at, at))
	}
	require.NoError(t, s.Put(t.Context(), "k", nil))
	require.NoFileExists(t, old)
	require.FileExists(t, young)
}

func TestFileHidesWhatIsNotOurs(t *testing.T) {
	s := openFolder(t, t.TempDir())
	require.NoError(t, s.Put(t.Context(), "a/b", nil))
	for _, name := range []string{".DS_Store", "a/.nfs0001", ".snapshot/daily/a/b", "a/bad\nname"} {
		path := filepath.Join(s.root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	var keys []string
	for info, err := range s.List(t.Context(), "", "") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	require.Equal(t, []string{"a/b"}, keys)
}

// A list with a prefix or a start must not read the folders it can't need.
func TestFileListReadsOnlyNeededFolders(t *testing.T) {
	for _, c := range []struct {
		prefix, after, folder string
		want                  bool
	}{
		{"", "", "a/", true},
		{"log/", "", "log/", true},
		{"log/", "", "book/", false},
		{"log/0/", "", "log/", true},
		{"log/0/", "", "log/1/", false},
		{"log/0", "", "log/01/", true},
		{"log/", "log/2/", "log/1/", false},
		{"log/", "log/2/", "log/2/", true},
		{"log/", "log/2/x", "log/2/", true},
		{"log/", "log/2/x", "log/3/", true},
		{"log/", "log/2", "log/2/", true},
		{"log/", "log/20", "log/2/", false},
		{"", "b", "a/", false},
		{"", "a-b", "a/", true},
	} {
		w := &walker{prefix: c.prefix, after: c.after}
		require.Equal(t, c.want, w.wants(c.folder, true), "%+v", c)
	}
}

func TestFileTruncatedObject(t *testing.T) {
	s := openFolder(t, t.TempDir())
	require.NoError(t, s.Put(t.Context(), "k", make([]byte, 1000)))
	r, err := s.Get(t.Context(), "k", 0, -1)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, os.Truncate(filepath.Join(s.root, "k"), 10))
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, ErrUnavailable)
}

func TestFileErrorKinds(t *testing.T) {
	for errno, kind := range map[syscall.Errno]error{
		syscall.ENOENT: ErrNotFound, syscall.ENOTDIR: ErrNotFound, syscall.EEXIST: ErrExists,
		syscall.EACCES: ErrDenied, syscall.EPERM: ErrDenied, syscall.EROFS: ErrDenied,
		syscall.ENOSPC: ErrFull, syscall.EDQUOT: ErrFull,
		syscall.EIO: ErrUnavailable, syscall.ESTALE: ErrUnavailable, syscall.ETIMEDOUT: ErrUnavailable, syscall.EHOSTDOWN: ErrUnavailable,
	} {
		err := fileError("put", "a/b", &os.PathError{Op: "open", Path: "/secret/place/a/b", Err: errno})
		require.ErrorIs(t, err, kind, errno)
		require.NotContains(t, err.Error(), "/secret/place")
		require.Contains(t, err.Error(), "a/b")
	}
	require.ErrorIs(t, ErrFull, ErrUnavailable, "a full store is worth waiting for")
	require.NotErrorIs(t, ErrUnavailable, ErrFull)
	require.ErrorIs(t, putError("k", &os.PathError{Err: syscall.ENOENT}), ErrUnavailable)
}

// TestFileKilledPutters kills a process in the middle of its puts, again and again: whatever has a name is
// whole.
func TestFileKilledPutters(t *testing.T) {
	if folder := os.Getenv("OBJECTSTORE_TEST_PUTTER"); folder != "" {
		putForever(t, folder)
	}
	folder := t.TempDir()
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFileKilledPutters$")
		cmd.Env = append(os.Environ(), "OBJECTSTORE_TEST_PUTTER="+folder, fmt.Sprintf("OBJECTSTORE_TEST_ROUND=%d", round))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, 4+round)) // it has put so many and goes on
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	s := openFolder(t, folder)
	n := 0
	for info, err := range s.List(t.Context(), "", "") {
		require.NoError(t, err)
		data, err := GetAll(t.Context(), s, info.Key)
		require.NoError(t, err)
		require.True(t, bytes.Equal(killedData(info.Key), data), "%s is not whole", info.Key)
		n++
	}
	require.GreaterOrEqual(t, n, 8*4)
}

func killedData(key string) []byte { return bytes.Repeat([]byte(key), (1<<20)/len(key)) }

func putForever(t *testing.T, folder string) {
	s := openFolder(t, folder)
	for i := 0; ; i++ {
		key := strings.Join([]string{"round", os.Getenv("OBJECTSTORE_TEST_ROUND"), fmt.Sprint(i)}, "/")
		require.NoError(t, s.Put(t.Context(), key, killedData(key)))
		fmt.Print(".")
	}
}
