package crm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service/servicetest"
)

// importFile sends a file; fields are name, value, …, and come after it.
func (a *app) importFile(as identity.Caller, file io.Reader, fields ...string) servicetest.Answer {
	a.T.Helper()
	body, to := io.Pipe()
	form := multipart.NewWriter(to)
	go func() {
		part, err := form.CreateFormFile("file", "leads.csv")
		if err == nil {
			_, err = io.Copy(part, file)
		}
		for i := 0; err == nil && i < len(fields); i += 2 {
			err = form.WriteField(fields[i], fields[i+1])
		}
		if err == nil {
			err = form.Close()
		}
		to.CloseWithError(err)
	}()
	return a.Send(as, "POST", "/leads/import", body, "Content-Type", form.FormDataContentType())
}

// imported is the part of an import that tests look at.
type imported struct {
	ID, State                                                               string
	Total, Processed, Created, Updated, Merged, Skipped, Reverted, Retained int
	Rows                                                                    []struct {
		Line     int
		Result   string
		Reason   *string
		LeadID   *string `json:"lead_id"`
		Reverted *bool
	}
}

func importOf(t testing.TB, got servicetest.Answer) (i imported) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(got.Body), &i), got.Body)
	return i
}

// results returns "line result: reason" of each row.
func (i imported) results() (texts []string) {
	for _, r := range i.Rows {
		text := fmt.Sprintf("%d %s", r.Line, r.Result)
		if r.Reason != nil {
			text += ": " + *r.Reason
		}
		texts = append(texts, text)
	}
	return texts
}

// awaitImport waits until the work on an import ends.
func (a *app) awaitImport(as identity.Caller, id string) imported {
	a.T.Helper()
	a.AwaitRow(`select exists (select from imports where id = $1 and state not in ('running', 'reverting'))`, id)
	return importOf(a.T, a.Do(as, "GET", "/leads/imports/"+id, "").Is(200))
}

func TestImportAccountsForEveryRow(t *testing.T) {
	t.Parallel()
	a := start(t)
	known := a.lead(a.Agent, `{"name":"Known","phone":"+919876543210","notes":"mine"}`)
	theirs := a.lead(a.Other, `{"name":"Theirs","phone":"+919876543211"}`)
	file := strings.Join([]string{
		"sep=;", "id;Name;Phone;E-Mail;Status;City;City", // duplicate headers
		";New;98765 43212;new@example.com;qualified;Pune;Pimpri",
		";Known again;+919876543210;k@example.com;;;", // fills the e-mail
		known + ";Renamed;;;contacted;;",              // names its lead
		";Their's;+919876543211;;;;",
		theirs + ";Mine now;;;;;",
		";No number;;;;;",
		";Odd;not a number;;;;",
		";Twice;+919876543212;;;Mumbai;", // the number of line 3
		";Stage;+919876543213;;unheard of;;",
		`;"never closed;+919876543214;;;;`,
		";'=cmd();'+919876543215;no e-mail;;;",
	}, "\r\n") + "\r\n"
	want := []string{
		"3 created", "4 merged: a lead with this phone number exists", "5 updated", "6 skipped: it is another agent's lead", "7 skipped: it is another agent's lead",
		"8 skipped: it has no phone number", "9 created", "10 merged: line 3 has the same phone number",
		"11 skipped: status: Input should be a built-in status, or a stage of the setting lead_statuses", "12 skipped: a quote is never closed", "13 created",
	}
	dry := importOf(t, a.importFile(a.Agent, strings.NewReader(file), "dry_run", "true").Is(200))
	require.Equal(t, want, dry.results())
	require.Len(t, a.Do(a.Admin, "GET", "/leads", "").IDs(), 2, "a dry run changes nothing")
	require.Equal(t, "Known", a.Do(a.Agent, "GET", "/leads/"+known, "").Text("name"))
	a.Do(a.Agent, "POST", "/leads/imports/"+dry.ID+"/revert", "").Fails(409, "import_not_revertible")

	got := a.importFile(a.Agent, strings.NewReader(file)).Is(200)
	done := importOf(t, got)
	require.Equal(t, want, done.results())
	require.Equal(t, []int{11, 11, 3, 1, 2, 5}, []int{done.Total, done.Processed, done.Created, done.Updated, done.Merged, done.Skipped})
	require.JSONEq(t, got.Body, a.Do(a.Agent, "GET", "/leads/imports/"+done.ID, "").Is(200).Body)
	first := a.Do(a.Agent, "GET", "/leads/"+*done.Rows[0].LeadID, "").Is(200).Object()
	require.Equal(t, map[string]any{"City": "Mumbai", "City 2": "Pimpri"}, first["extra_data"], "the second row of a number is merged into the first")
	require.Equal(t, "qualified", first["status"])
	require.Equal(t, a.Agent.AgentID, first["assigned_agent_id"])
	changed := a.Do(a.Agent, "GET", "/leads/"+known, "").Is(200).Object()
	require.Equal(t, []any{"Renamed", "k@example.com", "contacted", "mine"}, []any{changed["name"], changed["email"], changed["status"], changed["notes"]})
	last := a.Do(a.Agent, "GET", "/leads/"+*done.Rows[10].LeadID, "").Is(200).Object()
	require.Equal(t, []any{"=cmd()", "+919876543215", map[string]any{"E-Mail": "no e-mail"}}, []any{last["name"], last["phone"], last["extra_data"]})

	a.Do(a.Other, "GET", "/leads/imports/"+done.ID, "").Fails(403, "import_forbidden")
	a.Do(a.Other, "GET", "/leads/imports/"+done.ID+"/rows", "").Fails(403, "import_forbidden")
	a.Do(a.Other, "GET", "/leads/imports/"+done.ID+"/events", "").Fails(403, "import_forbidden")
	a.Do(a.Other, "POST", "/leads/imports/"+done.ID+"/revert", "").Fails(403, "import_forbidden")
	a.Do(a.Admin, "GET", "/leads/imports/"+event.NewID(), "").Fails(404, "import_not_found")
	a.Do(a.Admin, "GET", "/leads/imports/timeline", "").Fails(404, "import_not_found")
	page := a.Do(a.Admin, "GET", "/leads/imports/"+done.ID+"/rows?result=skipped&limit=2", "").Is(200)
	require.Contains(t, page.Body, "another agent's lead")
	require.Contains(t, a.Do(a.Admin, "GET", page.Next(), "").Is(200).Body, "it has no phone number")

	tag := a.Do(a.Agent, "GET", "/leads/"+*done.Rows[0].LeadID, "").Header.Get("ETag")
	again := importOf(t, a.importFile(a.Agent, strings.NewReader(file)).Is(200))
	require.Equal(t, 1, again.Created, "only what has no phone number is new again")
	require.Equal(t, tag, a.Do(a.Agent, "GET", "/leads/"+*done.Rows[0].LeadID, "").Header.Get("ETag"), "its second row takes back what its first one changes")
	log := a.Published(events.LeadsTopic, 7)
	require.Equal(t, "lead.imported 1", log[*done.Rows[0].LeadID][0])
	require.Len(t, log[known], 2, "one event for each lead that changed")
}

