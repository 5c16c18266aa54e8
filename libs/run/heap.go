package run

import (
	"os"
	"runtime/debug"
)

// GrowHeap sets the garbage collector's target percentage (GOGC) unless the environment sets GOGC. Call it in main. It is for
// processes with a small live heap and many allocations, which spend a tenth of their CPU on collections at the default of
// 100 percent.
func GrowHeap(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
