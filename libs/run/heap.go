package run

import (
	"os"
	"runtime/debug"
)

// GrowHeap lets the garbage reach so many percent of what lives before it is collected, unless GOGC in the environment
// decides. Call it in main, of a process of which little lives and that makes much garbage: collections then cost a
// tenth of its CPU at the default of 100.
func GrowHeap(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