func TestImportRefusesWhatIsNoTable(t *testing.T) {
	t.Parallel()
	a := start(t)
	for name, file := range map[string]string{
		"empty": "", "no phone": "name;city\nA;B\n", "open header": "\"name,phone\n", "binary": "\x00\x01\x02",
		"too many columns": "phone" + strings.Repeat(",x", 200) + "\n",
	} {
		require.Equal(t, []string{"file"}, a.importFile(a.Agent, strings.NewReader(file)).Wrong(), name)
	}
	require.Equal(t, []string{"dry_run"}, a.importFile(a.Agent, strings.NewReader("phone\n+919876543210\n"), "dry_run", "perhaps").Wrong())
	a.Do(a.Agent, "POST", "/leads/import", `{}`).Fails(415, "unsupported_content_type")
	a.Do(identity.Caller{}, "POST", "/leads/import", `{}`).Fails(401, "not_authenticated")
	a.AwaitRow(`select not exists (select from imports)`)
}

func TestImportIsReverted(t *testing.T) {
	t.Parallel()
	a := start(t)
	known := a.lead(a.Agent, `{"name":"Known","phone":"+919876543210","extra_data":{"a":1}}`)
	before := a.Do(a.Agent, "GET", "/leads/"+known, "").Is(200).Object()
	done := importOf(t, a.importFile(a.Agent, strings.NewReader("phone,name,city,email\n+919876543210,X,Pune,k@example.com\n+919876543211,B,,\n+919876543212,C,,\n+919876543213,D,,\n")).Is(200))
	require.Equal(t, []int{3, 1}, []int{done.Created, done.Merged})
	a.Do(a.Agent, "PATCH", "/leads/"+*done.Rows[1].LeadID, `{"notes":"called"}`).Is(200)
	a.Do(a.Agent, "DELETE", "/leads/"+*done.Rows[2].LeadID, "").Is(204)
	reverted := importOf(t, a.Do(a.Agent, "POST", "/leads/imports/"+done.ID+"/revert", "").Is(200))
	require.Equal(t, "reverted", reverted.State)
	require.Equal(t, []int{2, 1}, []int{reverted.Reverted, reverted.Retained})
	yes, no := true, false
	require.Equal(t, []*bool{&yes, &no, nil, &yes}, []*bool{reverted.Rows[0].Reverted, reverted.Rows[1].Reverted, reverted.Rows[2].Reverted, reverted.Rows[3].Reverted})
	after := a.Do(a.Agent, "GET", "/leads/"+known, "").Is(200).Object()
	before["updated_at"] = after["updated_at"]
	require.Equal(t, before, after)
	a.Do(a.Agent, "GET", "/leads/"+*done.Rows[3].LeadID, "").Fails(404, "lead_not_found")
	erased := pgtest.Column[string](t, a.DB, `select subject_id::text from erasures`)
	require.ElementsMatch(t, []string{*done.Rows[2].LeadID, *done.Rows[3].LeadID}, erased, "a lead that a revert deletes is erased in every service")
	a.Do(a.Agent, "GET", "/leads/"+*done.Rows[1].LeadID, "").Is(200)
	a.Do(a.Agent, "POST", "/leads/imports/"+done.ID+"/revert", "").Fails(409, "import_not_revertible")
	require.Equal(t, []string{"lead.imported 1", "lead.deleted 2"}, a.Published(events.LeadsTopic, 9)[*done.Rows[3].LeadID])
}

