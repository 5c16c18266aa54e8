package delivery

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWorkersAreDividedFairly(t *testing.T) {
	t.Parallel()
	s := newSlots(16)
	for range 8 {
		s.take("hanging")
	}
	room, wait := s.allot([]Waiting{{EndpointID: "hanging", Due: 10_000}, {EndpointID: "a", Due: 2}, {EndpointID: "b", Due: 1000}, {EndpointID: "c", NextIn: new(300 * time.Millisecond)}})
	require.Equal(t, map[string]int{"a": 2, "b": 4}, room, "half of the workers are busy: a quarter for each")
	require.Equal(t, 300*time.Millisecond, wait)
	alone := newSlots(16)
	room, _ = alone.allot([]Waiting{{EndpointID: "a", Due: 1000}})
	require.Equal(t, map[string]int{"a": 8}, room)
	room, wait = alone.allot([]Waiting{{EndpointID: "a", Due: 1000, AllowedIn: 400 * time.Millisecond, Limited: true}})
	require.Empty(t, room, "its breaker is open")
	require.Equal(t, 400*time.Millisecond, wait)
}

func TestBatchesGrowWhileTheirEndpointIsQuick(t *testing.T) {
	t.Parallel()
	s := newSlots(2)
	s.take("slow")
	require.Equal(t, 1, s.limit())
	for _, want := range []int{2, 4, 8, 16, 16} {
		s.take("quick")
		s.release("quick", batch{ok: true, quick: true})
		require.Equal(t, want, s.size("quick"))
		require.Equal(t, want, s.limit())
	}
	require.Equal(t, 1, s.size("slow"))
	for _, want := range []int{8, 4} {
		s.take("quick")
		s.release("quick", batch{ok: true})
		require.Equal(t, want, s.size("quick"), "it has become slower")
	}
	s.take("quick")
	s.release("quick", batch{quick: true}) // a failure
	require.Equal(t, 1, s.size("quick"))
	require.Empty(t, s.sizes)
}

func TestNoEndpointStarves(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSlots(rapid.IntRange(1, 40).Draw(t, "workers"))
		n := rapid.IntRange(1, 12).Draw(t, "endpoints")
		served := map[string]bool{}
		var waiting []Waiting
		for i := range n {
			waiting = append(waiting, Waiting{EndpointID: fmt.Sprint(i), Due: rapid.IntRange(1, 100).Draw(t, "due")})
		}
		for range n {
			room, _ := s.allot(waiting)
			total := 0
			for id, k := range room {
				served[id], total = true, total+k
				require.LessOrEqual(t, k, max(1, s.all/4, s.all/2))
			}
			require.LessOrEqual(t, total, s.free())
			require.Positive(t, total)
		}
		require.Len(t, served, n, "after as many rounds as there are endpoints each had its turn")
	})
}
