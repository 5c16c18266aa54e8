package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// none is in the table if the operation has no object.
var none = [3]int{}

// policy is the status of an operation: without a valid token, and for an agent and an admin with an object of their own, of
// another agent, and one that does not exist. Without an object, only the first number is set.
type policy struct {
	unauthenticated int
	agent, admin    [3]int
}

// policies say who may do what. The test fails for an operation without a row here.
var policies = map[string]policy{
	//                                no token   agent: own, other's, missing       admin
	"auth.register":        {201, [3]int{201}, [3]int{201}},
	"auth.registration":    {200, [3]int{200}, [3]int{200}},
	"auth.login":           {200, [3]int{200}, [3]int{200}},
	"auth.refresh":         {200, [3]int{200}, [3]int{200}},
	"auth.logout":          {401, [3]int{204}, [3]int{204}},
	"auth.me":              {401, [3]int{200}, [3]int{200}},
	"auth.update":          {401, [3]int{200}, [3]int{200}},
	"auth.change_password": {401, [3]int{204}, [3]int{204}},
	"auth.list_sessions":   {401, [3]int{200}, [3]int{200}},
	"auth.remove_session":  {401, [3]int{204, 403, 404}, [3]int{204, 204, 404}},
	"auth.list_agents":     {401, [3]int{200}, [3]int{200}},
	"auth.create_agent":    {401, [3]int{403}, [3]int{201}},
	"auth.get_agent":       {401, [3]int{200, 200, 404}, [3]int{200, 200, 404}},
	"auth.update_agent":    {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}},
	"auth.delete_agent":    {401, [3]int{403, 403, 403}, [3]int{204, 204, 404}},
	"auth.jwks":            {200, [3]int{200}, [3]int{200}},

	"calls.upload":     {401, [3]int{202, 403, 404}, [3]int{202, 202, 404}}, // the object is the client
	"calls.create":     {401, [3]int{201, 403, 404}, [3]int{201, 201, 404}}, // likewise
	"calls.update":     {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.link_audio": {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.link_lead":  {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.list":       {401, [3]int{200}, [3]int{200}},
	"calls.get":        {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.audio":      {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.delete":     {401, [3]int{204, 403, 404}, [3]int{204, 204, 404}},
	"calls.retry":      {401, [3]int{202, 403, 404}, [3]int{202, 202, 404}},

	"calls.transcript": {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.waveform":   {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.hold":       {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}}, // lifted
	"calls.watch":      {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.watch_all":  {401, [3]int{200}, [3]int{200}},
	"calls.cancel":     {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"calls.usage":      {401, [3]int{403}, [3]int{200}},

	"crm.list_clients":             {401, [3]int{200}, [3]int{200}},
	"crm.create_client":            {401, [3]int{201}, [3]int{201}},
	"crm.get_client":               {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.replace_client":           {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.update_client":            {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.delete_client":            {401, [3]int{204, 403, 404}, [3]int{204, 204, 404}},
	"crm.list_leads":               {401, [3]int{200}, [3]int{200}},
	"crm.list_my_leads":            {401, [3]int{200}, [3]int{200}},
	"crm.create_lead":              {401, [3]int{201}, [3]int{201}},
	"crm.get_lead":                 {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.update_lead":              {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.delete_lead":              {401, [3]int{204, 403, 404}, [3]int{204, 204, 404}},
	"crm.assign_lead":              {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}}, // to the caller
	"crm.lead_no_answer":           {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.convert_lead":             {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.classify_lead":            {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.list_lead_timeline":       {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.change_leads":             {401, [3]int{200}, [3]int{200}}, // what is not the caller's is an error of one lead
	"crm.list_settings":            {401, [3]int{200}, [3]int{200}},
	"crm.put_setting":              {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}}, // the object is the key
	"crm.analytics_overview":       {401, [3]int{200}, [3]int{200}},                     // scope=team is in TestTheTeamsAnalyticsAreForAdmins of crm
	"crm.analytics_agents":         {401, [3]int{200}, [3]int{200}},
	"crm.analytics_topics":         {401, [3]int{200}, [3]int{200}},
	"crm.list_followups":           {401, [3]int{200}, [3]int{200}},
	"crm.create_followup":          {401, [3]int{201, 403, 404}, [3]int{201, 201, 404}}, // the object is the call
	"crm.create_followup_for_call": {401, [3]int{201, 403, 404}, [3]int{201, 201, 404}}, // the object is the call
	"crm.get_followup":             {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.replace_followup":         {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.update_followup":          {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.delete_followup":          {401, [3]int{204, 403, 404}, [3]int{204, 204, 404}},
	"crm.complete_followup":        {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},

	"crm.merge_client":          {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.list_client_timeline":  {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.get_erasure":           {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.followup_calendar":     {422, [3]int{422}, [3]int{422}}, // the token is a parameter
	"crm.create_calendar_token": {401, [3]int{201}, [3]int{201}},
	"crm.delete_calendar_token": {401, [3]int{204}, [3]int{204}},
	"crm.receive_lead":          {401, [3]int{401}, [3]int{401}}, // not signed: inbound_test.go
	"crm.import_leads":          {401, [3]int{200}, [3]int{200}},
	"crm.get_import":            {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.list_import_rows":      {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.follow_import":         {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.revert_import":         {401, [3]int{200, 403, 404}, [3]int{200, 200, 404}},
	"crm.export_leads":          {401, [3]int{200}, [3]int{200}},

	"notify.create_webhook": {401, [3]int{403}, [3]int{201}},
	"notify.list_webhooks":  {401, [3]int{403}, [3]int{200}},
	"notify.get_webhook":    {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}},
	"notify.update_webhook": {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}},
	"notify.delete_webhook": {401, [3]int{403, 403, 403}, [3]int{204, 204, 404}},
	"notify.rotate_secret":  {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}},
	"notify.test_webhook":   {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}},
	"notify.verify":         {422, [3]int{422, 422, 422}, [3]int{422, 422, 422}}, // the signature is a parameter

	"notify.list_deliveries": {401, [3]int{403}, [3]int{200}},
	"notify.get_delivery":    {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}},
	"notify.redeliver":       {401, [3]int{403, 403, 403}, [3]int{202, 202, 404}},
	"notify.replay":          {401, [3]int{403}, [3]int{202}},
	"notify.cancel_replay":   {401, [3]int{403, 403, 403}, [3]int{200, 200, 404}},

	"gateway.health":  {200, [3]int{200}, [3]int{200}},
	"gateway.ready":   {200, [3]int{200}, [3]int{200}},
	"gateway.openapi": {200, [3]int{200}, [3]int{200}},
	"gateway.docs":    {200, [3]int{200}, [3]int{200}},

	"gateway.session": {200, [3]int{200}, [3]int{200}},
	"gateway.login":   {200, [3]int{200}, [3]int{200}},
	"gateway.renew":   {204, [3]int{204}, [3]int{204}}, // with the cookie of body
	"gateway.logout":  {204, [3]int{204}, [3]int{204}},
}

// takesObject reports whether the operation has an object that belongs to an agent.
func (p policy) takesObject() bool { return p.admin[1] != 0 }

// TestOperations calls every operation of the contract as every kind of caller, and with invalid requests of every kind.
func TestOperations(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, f.settings()...)
	s.start()
	c := newUsers(s)
	t.Run("a row for each operation", func(t *testing.T) { everyOperationHasARow(t) })
	t.Run("policy", func(t *testing.T) {
		for _, op := range operations(t) {
			t.Run(op.OperationID, func(t *testing.T) {
				if strings.HasPrefix(op.OperationID, "calls.") {
					t.Parallel() // these wait for transcriptions
				}
				c.in(t).checkPolicy(op, policies[op.OperationID])
			})
		}
	})
	t.Run("lists", func(t *testing.T) { c.in(t).checkLists(operations(t)) })
	t.Run("idempotency keys", func(t *testing.T) { c.in(t).checkIdempotencyKeys(operations(t)) })
	t.Run("fuzz", func(t *testing.T) { fuzz(t, s.in(t), c.in(t)) })
}

func everyOperationHasARow(t *testing.T) {
	t.Helper()
	described := map[string]bool{}
	for _, op := range operations(t) {
		described[op.OperationID] = true
		row, ok := policies[op.OperationID]
		require.True(t, ok, "%s has no row", op.OperationID)
		require.Equal(t, op.access() != "anyone", row.unauthenticated == http.StatusUnauthorized, "%s is for %s", op.OperationID, op.access())
		require.Equal(t, op.access() == "admin", row.agent[0] == http.StatusForbidden, "%s is for %s", op.OperationID, op.access())
		if op.hasID() {
			require.True(t, row.takesObject(), "%s takes an id", op.OperationID)
		}
	}
	for id := range policies {
		require.True(t, described[id], "%s is no operation", id)
	}
}

// users are the callers: an admin and two agents, each with an object of every kind.
type users struct {
	t                   testing.TB
	admin, owner, other user
	deactivated         string // the token of an agent who has been deactivated since
}

// user is an agent with its objects.
type user struct {
	*agent
	id, client, lead, call, followUp, delivery, replay string
	admin                                              *agent
	webhook                                            string // the admin made one for each user
}

func newUsers(s *stack) users {
	s.t.Helper()
	c := users{t: s.t}
	for _, p := range []*user{&c.admin, &c.owner, &c.other} { // the first agent of a platform is its admin
		*p = user{agent: s.newAgent()}
		p.id = p.me()
		p.client = p.newClient().ID
		p.lead = p.newLead()
	}
	for _, p := range []*user{&c.admin, &c.owner, &c.other} {
		p.call = p.completed(p.upload(map[string]string{"client_id": p.client}).ID).ID
		p.followUp = p.newFollowUp()
		p.admin = c.admin.agent
		p.webhook = p.newWebhook()
		poll(s.t, jobTimeout, "a delivery about the call", func() bool {
			ids := c.admin.ids("/webhooks/deliveries?status=delivered&call_id=" + p.call)
			if len(ids) > 0 {
				p.delivery = ids[0]
			}
			return len(ids) > 0
		})
		p.replay = c.admin.redelivered(p.delivery)
	}
	c.deactivated = c.deactivate(s.newAgent())
	return c
}

// redelivered sends a delivery again, and returns the id of the replay once the receiver has it.
func (p user) redelivered(delivery string) string {
	p.t.Helper()
	var replay struct {
		ReplayID string `json:"replay_id"`
	}
	p.post("/webhooks/deliveries/"+delivery+"/redeliver", nil).must(http.StatusAccepted).into(&replay)
	poll(p.t, jobTimeout, "the delivery is sent again", func() bool {
		return len(p.ids("/webhooks/deliveries?status=delivered&replay_id="+replay.ReplayID)) == 1
	})
	return replay.ReplayID
}

// deactivate deactivates an agent and returns its token once every service refuses it.
func (c users) deactivate(a *agent) string {
	c.t.Helper()
	c.admin.do(http.MethodPatch, "/agents/"+a.me(), map[string]any{"is_active": false}).must(http.StatusOK)
	for _, path := range []string{"/auth/me", "/calls"} { // auth refuses it at once, the gateway a moment later
		poll(c.t, jobTimeout, "the agent is shut out", func() bool { return a.get(path).status == http.StatusUnauthorized })
	}
	return a.token
}

func (a *agent) me() string {
	a.t.Helper()
	var me struct{ ID string }
	a.get("/auth/me").must(http.StatusOK).into(&me)
	return me.ID
}

func (p user) newWebhook() string {
	p.t.Helper()
	var made struct{ ID string }
	p.admin.as(p.t, p.admin.token).post("/webhooks", map[string]any{"url": nowhere, "enabled": false, "events": []string{"followup.due"}}).must(http.StatusCreated).into(&made)
	return made.ID
}

func (p user) newFollowUp() string {
	p.t.Helper()
	var made followUp
	p.post("/followups", followUpBody(p.call)).must(http.StatusCreated).into(&made)
	return made.ID
}

// in returns the users for a subtest.
func (c users) in(t testing.TB) users {
	c.t = t
	for _, p := range []*user{&c.admin, &c.owner, &c.other} {
		p.agent = p.as(t, p.token)
	}
	return c
}

// as returns the agent with another token, for another test.
func (a *agent) as(t testing.TB, token string) *agent {
	here := *a
	here.t, here.token = t, token
	here.http = &http.Client{Transport: newContract(t), Timeout: a.http.Timeout}
	return &here
}

// inBrowser returns the agent with the cookies of the console and no token.
func (a *agent) inBrowser() *agent {
	a.t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(a.t, err)
	in := a.as(a.t, "")
	in.http.Jar = jar
	in.post("/console/session", map[string]any{"email": a.email, "password": a.password}, "Origin", a.url).must(http.StatusOK)
	return in
}

// loggedInAgain returns the agent with a new session.
func (a *agent) loggedInAgain() *agent {
	again := a.as(a.t, "")
	again.login()
	return again
}

// checkPolicy calls an operation as every caller on every object.
func (c users) checkPolicy(op operation, row policy) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(c.t, err)
	header, claims := decoded(c.t, c.admin.token)
	forged := c.admin
	forged.agent = c.admin.as(c.t, signed(c.t, header, claims, key))
	anonymous := c.owner
	anonymous.agent = c.owner.as(c.t, "")
	deactivated := c.owner
	deactivated.agent = c.owner.as(c.t, c.deactivated)
	unauthenticated := [3]int{row.unauthenticated, row.unauthenticated, row.unauthenticated}
	for _, who := range []struct {
		name   string
		caller user
		own    user // owner of the object for the first status
		others user // owner of the object for the second
		want   [3]int
	}{
		{"without a token", anonymous, c.owner, c.other, unauthenticated},
		{"forged", forged, c.admin, c.other, unauthenticated},
		{"deactivated agent", deactivated, c.owner, c.other, unauthenticated},
		{"owner", c.owner, c.owner, c.other, row.agent},
		{"other agent", c.other, c.other, c.owner, row.agent},
		{"admin", c.admin, c.admin, c.owner, row.admin},
	} {
		got, want := none, who.want
		got[0] = who.caller.status(op, who.own, want[0])
		if row.takesObject() {
			got[1] = who.caller.status(op, who.others, want[1])
			got[2] = who.caller.status(op, user{}, want[2])
		} else {
			want = [3]int{want[0]}
		}
		require.Equal(c.t, want, got, "%s %s (%s) as %s: own, other's, missing", op.method, op.path, op.OperationID, who.name)
	}
}

// status calls an operation on an object of a user, or on one that does not exist, and returns the status. A call that is to
// succeed gets a new object if success uses it up.
func (p user) status(op operation, of user, want int) int {
	p.t.Helper()
	object := missingID
	if of.agent != nil {
		object = of.object(op.OperationID, want < http.StatusBadRequest)
	}
	caller := p.agent
	switch {
	case op.OperationID == "auth.logout" && want < http.StatusBadRequest, op.OperationID == "gateway.logout" && caller.token != "":
		caller = p.loggedInAgain()
	case op.OperationID == "gateway.renew":
		caller = p.inBrowser()
	}
	return caller.do(op.method, op.at(object), p.body(op, object), "Origin", p.url).status
}

// object returns an object of the user for the operation. It is a new one if it will be used up.
func (p user) object(op string, usedUp bool) string {
	p.t.Helper()
	switch op {
	case "auth.get_agent", "auth.update_agent":
		return p.id
	case "auth.delete_agent":
		if usedUp {
			return p.newColleague()
		}
		return p.id
	case "auth.remove_session":
		_, claims := decoded(p.t, p.loggedInAgain().token)
		return claims["sid"].(string)
	case "notify.get_delivery", "notify.redeliver":
		return p.delivery
	case "notify.get_webhook", "notify.update_webhook", "notify.rotate_secret", "notify.test_webhook":
		return p.webhook
	case "notify.delete_webhook":
		if usedUp {
			return p.newWebhook()
		}
		return p.webhook
	case "notify.cancel_replay":
		return p.replay
	case "calls.upload", "calls.create":
		return p.client
	case "calls.link_lead":
	case "calls.delete", "calls.retry":
		if usedUp {
			return p.completed(p.upload(nil).ID).ID
		}
	case "crm.create_followup", "crm.create_followup_for_call":
	case "crm.get_erasure":
		return p.do(http.MethodDelete, "/clients/"+p.newClient().ID, nil).must(http.StatusNoContent).header.Get("Erasure-Id")
	case "crm.get_import", "crm.list_import_rows", "crm.follow_import", "crm.revert_import":
		return p.newImport()
	case "crm.delete_client", "crm.merge_client":
		if usedUp {
			return p.newClient().ID
		}
		return p.client
	case "crm.put_setting":
		return "time_zone"
	case "crm.delete_lead", "crm.assign_lead":
		if usedUp {
			return p.newLead()
		}
		return p.lead
	case "crm.delete_followup":
		if usedUp {
			return p.newFollowUp()
		}
		return p.followUp
	default:
		switch {
		case strings.Contains(op, "lead"):
			return p.lead
		case strings.Contains(op, "client"):
			return p.client
		case strings.Contains(op, "followup"):
			return p.followUp
		}
	}
	return p.call
}

// body returns a request body of the user for the operation, valid any number of times.
func (p user) body(op operation, object string) any {
	p.t.Helper()
	switch op.OperationID {
	case "auth.register":
		return map[string]any{"email": rand.Text() + "@example.com", "password": rand.Text(), "full_name": "X"}
	case "auth.login":
		return url.Values{"username": {p.email}, "password": {p.password}}
	case "gateway.login":
		return map[string]any{"email": p.email, "password": p.password}
	case "auth.refresh":
		var got map[string]any
		p.as(p.t, "").post("/auth/login", url.Values{"username": {p.email}, "password": {p.password}}).must(http.StatusOK).into(&got)
		return map[string]any{"refresh_token": got["refresh_token"]}
	case "auth.change_password":
		return map[string]any{"current_password": p.password, "new_password": p.password}
	case "auth.create_agent":
		return map[string]any{"email": rand.Text() + "@example.com", "full_name": "Y"}
	case "calls.upload":
		audio := salesCall(p.t)
		return recording("x.ogg", bytes.NewReader(audio), int64(len(audio)), map[string]string{"client_id": object, "force": "true"})
	case "calls.create":
		return map[string]any{"client_id": object, "call_tag": "connected"}
	case "crm.create_lead":
		return map[string]any{"name": "Priya", "phone": newPhone()}
	case "crm.create_followup":
		return followUpBody(object)
	case "crm.merge_client":
		return map[string]any{"into": p.sibling(object)}
	case "crm.import_leads":
		return leadsFile("name,phone\nImported,+919820012399\n")
	default:
		return op.sends
	}
}

// sibling returns another client of the agent whose client that is; one that does not exist if the user may not see it.
func (p user) sibling(clientID string) string {
	p.t.Helper()
	var one struct {
		AgentID string `json:"agent_id"`
	}
	if got := p.get("/clients/" + clientID); got.status == http.StatusOK {
		got.into(&one)
		var all []struct {
			ID      string
			AgentID string `json:"agent_id"`
		}
		p.get("/clients?limit=500").must(http.StatusOK).into(&all)
		for _, c := range all {
			if c.AgentID == one.AgentID && c.ID != clientID {
				return c.ID
			}
		}
	}
	return "019abf00-0000-7000-8000-000000000001"
}

// newColleague registers an agent without any other role in the test and returns its id.
func (p user) newColleague() string {
	p.t.Helper()
	var made struct{ ID string }
	body := map[string]any{"email": rand.Text() + "@example.com", "password": rand.Text(), "full_name": "Colleague"}
	p.as(p.t, "").post("/auth/register", body).must(http.StatusCreated).into(&made)
	return made.ID
}

var (
	// ownLists show an admin only its own objects.
	ownLists = []string{"auth.list_sessions", "crm.list_my_leads"}
	// teamLists show every agent the whole team.
	teamLists = []string{"auth.list_agents"}
)

// checkLists requires that a list, with any filter, has no object of another agent.
func (c users) checkLists(all []operation) {
	owns := func(p user) []string {
		_, claims := decoded(c.t, p.token)
		return []string{p.id, p.client, p.lead, p.call, p.followUp, p.delivery, p.webhook, claims["sid"].(string)}
	}
	seen := map[string]bool{}
	for _, op := range all {
		if ok := op.Responses.Status(http.StatusOK); op.method != http.MethodGet || op.hasID() || ok == nil || ok.Value.Content.Get("application/json") == nil ||
			!ok.Value.Content.Get("application/json").Schema.Value.Type.Is("array") || op.OperationID == "crm.list_settings" { // of nobody
			continue
		}
		queries := []string{"limit=500", "limit=500&agent_id=" + c.owner.id, "q=" + url.QueryEscape(c.owner.name), "q=Featherstonehaugh", "q=proposal"}
		for _, parameter := range op.Parameters {
			if parameter.Value.Schema.Value.Format == "uuid" {
				for _, id := range owns(c.owner) {
					queries = append(queries, parameter.Value.Name+"="+id)
				}
			}
		}
		for _, query := range queries {
			got := c.other.get(op.path + "?" + query).must(policies[op.OperationID].agent[0])
			for _, id := range owns(c.owner) {
				if id == c.owner.id && slices.Contains(teamLists, op.OperationID) {
					continue
				}
				require.NotContains(c.t, string(got.body), id, "%s?%s as the other agent", op.path, query)
			}
		}
		teams := c.admin.ids(op.path + "?limit=500")
		for _, p := range []user{c.admin, c.owner, c.other} {
			has := slices.ContainsFunc(owns(p), func(id string) bool { return slices.Contains(teams, id) })
			require.Equal(c.t, p.id == c.admin.id || !slices.Contains(ownLists, op.OperationID), has, "%s as the admin has what is %s's", op.path, p.id)
		}
		seen[op.OperationID] = true
	}
	require.Len(c.t, seen, 9, "lists: %v", seen)
}

// checkIdempotencyKeys requires that an Idempotency-Key has no effect for any agent but the one that sent it.
func (c users) checkIdempotencyKeys(all []operation) {
	second := c.admin // another admin, for objects that only admins create
	made := map[string]any{"email": rand.Text() + "@agents.example.com", "password": rand.Text(), "full_name": "Second", "role": "admin"}
	c.admin.post("/agents", made).must(http.StatusCreated)
	second.agent = c.admin.as(c.t, "")
	second.email, second.password = made["email"].(string), made["password"].(string)
	second.login()

	var seen int
	for _, op := range all {
		if op.Parameters.GetByInAndName("header", "Idempotency-Key") == nil || op.OperationID == "notify.replay" || op.OperationID == "notify.redeliver" {
			continue // a replay is no object with an id
		}
		seen++
		first, other := c.owner, c.other
		object := c.owner.object(op.OperationID, false)
		want := http.StatusForbidden // the object is the owner's
		switch op.OperationID {
		case "auth.create_agent":
			first, other, want = c.admin, second, http.StatusConflict
		case "crm.create_lead":
			want = http.StatusConflict // one phone number of the team
		case "notify.create_webhook":
			first, other, want = c.admin, second, http.StatusCreated
		case "crm.create_client":
			want = http.StatusCreated
		}
		body := first.body(op, object)
		again := func() any {
			if _, isForm := body.(*form); isForm {
				return first.body(op, object)
			}
			return body
		}
		key := rand.Text()
		var one, same, theirs struct {
			ID string
		}
		first.do(op.method, op.at(object), body, "Idempotency-Key", key).into(&one)
		require.NotEmpty(c.t, one.ID, op.OperationID)
		first.do(op.method, op.at(object), again(), "Idempotency-Key", key).into(&same)
		require.Equal(c.t, one.ID, same.ID, "%s: the same key is the same thing", op.OperationID)
		got := other.do(op.method, op.at(object), again(), "Idempotency-Key", key).must(want)
		require.NotContains(c.t, string(got.body), one.ID, op.OperationID)
		got.into(&theirs)
		require.Equal(c.t, want == http.StatusCreated, theirs.ID != "", op.OperationID)
		require.Equal(c.t, http.StatusUnauthorized, first.as(c.t, "").do(op.method, op.at(object), again(), "Idempotency-Key", key).status)
	}
	require.Equal(c.t, 9, seen, "operations with an Idempotency-Key")
}

// checkInvalidTokens calls the operations at that address with tokens that a trusted key has signed for others or that have expired,
// and with one that another key has signed.
func (c users) checkInvalidTokens(all []operation, at string, trusted func(header, claims object) string) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(c.t, err)
	header, claims := decoded(c.t, c.admin.token)
	with := func(name string, value any) object {
		changed := maps.Clone(claims)
		changed[name] = value
		return changed
	}
	past := time.Now().Add(-time.Hour).Unix()
	for name, token := range map[string]string{
		"expired":        trusted(header, with("exp", past)),
		"wrong audience": trusted(header, with("aud", []string{"another"})),
		"forged":         signed(c.t, header, claims, key),
	} {
		caller := c.admin
		caller.agent = c.admin.as(c.t, token)
		caller.url = at
		for _, op := range all {
			row := policies[op.OperationID]
			for _, of := range []user{c.admin, c.owner, {}} {
				require.Equal(c.t, row.unauthenticated, caller.status(op, of, row.unauthenticated), "%s %s with a token that is %s", op.method, op.path, name)
				if !row.takesObject() {
					break
				}
			}
		}
	}
	for _, p := range []user{c.admin, c.owner} { // and nothing was created
		p.get("/clients/" + p.client).must(http.StatusOK)
		p.get("/calls/" + p.call).must(http.StatusOK)
		p.get("/followups/" + p.followUp).must(http.StatusOK)
	}
}
