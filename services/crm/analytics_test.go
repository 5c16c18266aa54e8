package crm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
)

func TestOverviewOfAnAgentAndTheTeam(t *testing.T) {
	t.Parallel()
	a := start(t)
	empty := a.Do(a.Agent, "GET", "/analytics/overview", "").Is(200).Object()
	for name, value := range empty {
		require.NotNil(t, value, name)
	}
	require.Len(t, empty["daily_stats"], 30)

	a.Do(a.Agent, "POST", "/leads", `{"name":"Priya","phone":"9876543210","source_campaign":"Diwali","status":"converted"}`).Is(201)
	a.Do(a.Agent, "POST", "/leads", `{"name":"Ravi","phone":"9876543211"}`).Is(201)
	a.Do(a.Other, "POST", "/leads", `{"name":"Asha","phone":"9876543212"}`).Is(201)
	now := time.Now()
	a.call(a.Agent, func(c *events.Call) {
		c.RecordedAt, c.Sentiment, c.DurationSeconds = &now, new("positive"), new(90.0)
		c.KeyTopics, c.Objections = []string{"Price", "price "}, []string{"too expensive"}
		c.Talk = &events.Talk{AgentRatio: 0.4, LongestMonologue: 7.5, Questions: 3, WordsPerMinute: 141.2, Silence: 4.1, Turns: 9}
	})

	mine := a.Do(a.Agent, "GET", "/analytics/overview?scope=me&days=2&tz=Asia/Kolkata", "").Is(200)
	o := mine.Object()
	require.EqualValues(t, 2, o["total_leads"])
	require.EqualValues(t, 50, o["conversion_rate"])
	require.EqualValues(t, 1, o["total_calls_today"])
	require.EqualValues(t, map[string]any{"Diwali": 1.0, "Unknown": 1.0}, o["leads_by_campaign"])
	today := o["daily_stats"].([]any)[1].(map[string]any)
	require.EqualValues(t, 2, today["new_leads"])
	require.EqualValues(t, 1, today["conversions"])
	require.EqualValues(t, 1, o["sentiment_by_day"].([]any)[1].(map[string]any)["positive"])
	require.EqualValues(t, 3, a.Do(a.Admin, "GET", "/analytics/overview?scope=team", "").Is(200).Object()["total_leads"])
	require.EqualValues(t, 0, a.Do(a.Admin, "GET", "/analytics/overview?scope=me", "").Is(200).Object()["total_leads"])

	tag := mine.Header.Get("ETag")
	a.Do(a.Agent, "GET", "/analytics/overview?scope=me&days=2&tz=Asia/Kolkata", "", "If-None-Match", tag).Is(304)
	a.Do(a.Agent, "POST", "/leads", `{"name":"Meena","phone":"9876543213"}`).Is(201)
	a.Do(a.Agent, "GET", "/analytics/overview?scope=me&days=2&tz=Asia/Kolkata", "", "If-None-Match", tag).Is(200)

	topics := a.Do(a.Agent, "GET", "/analytics/topics?days=1", "").Is(200).Object()
	require.Equal(t, []any{map[string]any{"topic": "price", "count": 1.0, "per_day": []any{1.0}}}, topics["topics"], "one call, whatever the case")
	require.Len(t, topics["objections"], 1)
	require.Empty(t, a.Do(a.Other, "GET", "/analytics/topics?days=1", "").Is(200).Object()["topics"])
	board := a.Do(a.Agent, "GET", "/analytics/agents", "").Is(200).Object()["agents"].([]any)
	require.Len(t, board, 1)
	me := board[0].(map[string]any)
	require.Equal(t, a.Agent.AgentID, me["agent_id"])
	require.EqualValues(t, 90, me["talk_seconds"])
	require.Equal(t, map[string]any{
		"calls": 1.0, "agent_ratio": 0.4, "longest_monologue": 7.5, "questions": 3.0, "words_per_minute": 141.2, "silence": 4.1, "turns": 9.0,
	}, me["talk"])
	require.EqualValues(t, 3, me["leads_assigned"])
	require.EqualValues(t, 1, me["conversions"])
	require.GreaterOrEqual(t, len(a.Do(a.Admin, "GET", "/analytics/agents", "").Is(200).Object()["agents"].([]any)), 2)
}

func TestDaysAreThoseOfTheTeamsTimeZone(t *testing.T) {
	t.Parallel()
	a := start(t)
	for _, name := range []string{"Pacific/Kiritimati", "Pacific/Pago_Pago"} { // never on the same day
		a.Do(a.Admin, "PUT", "/settings/time_zone", `{"value":"`+name+`"}`).Is(200)
		inZone, given := a.Get(a.Agent, "/analytics/topics?days=1").Is(200), a.Get(a.Agent, "/analytics/topics?days=1&tz="+name).Is(200)
		require.Equal(t, given.Object()["days"], inZone.Object()["days"], name)
	}
}

func TestTheTeamsAnalyticsAreForAdmins(t *testing.T) {
	t.Parallel()
	a := start(t)
	for _, path := range []string{"/analytics/overview", "/analytics/agents", "/analytics/topics"} {
		a.Do(a.Agent, "GET", path+"?scope=team", "").Fails(403, "admin_only")
		a.Do(a.Agent, "GET", path+"?tz=Mars/Olympus", "").Fails(422, "validation_error")
		a.Do(a.Agent, "GET", path+"?tz=Local", "").Fails(422, "validation_error")
		a.Do(a.Agent, "GET", path+"?days=366", "").Fails(422, "validation_error")
		a.Do(a.Agent, "GET", path+"?scope=all", "").Fails(422, "validation_error")
		a.Do(a.Agent, "GET", path+"?days=365&tz=America/St_Johns", "").Is(200)
	}
}
