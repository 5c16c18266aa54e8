package call

// Talk says who talked how much. It is known if the speakers are.
type Talk struct {
	AgentRatio       float64 `json:"agent_ratio"`       // share of the speech that is the agent's, 0 to 1
	LongestMonologue float64 `json:"longest_monologue"` // the agent's longest turn, in seconds
	Questions        int     `json:"questions"`         // of the agent
	WordsPerMinute   float64 `json:"words_per_minute"`  // of the agent
	Silence          float64 `json:"silence"`           // seconds in which nobody talks
	Turns            int     `json:"turns"`             // how often one speaker talks until another one does
}
