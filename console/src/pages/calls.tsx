import { useEffect, useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso/router";
import { api, paged } from "../api";
import { useList } from "../query";
import { record, recording } from "../recorder";
import { isAdmin } from "../session";
import { choose } from "../uploads";
import { CallRow, useAgents, useClients } from "../ui/call";
import { Button, Card, Empty, Field, Icon, Loaded, More, PageHead, Select, useTitle } from "../ui/ui";

const pause = 250; // ms after the last key before a search

const filters: { name: string; label: string; options: [string, string][] }[] = [
  { name: "status", label: "Status", options: [["", "Any status"], ["pending", "Pending"], ["transcribing", "Transcribing"], ["completed", "Completed"], ["failed", "Failed"]] },
  { name: "sentiment", label: "Sentiment", options: [["", "Any sentiment"], ["positive", "Positive"], ["neutral", "Neutral"], ["negative", "Negative"]] },
  { name: "call_type", label: "Type", options: [["", "Any type"], ["default", "Default"], ["discovery", "Discovery"], ["followup", "Follow-up"], ["demo", "Demo"]] },
];

const kept = ["q", "status", "sentiment", "call_type", "client_id", "agent_id"]; // of the address

export default function Calls() {
  useTitle("Calls");
  const { query, route } = useLocation();
  const chosen = Object.fromEntries(kept.flatMap((name) => (query[name] ? [[name, query[name]]] : [])));
  const [text, setText] = useState(chosen.q ?? "");
  const timer = useRef(0), search = useRef<HTMLFormElement>(null);
  const set = (name: string, value: string) => {
    const next = new URLSearchParams({ ...chosen, [name]: value });
    if (!value) next.delete(name);
    route(`/console/calls${next.size ? "?" + next : ""}`, true);
  };
  useEffect(() => { if ("search" in query) search.current?.querySelector("input")?.focus(); }, []);
  const list = useList(`calls/list?${new URLSearchParams(chosen)}`, (cursor) => paged(api.GET("/calls", { params: { query: { ...chosen, limit: 50, cursor } as never } })));
  const clients = useClients(), agents = useAgents();
  const isFiltered = Object.keys(chosen).length > 0;
  return (
    <>
      <PageHead title="Calls"><div class="row wrap-row"><Button icon="mic" disabled={Boolean(recording.value)} onClick={() => record()}>Record</Button><Button kind="primary" icon="upload" onClick={() => choose()}>Upload</Button></div></PageHead>
      <form ref={search} class="filters" role="search" onSubmit={(e) => { e.preventDefault(); set("q", text); }}>
        <Field label="Search calls" name="q" type="search" placeholder="Search in transcripts, summaries, titles" maxLength={200} required value={text}
          onInput={(e) => { const value = e.currentTarget.value; setText(value); clearTimeout(timer.current); timer.current = window.setTimeout(() => set("q", value.trim()), pause); }} />
        {filters.map((f) => <Select key={f.name} hidden label={f.label} options={f.options} value={chosen[f.name] ?? ""} onChange={(value) => set(f.name, value)} />)}
        {isAdmin() && <Select hidden label="Agent" value={chosen.agent_id ?? ""} onChange={(value) => set("agent_id", value)} options={[["", "Whole team"], ...(agents.data ?? []).map((a): [string, string] => [a.id, a.full_name])]} />}
      </form>
      <Loaded query={list} rows={8}>
        {() => list.items.length ? (
          <Card>
            <ul class="list" aria-label="Calls">{list.items.map((call) => <CallRow key={call.id} call={call} client={call.client_id ? clients.byId.get(call.client_id)?.name : undefined} />)}</ul>
            <More more={list.more} />
          </Card>
        ) : isFiltered ? (
          <Empty icon="search" title="No call matches"><Button onClick={() => { setText(""); route("/console/calls", true); }}>Show all calls</Button></Empty>
        ) : (
          <button type="button" class="dropzone" onClick={() => choose()}>
            <Icon name="upload" /><strong>Drop recordings here, or choose files</strong><span>mp3, m4a, wav, ogg, webm, flac, aac, amr or 3gp, up to 100 MB</span>
          </button>
        )}
      </Loaded>
    </>
  );
}
