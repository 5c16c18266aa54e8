package store

// The statements whose plans a test reads.
const (
	ReadCounts      = readCounts
	ReadLeaderboard = readLeaderboard
	ReadMentions    = readMentions
)
