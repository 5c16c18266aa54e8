import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso/router";
import { api, ok, paged, type Lead } from "../api";
import { invalidate, useList, useQuery } from "../query";
import { when, words } from "../text/text";
import { choose } from "../uploads";
import { useAgents } from "../ui/call";
import { changeLead, LeadForm, LeadStatus, options, statuses } from "../ui/lead";
import { Timeline } from "../ui/timeline";
import { Button, Card, Confirm, Empty, Loaded, More, PageHead, Select, showError, toast, useTitle } from "../ui/ui";

export default function LeadPage() {
  const { id } = useRoute().params as { id: string };
  const query = useQuery(`lead/${id}`, () => ok(api.GET("/leads/{id}", { params: { path: { id } } })));
  useTitle(query.data?.name ?? "Lead");
  return <Loaded page="Lead" back={{ href: "/console/leads", text: "Leads" }} query={query} rows={6}>{(lead) => <OneLead key={lead.id} lead={lead} />}</Loaded>;
}

function OneLead({ lead }: { lead: Lead }) {
  const { route } = useLocation();
  const [dialog, setDialog] = useState<"edit" | "delete" | null>(null);
  const agents = useAgents();
  const list = useList(`timeline/lead/${lead.id}`, (cursor) => paged(api.GET("/leads/{id}/timeline", { params: { path: { id: lead.id }, query: { limit: 50, cursor } as never } })));
  const path = { params: { path: { id: lead.id } } };
  const done = (text: string) => () => { invalidate("lead"); invalidate("timeline"); invalidate("clients"); toast(text); };
  const remove = async () => {
    await ok(api.DELETE("/leads/{id}", path));
    invalidate("leads");
    route("/console/leads");
    toast("Lead deleted");
  };
  const facts = ([
    ["Phone", <a href={`tel:${lead.phone}`}>{lead.phone}</a>], ["E-mail", lead.email && <a href={`mailto:${lead.email}`}>{lead.email}</a>], ["Campaign", lead.source_campaign], ["Intent", words(lead.intent_category)],
    ["Interest", lead.interest_level && words(lead.interest_level)], ["Course", lead.course_interested_in], ["Objections", lead.objections], ["Next follow-up", lead.next_followup_at && when(lead.next_followup_at)],
    ["Callback", lead.callback_scheduled_at && when(lead.callback_scheduled_at)], ["Last contact", lead.last_contacted_at && when(lead.last_contacted_at)], ["Follow-ups", lead.followup_count || null],
    ["Client", lead.client_id && <a href={`/console/clients/${lead.client_id}`}>Open the client</a>],
    ...Object.entries(lead.extra_data ?? {}).map(([name, value]) => [words(name), String(value)]),
  ] as [string, preact.ComponentChildren][]).filter(([, value]) => value);
  return (
    <>
      <PageHead back={{ href: "/console/leads", text: "Leads" }} title={<span dir="auto">{lead.name}</span>}>
        <div class="row wrap-row">
          <Button kind="primary" icon="upload" onClick={() => choose({ lead_id: lead.id })}>Upload a call</Button>
          <Button icon="phone" onClick={() => ok(api.POST("/leads/{id}/no-answer", path)).then(done("Noted: no answer"), showError)}>No answer</Button>
          {!lead.client_id && <Button icon="user-plus" onClick={() => ok(api.POST("/leads/{id}/convert", path)).then(done("Converted: there is a client now"), showError)}>Convert</Button>}
          <Button icon="pencil" onClick={() => setDialog("edit")}>Change</Button>
          <Button icon="trash-2" aria-label="Delete this lead" onClick={() => setDialog("delete")} />
        </div>
      </PageHead>
      <p class="facts"><LeadStatus value={lead.status} />{lead.status_reason && <span dir="auto">{lead.status_reason}</span>}</p>
      <div class="columns">
        <Card title="Timeline" icon="clock">
          <Loaded query={list}>{() => (list.items.length ? <><Timeline items={list.items} /><More more={list.more} /></> : <Empty icon="clock" title="Nothing has happened yet">Upload the first call with this lead.</Empty>)}</Loaded>
        </Card>
        <Card title="Details" icon="user">
          <Select label="Status" value={lead.status} options={options(statuses.includes(lead.status) ? statuses : [...statuses, lead.status])} onChange={(status) => changeLead(lead.id, { status }).catch(showError)} />
          <Select label="Assigned to" value={lead.assigned_agent_id ?? ""} options={[...(agents.byId.has(lead.assigned_agent_id ?? "-") ? [] : [[lead.assigned_agent_id ?? "", lead.assigned_agent_id ? "Somebody who has left" : "Nobody"] as [string, string]]), ...(agents.data ?? []).map((a): [string, string] => [a.id, a.full_name])]}
            onChange={(agent_id) => ok(api.POST("/leads/{id}/assign", { params: { path: { id: lead.id }, query: { agent_id } } })).then(done("Assigned"), showError)} />
          <dl class="facts-list">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd class="wrap" dir="auto">{value}</dd></div>)}</dl>
          {lead.conversation_summary && <p class="reading" dir="auto">{lead.conversation_summary}</p>}
          {lead.notes && <p class="reading" dir="auto">{lead.notes}</p>}
        </Card>
      </div>
      {dialog === "edit" && <LeadForm lead={lead} onClose={() => setDialog(null)} />}
      {dialog === "delete" && <Confirm title={`Delete ${lead.name}?`} text="Their personal data is erased in the whole platform. This cannot be undone." action="Delete the lead" run={remove} onClose={() => setDialog(null)} />}
    </>
  );
}