func TestExportIsImportedAgain(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.lead(a.Agent, `{"name":"=HYPERLINK(\"x\")","phone":"+919876543210","notes":"two\nlines, \"quoted\"","status":"qualified","next_followup_at":"2026-11-25T10:00:00Z","payment_link_sent":true,"followup_count":3,"intent_confidence":0.5,"extra_data":{"n":1,"deep":{"x":["y"]}}}`)
	a.lead(a.Other, `{"name":"'@René","phone":"+919876543211"}`)
	a.receive(`{"phone":"call me"}`).Is(201)
	export := a.Do(a.Admin, "GET", "/leads/export.csv", "").Is(200)
	require.Equal(t, "text/csv; charset=utf-8", export.Header.Get("Content-Type"))
	require.Contains(t, export.Body, `"'=HYPERLINK(""x"")"`)
	require.Contains(t, export.Body, "'+919876543210")
	require.Contains(t, export.Body, "''@René")
	mine := a.Do(a.Agent, "GET", "/leads/export.csv?status=qualified", "").Is(200)
	require.Equal(t, 1, strings.Count(mine.Body, "'+91"), "only what the list shows")

	same := importOf(t, a.importFile(a.Admin, strings.NewReader(export.Body)).Is(200))
	require.Equal(t, 3, same.Skipped, "%v", same.results())
	require.Contains(t, same.results()[0], "nothing has changed")
	edited := importOf(t, a.importFile(a.Admin, strings.NewReader(strings.ReplaceAll(export.Body, "René", "Renée"))).Is(200))
	require.Equal(t, []int{1, 2}, []int{edited.Updated, edited.Skipped}, "%v", edited.results())
	require.Contains(t, a.Do(a.Admin, "GET", "/leads?q=Renée", "").Is(200).Body, "'@Renée")
}

// TestLargeImport imports in the background, follows it, and reverts it.
func TestLargeImport(t *testing.T) {
	t.Parallel()
	a := start(t)
	const n = 2300
	var file bytes.Buffer
	file.WriteString("name,phone\n")
	for i := range n {
		fmt.Fprintf(&file, "Lead %d,+9198765%05d\n", i, i%2000)
	}
	begun := importOf(t, a.importFile(a.Agent, &file).Is(202))
	require.Equal(t, n, begun.Total)
	stream := a.Do(a.Agent, "GET", "/leads/imports/"+begun.ID+"/events", "").Is(200)
	require.Equal(t, "text/event-stream", stream.Header.Get("Content-Type"))
	require.Contains(t, stream.Body, "event: progress\n")
	require.Contains(t, stream.Body, `"state":"completed"`)
	done := a.awaitImport(a.Agent, begun.ID)
	require.Equal(t, []int{n, 2000, 300, 0}, []int{done.Processed, done.Created, done.Merged, done.Skipped})
	require.Empty(t, done.Rows)
	lines := 0
	for next := "/leads/imports/" + begun.ID + "/rows?limit=500"; next != ""; {
		got := a.Do(a.Agent, "GET", next, "").Is(200)
		lines += strings.Count(got.Body, `"line"`)
		next = got.Next()
	}
	require.Equal(t, n, lines)
	a.Do(a.Agent, "POST", "/leads/imports/"+begun.ID+"/revert", "").Is(http.StatusAccepted)
	require.Equal(t, 2000, a.awaitImport(a.Agent, begun.ID).Reverted)
	require.Empty(t, a.Do(a.Admin, "GET", "/leads", "").IDs())
}
