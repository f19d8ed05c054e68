package pipeline

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"tidemark/catalog"
)

// instance is one archiver process, as its claims name it.
type instance struct {
	id   string
	host string
	pid  int

	// What tells the process from all others; see catalog.Writer. Empty where the system does not say.
	boot      string
	namespace string
	started   uint64
}

func newInstance() instance {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	i := instance{id: uuid.NewString(), host: host, pid: os.Getpid()}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return i
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return i
	}
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(i.pid) {
		return i // it shows the processes of another namespace
	}
	if started, err := startOf(i.pid); err == nil {
		i.boot, i.namespace, i.started = strings.TrimSpace(string(boot)), namespace, started
	}
	return i
}

// knowsDead reports whether a writer was a process that is known to be gone: one that this process would see if it were
// there, as both count processes in one namespace of one boot. A host name and a PID alone say nothing: containers of two
// clusters may have both in common, and a container that was restarted has its predecessor's.
func (i instance) knowsDead(w catalog.Writer) bool {
	if i.boot == "" || w.Host != i.host || w.Boot != i.boot || w.PIDNamespace != i.namespace {
		return false
	}
	process, err := os.FindProcess(w.PID)
	if err != nil || errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone) {
		return true
	}
	started, err := startOf(w.PID)
	return err == nil && started != w.Started
}

// startOf returns when a process was started, in clock ticks after the boot: field 22 of its stat (proc_pid_stat(5)).
func startOf(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the command in parentheses, and may hold any character.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the command", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
