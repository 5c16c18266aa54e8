package run

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Allocator is a Config of a service with a small live heap and many allocations, which would spend a tenth of its CPU on collections
// at the default of 100 percent.
type Allocator interface {
	// HeapGrowth returns by how many percent the heap may grow between two collections while the service works (GOGC).
	HeapGrowth() int
}

const (
	restingGrowth = 100 // percent, Go's default
	heapInterval  = 5 * time.Second
	// A process works after an interval with busyCollections, and rests after restIntervals with restCollections at most. They are
	// far apart, because the growth of an Allocator makes the collections of a working process fewer.
	busyCollections = 10
	restCollections = 1
	restIntervals   = 3 // in a row
)

// heap returns memory to the system when a process rests. A start leaves more garbage than a service needs memory afterwards, and the
// runtime would retain as much memory as the heap may grow to.
type heap struct {
	growth      int // percent while the process works
	collections func() uint64
	grow        func(percent int)
	release     func()

	working bool
	before  uint64 // collections at the last look
	quiet   int    // intervals without work
}

// ManageMemory limits the memory of the process (GOMEMLIMIT), and until stop is called it gives memory back whenever the process
// rests. If cfg is an Allocator, the heap may grow by its percentage while the process works, unless the environment sets GOGC. Main
// calls it; other main functions must. It returns the limit in bytes, math.MaxInt64 if there is none.
func ManageMemory(cfg any) (limit int64, stop func()) {
	h := &heap{growth: restingGrowth, collections: collections, grow: func(percent int) { debug.SetGCPercent(percent) }, release: release, working: true}
	if a, ok := cfg.(Allocator); ok {
		h.growth = a.HeapGrowth()
	}
	if os.Getenv("GOGC") != "" {
		h.grow = func(int) {}
	}
	limit = limitMemory(cfg)
	h.grow(h.growth) // a start is work
	return limit, h.poll()
}

// poll looks at the heap every heapInterval until stop is called.
func (h *heap) poll() (stop func()) {
	var mu sync.Mutex
	stopped := false
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(heapInterval, func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			h.look()
			timer.Reset(heapInterval)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// look changes between work and rest.
func (h *heap) look() {
	all := h.collections()
	recent := all - h.before
	h.before = all
	h.quiet++
	if recent > restCollections {
		h.quiet = 0
	}
	switch {
	case !h.working && recent >= busyCollections:
		h.working = true
		h.grow(h.growth)
	case h.working && h.quiet >= restIntervals:
		h.working = false
		h.grow(restingGrowth)
		h.release()
	}
}

// collections returns how many collections the heap's growth has caused so far.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// release returns to the system what the heap does not need, and the pages of the program itself.
func release() {
	debug.FreeOSMemory()
	releaseProgram()
}
