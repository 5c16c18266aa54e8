package run

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestTheLimitOfTheContainerIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  int64 // 0 is none
	}{
		"not Linux":            {},
		"version 2":            {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "104857600\n"}, 100 << 20},
		"version 2, unlimited": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		"version 2, a group above has less": {map[string]string{
			"proc/self/cgroup": "0::/kubepods/pod1/c1\n", "sys/fs/cgroup/kubepods/pod1/c1/memory.max": "max\n",
			"sys/fs/cgroup/kubepods/pod1/memory.max": "2000000000\n", "sys/fs/cgroup/kubepods/memory.max": "9000000000\n"}, 2_000_000_000},
		"version 2, the path of the host": {map[string]string{"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/memory.max": "3000000\n"}, 3_000_000},
		"version 2, above the namespace":  {map[string]string{"proc/self/cgroup": "0::/../../other\n", "sys/fs/cgroup/memory.max": "3000000\n"}, 3_000_000},
		"version 1": {map[string]string{
			"proc/self/cgroup": "12:cpu,cpuacct:/docker/abc\n5:hugetlb,memory:/docker/abc\n0::/\n",
			"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes":   "5000000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":              "9223372036854771712\n",
			"sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_usec": "1\n"}, 5_000_000},
		"version 1, unlimited": {map[string]string{"proc/self/cgroup": "5:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"nonsense":             {map[string]string{"proc/self/cgroup": "x\n5:memory\n0::/\n", "sys/fs/cgroup/memory.max": "-1\n"}, 0},
	} {
		root := fstest.MapFS{}
		for file, content := range c.files {
			root[file] = &fstest.MapFile{Data: []byte(content)}
		}
		limit, ok := containerLimit(root)
		require.Equal(t, c.want > 0, ok, name)
		if ok {
			require.Equal(t, c.want, limit, name)
			require.Equal(t, c.want/100*90, memoryLimit(root, "", nil), name)
		} else {
			require.EqualValues(t, -1, memoryLimit(root, "", nil), name)
		}
		require.EqualValues(t, -1, memoryLimit(root, "1GiB", nil), "%s: GOMEMLIMIT is set", name)
	}
}

type parent int64

func (p parent) ChildMemory() int64 { return int64(p) }

// The child processes share the container: 90 % for the heap alone would get one of them killed.
func TestTheMemoryOfChildProcessesIsLeftToThem(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{"proc/self/cgroup": {Data: []byte("0::/\n")}, "sys/fs/cgroup/memory.max": {Data: []byte("1000000\n")}}
	for children, want := range map[parent]int64{0: 900_000, 300_000: 600_000, 650_000: 250_000, 2_000_000: 250_000} {
		require.Equal(t, want, memoryLimit(root, "", children), children)
	}
}
