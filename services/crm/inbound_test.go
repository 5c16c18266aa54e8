package crm_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/service/servicetest"
)

// inboundSecret signs the deliveries of the tests.
const inboundSecret = "inbound-secret-of-the-tests"

func signature(body, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// receive sends a signed delivery.
func (a *app) receive(body string) servicetest.Answer {
	a.T.Helper()
	return a.Do(identity.Caller{}, "POST", "/leads/inbound", body, "X-Pabbly-Signature", "sha256="+signature(body, inboundSecret))
}

// rep publishes an agent and waits for its copy.
func (a *app) rep(id string, active bool) {
	a.T.Helper()
	a.Publish(events.AgentRegistered.New(clock.System{}.Now(), events.Agent{AgentID: id, Version: 1, FullName: "Rep", Email: id + "@example.com", IsActive: active}))
	a.AwaitRow(`select exists (select from agents where id = $1)`, id)
}

func TestInboundLeadIsCreatedAndMerged(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.rep(a.Agent.AgentID, true)
	body := `{"Full Name":" Priya Sharma ","phone_number":"p:+919876543210","EMAIL-ADDRESS":"priya@example.com","campaign_name":"Diwali","adset_name":"Pune 25-34","form_id":120210000000000123,"What is your budget?":50000,"is_organic":false,"platform":null}`
	created := a.receive(body).Is(201)
	id := created.Text("id")
	golden(t, "lead.inbound", created.Body, map[string]string{"id": id, "assigned_agent_id": a.Agent.AgentID})
	require.JSONEq(t, created.Body, a.Do(a.Agent, "GET", "/leads/"+id, "").Is(200).Body)

	a.Do(a.Agent, "PATCH", "/leads/"+id, `{"name":"Priya S.","extra_data":{"What is your budget?":60000,"is_organic":false}}`).Is(200)
	merged := a.receive(`{"full_name":"Another","mobile":"098765 43210","email":"other@example.com","course":"Data Science","What is your budget?":"more","is_organic":true,"city":"Pune"}`).Is(200)
	require.Equal(t, id, merged.Text("id"))
	require.Equal(t, "Priya S.", merged.Text("name"))
	require.Equal(t, "priya@example.com", merged.Text("email"), "a field with a value is not overwritten")
	require.Equal(t, "Data Science", merged.Text("course_interested_in"), "an empty field is filled")
	require.Equal(t, map[string]any{"What is your budget?": 60000.0, "is_organic": true, "city": "Pune"}, merged.Object()["extra_data"],
		"what a person has changed stays, what the form sent is updated")
	a.receive(`{"phone":"+91 98765 43210","city":"Pune"}`).Is(200)
	require.Equal(t, []string{"lead.imported 1", "lead.updated 2", "lead.updated 3"}, a.Published(events.LeadsTopic, 3)[id], "a delivery that changes nothing is no event")
}

func TestInboundLeadsAreNeverMergedOnANumberThatCannotBeParsed(t *testing.T) {
	t.Parallel()
	a := start(t)
	first := a.receive(`{"name":"A","phone":"call me"}`).Is(201)
	second := a.receive(`{"name":"B","phone":"call me"}`).Is(201)
	require.NotEqual(t, first.Text("id"), second.Text("id"))
	require.Equal(t, "call me", second.Text("phone"))
	require.Nil(t, first.Object()["assigned_agent_id"], "nobody works")
	for _, rounded := range []string{`9.19876E+11`, `"9.19876E+11"`} { // by a spreadsheet
		require.Equal(t, "9.19876E+11", a.receive(`{"phone":`+rounded+`}`).Is(201).Text("phone"), "it could be anybody's")
	}
	require.Equal(t, "+919876543210", a.receive(`{"phone":9.19876543210E+11}`).Is(201).Text("name"), "a lead has a name")
}

func TestInboundSignature(t *testing.T) {
	t.Parallel()
	a := start(t)
	body := `{"phone":"+919876543210"}`
	right := signature(body, inboundSecret)
	nobody := identity.Caller{}
	a.Do(nobody, "POST", "/leads/inbound", body).Fails(401, "not_signed")
	for name, wrong := range map[string]string{
		"another secret": signature(body, "another"), "another body": signature(body+" ", inboundSecret), "cut": right[:62], "longer": right + "00",
		"not hex": "zz" + right[2:], "empty secret": signature(body, ""), "sha1": "sha1=" + right[:40], "only the prefix": "sha256=", "twice": "sha256=sha256=" + right,
	} {
		a.Do(nobody, "POST", "/leads/inbound", body, "X-Pabbly-Signature", wrong).Fails(401, "invalid_signature")
		t.Log(name)
	}
	a.Do(a.Admin, "POST", "/leads/inbound", body, "X-Pabbly-Signature", signature(body, "x")).Fails(401, "invalid_signature")
	a.Do(nobody, "POST", "/leads/inbound", `{`, "X-Pabbly-Signature", right).Fails(401, "invalid_signature")
	require.Empty(t, a.Do(a.Admin, "GET", "/leads", "").IDs())
	a.Do(nobody, "POST", "/leads/inbound", body, "X-Pabbly-Signature", strings.ToUpper(right)).Is(201)
	a.Do(nobody, "POST", "/leads/inbound", body, "X-Pabbly-Signature", right).Is(200)
}

func TestInboundRefusesWhatIsNoFlatObject(t *testing.T) {
	t.Parallel()
	a := start(t)
	many := func(n int) string { // and a phone number
		members := make([]string, n)
		for i := range members {
			members[i] = fmt.Sprintf(`"k%d":%d`, i, i)
		}
		return `{"phone":"+919876543210",` + strings.Join(members, ",") + `}`
	}
	require.Equal(t, []string{"answers", "tags"}, a.receive(`{"phone":"+919876543210","answers":{"a":1},"tags":["x"]}`).Wrong())
	for _, body := range []string{`[]`, `"x"`, `1`, `null`, many(199)} {
		require.Equal(t, []string{"body"}, a.receive(body).Wrong(), "%.40s", body)
	}
	for _, body := range []string{`{}`, `{"name":"A"}`, `{"phone":"  "}`, `{"phone":null}`} {
		require.Equal(t, []string{"phone"}, a.receive(body).Wrong(), body)
	}
	for _, body := range []string{` `, `{`, `{"a":1}}`, "{\"phone\":\"\xff\"}"} {
		a.receive(body).Fails(400, "malformed_json")
	}
	require.Equal(t, []string{"body"}, a.receive(`{"phone":"`+strings.Repeat("9", 64<<10)+`"}`).Wrong())
	a.receive(`{"phone":"`+strings.Repeat("9", 128<<10)+`"}`).Fails(413, "body_too_large")
	a.receive(many(198)).Is(201)
	strange := a.receive(`{"phone":"+919876543211","nul":"a\u0000b","lone":"\ud800","huge":1e999999,"email":"no e-mail","":"x","interest_level":"burning"}`).Is(201)
	require.Equal(t, map[string]any{"nul": "ab", "lone": "�", "huge": "1e999999", "email": "no e-mail", "interest_level": "burning"}, strange.Object()["extra_data"],
		"what does not fit a field is not lost")
	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded"} {
		a.Do(identity.Caller{}, "POST", "/leads/inbound", `{}`, "Content-Type", contentType, "X-Pabbly-Signature", "x").Fails(415, "unsupported_content_type")
	}
}

