package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of CPU times in proc(5): USER_HZ is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// attributes give a child its own process group, so that Ctrl-C reaches only this process, and make the kernel stop the child when
// this process exits. The signal is SIGTERM, so that nginx stops its workers too.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// widen enlarges a pipe to pipeSize if the system allows it. A smaller one works too.
func widen(pipe *os.File) {
	if conn, err := pipe.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}

// cpuTime returns the CPU time of a process and its children, both running and waited for. A child that exits meanwhile could be
// missed in both groups, so everything is read again if the time of those waited for has changed.
func cpuTime(pid int) (time.Duration, error) {
	for {
		own, waited, err := ownTime(pid)
		if err != nil {
			return 0, err
		}
		running, err := childrenTime(pid)
		if err != nil {
			return 0, err
		}
		_, later, err := ownTime(pid)
		if err != nil {
			return 0, err
		}
		if later == waited {
			return own + waited + running, nil
		}
	}
}

// memory returns the memory of a process by proc(5).
func memory(pid int) (m Memory, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, fmt.Errorf("read the memory: %w", err)
	}
	for name, value := range map[string]*int64{"VmHWM": &m.Peak, "VmRSS": &m.Resident, "RssAnon": &m.Anonymous} {
		_, line, _ := strings.Cut(string(status), "\n"+name+":")
		if _, err := fmt.Sscanf(line, "%d kB", value); err != nil {
			return m, fmt.Errorf("/proc/%d/status has no %s", pid, name)
		}
		*value <<= 10
	}
	return m, nil
}

// ownTime returns the CPU time of a process, and that of its children that have exited and been waited for.
func ownTime(pid int) (own, waited time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the CPU time: %w", err)
	}
	// The second field is the name in brackets, which may hold anything. utime, stime, cutime and cstime are fields 14 to 17.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0, errors.New("read the CPU time: a short line")
	}
	if own, err = ticks(fields[11:13]); err != nil {
		return 0, 0, err
	}
	waited, err = ticks(fields[13:15])
	return own, waited, err
}

// childrenTime returns the CPU time of the running children of a process, and of their children.
func childrenTime(pid int) (total time.Duration, err error) {
	// Each thread has its own children.
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, fmt.Errorf("list the children: %w", err)
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has exited
		}
		if err != nil {
			return 0, fmt.Errorf("list the children: %w", err)
		}
		for child := range strings.FieldsSeq(string(children)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				return 0, fmt.Errorf("list the children: %w", err)
			}
			time, err := cpuTime(id)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) { // a child that has exited is among those waited for
				return 0, err
			}
			total += time
		}
	}
	return total, nil
}

func ticks(fields []string) (total time.Duration, err error) {
	for _, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read a CPU time: %w", err)
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// Busy returns how long a core, or with Any all cores in total, has not been idle since the machine started.
func (c Core) Busy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of the cores: %w", err)
	}
	name := "cpu"
	if c != Any {
		name += strconv.Itoa(int(c))
	}
	for line := range strings.Lines(string(stat)) {
		// user nice system idle iowait irq softirq steal, then guest times that are part of user
		if f := strings.Fields(line); len(f) >= 9 && f[0] == name {
			return ticks([]string{f[1], f[2], f[3], f[6], f[7], f[8]})
		}
	}
	return 0, fmt.Errorf("read the CPU time of the cores: no %s", name)
}

// Confine moves this process to a core, or with Any back to all.
func (c Core) Confine() error {
	var set unix.CPUSet
	for core := range len(set) * 64 {
		if c == Any || core == int(c) {
			set.Set(core)
		}
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list this process's threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return fmt.Errorf("list this process's threads: %w", err)
		}
		// New threads inherit from the thread that creates them.
		if err := unix.SchedSetaffinity(id, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("move to a core: %w", err)
		}
	}
	return nil
}
