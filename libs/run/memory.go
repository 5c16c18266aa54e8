package run

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// memoryShare is the part of a container's memory, in percent, that the garbage collector may use. The rest is for what it does
// not count: the program itself, and the memory of the kernel for its connections and files.
const memoryShare = 90

// minShare is the part, in percent, that the garbage collector may use however much the child processes need: below it, the process
// would do little but collect. They seldom use all of it at the same time.
const minShare = 25

// Parent is a Config of a service that runs child processes in its container.
type Parent interface {
	// ChildMemory returns how many bytes all child processes together may need at the same time.
	ChildMemory() int64
}

// limitMemory sets the garbage collector's memory limit (GOMEMLIMIT) to 90 % of the container's without what a Parent's child
// processes need, but at least 25 %, unless the environment sets GOMEMLIMIT. Without it a process with a large GOGC is killed before it
// collects. It returns the limit in bytes, math.MaxInt64 if there is none.
func limitMemory(cfg any) int64 {
	debug.SetMemoryLimit(memoryLimit(os.DirFS("/"), os.Getenv("GOMEMLIMIT"), cfg))
	return debug.SetMemoryLimit(-1)
}

// memoryLimit returns the argument of debug.SetMemoryLimit; a negative one changes nothing. root is the file system from / on.
func memoryLimit(root fs.FS, ofEnvironment string, cfg any) int64 {
	limit, ok := containerLimit(root)
	if !ok || ofEnvironment != "" {
		return -1
	}
	own := limit / 100 * memoryShare
	if parent, ok := cfg.(Parent); ok {
		own = max(own-parent.ChildMemory(), limit/100*minShare)
	}
	return own
}

// containerLimit returns the memory limit in bytes of this process' control group: the lowest of the group and those above it. ok
// is false without a limit. root is the file system from / on.
func containerLimit(root fs.FS) (limit int64, ok bool) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false // not Linux
	}
	limit = math.MaxInt64
	for line := range strings.Lines(string(groups)) { // hierarchy:controllers:path
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "": // version 2
			limit = min(limit, lowest(root, "sys/fs/cgroup", parts[2], "memory.max"))
		case slices.Contains(strings.Split(parts[1], ","), "memory"): // version 1
			limit = min(limit, lowest(root, "sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes"))
		}
	}
	return limit, limit < unlimited
}

// unlimited is above any real limit: version 1 writes a number of this size if there is none.
const unlimited = 1 << 60

// lowest returns the lowest number in the files with that name from mount/group upwards to mount. In a container, group may be the
// host's path, which does not exist there; the container's own limit is then that of mount.
func lowest(root fs.FS, mount, group, name string) int64 {
	limit := int64(math.MaxInt64)
	for dir := path.Join(mount, path.Clean("/"+group)); ; dir = path.Dir(dir) {
		if raw, err := fs.ReadFile(root, dir+"/"+name); err == nil {
			if bytes, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil && bytes > 0 { // otherwise it is "max"
				limit = min(limit, bytes)
			}
		}
		if dir == mount {
			return limit
		}
	}
}