// TestInboundAtOnce sends 100 deliveries of one number at once, and then 100 of others.
func TestInboundAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t)
	reps := []string{event.NewID(), event.NewID(), event.NewID(), event.NewID()}
	for _, id := range reps {
		a.rep(id, true)
	}
	a.rep(event.NewID(), false)
	const n = 100
	deliver := func(body func(i int) string) (statuses []int, ids []string) {
		statuses, ids = make([]int, n), make([]string, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				got := a.receive(body(i))
				statuses[i], ids[i] = got.Status, got.Text("id")
			})
		}
		all.Wait()
		slices.Sort(statuses)
		slices.Sort(ids)
		return statuses, slices.Compact(ids)
	}
	statuses, ids := deliver(func(i int) string { return fmt.Sprintf(`{"phone":"+919876543210","name":"One","k%d":%d}`, i%10, i) })
	require.Equal(t, append(slices.Repeat([]int{200}, n-1), 201), statuses)
	require.Len(t, ids, 1, "one number is one lead")
	statuses, ids = deliver(func(i int) string { return fmt.Sprintf(`{"phone":"+9198765%05d","name":"Lead %d"}`, i, i) })
	require.Equal(t, slices.Repeat([]int{201}, n), statuses)
	require.Len(t, ids, n)
	per := map[string]int{}
	for i := range reps {
		for next := "/leads?limit=500&assigned_agent_id=" + reps[i]; next != ""; {
			got := a.Do(a.Admin, "GET", next, "").Is(200)
			per[reps[i]] += len(got.IDs())
			next = got.Next()
		}
	}
	total, least, most := 0, n, 0
	for _, id := range reps {
		total, least, most = total+per[id], min(least, per[id]), max(most, per[id])
	}
	require.Equal(t, n+1, total, "every lead has an active agent")
	require.LessOrEqual(t, most-least, 3, "%v", per)
}
