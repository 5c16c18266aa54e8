package run

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// releaseProgram unmaps the pages of the program's file. A start touches nearly all of them, 20 MB and more, and work only a few. They
// stay in the page cache, and the next use of one maps it again without reading; but the kernel may now drop those that nobody uses.
func releaseProgram() {
	for _, m := range programMappings() {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.begin, m.end-m.begin, syscall.MADV_DONTNEED) // otherwise they stay
	}
}

// mapping is a range of addresses.
type mapping struct{ begin, end uintptr }

// programMappings returns the read-only mappings of this program's file that have no changed page, such as a breakpoint of a debugger.
// It is empty if they cannot be determined.
func programMappings() (found []mapping) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	var current mapping
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		var m mapping
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &m.begin, &m.end, &mode); n == 3 {
			current = mapping{}
			if strings.HasSuffix(line, " "+program) && (mode == "r-xp" || mode == "r--p") {
				current = m
			}
		} else if unchanged := strings.Fields(line); current.end > 0 && len(unchanged) == 3 && unchanged[0] == "Anonymous:" && unchanged[1] == "0" {
			found = append(found, current)
		}
	}
	return found
}
