package analytics

// Team is the scope of the whole team. Every other scope is the id of an agent.
const Team = "00000000-0000-0000-0000-000000000000"

// TotalID names a total.
type TotalID struct {
	Scope string
	Kind  Kind
	Key   string
}

// DayID names the counts of a day of UTC.
type DayID struct {
	Scope   string
	Measure Measure
	Day     int32
}

// Rollup is a sum of facts for all scopes. Make one with NewRollup. It is not safe for concurrent use.
type Rollup struct {
	Totals map[TotalID]int64
	Days   map[DayID]*[SlotsPerDay]int32 // per slot
}

// NewRollup returns an empty sum.
func NewRollup() *Rollup {
	return &Rollup{Totals: map[TotalID]int64{}, Days: map[DayID]*[SlotsPerDay]int32{}}
}

// Add adds a delta for its agent and for the team.
func (r *Rollup) Add(d Delta) {
	sign := int64(d.Sign)
	for _, scope := range []string{Team, d.AgentID} {
		if scope == "" {
			continue
		}
		d.totals(func(kind Kind, key string, n int64) { r.Totals[TotalID{scope, kind, key}] += sign * n })
		d.days(func(m Measure, s Slot) {
			day, slot := s.Day()
			r.Day(DayID{scope, m, day})[slot] += int32(d.Sign)
		})
	}
	d.ofTeam(func(kind Kind, key string, n int64) { r.Totals[TotalID{Team, kind, key}] += sign * n })
}

// Day returns the counts of a day, to change them.
func (r *Rollup) Day(id DayID) *[SlotsPerDay]int32 {
	day, ok := r.Days[id]
	if !ok {
		day = new([SlotsPerDay]int32)
		r.Days[id] = day
	}
	return day
}

// Compact removes what is zero, and returns how much is not.
func (r *Rollup) Compact() int {
	for id, n := range r.Totals {
		if n == 0 {
			delete(r.Totals, id)
		}
	}
	for id, day := range r.Days {
		if *day == [SlotsPerDay]int32{} {
			delete(r.Days, id)
		}
	}
	return len(r.Totals) + len(r.Days)
}

// Cumulative returns the sums of the first 1, 2 … 96 slots of a day, which is how days are stored: the count before any slot of the
// day is one of them.
func Cumulative(day *[SlotsPerDay]int32) []int32 {
	sums := make([]int32, SlotsPerDay)
	sum := int32(0)
	for i, n := range day {
		sum += n
		sums[i] = sum
	}
	return sums
}
