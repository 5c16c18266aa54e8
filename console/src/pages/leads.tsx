import { useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso/router";
import { api, paged, problemOf, send, type Lead } from "../api";
import { invalidate, useList } from "../query";
import { count, when, words } from "../text/text";
import { useAgents } from "../ui/call";
import { bulk, changeLead, LeadForm, LeadLink, options, statuses } from "../ui/lead";
import { Button, Card, Confirm, Dialog, Empty, Failure, Field, Icon, Loaded, More, PageHead, Select, showError, toast, useTitle } from "../ui/ui";

const pause = 250; // ms after the last key before a search
const onBoard = 200; // leads of the board; the table has all
const kept = ["q", "status", "assigned_agent_id", "untouched_since", "sort"];

export default function Leads() {
  useTitle("Leads");
  const { query, route } = useLocation();
  const board = query.view === "board";
  const chosen = Object.fromEntries(kept.flatMap((name) => (query[name] ? [[name, query[name]]] : [])));
  const [text, setText] = useState(chosen.q ?? "");
  const [dialog, setDialog] = useState<"add" | "import" | null>(null);
  const timer = useRef(0), agents = useAgents();
  const go = (change: Record<string, string>) => {
    const next = new URLSearchParams({ ...(board ? { view: "board" } : {}), ...chosen, ...change });
    for (const [name, value] of [...next]) if (!value) next.delete(name);
    route(`/console/leads${next.size ? "?" + next : ""}`, true);
  };
  const all = () => { setText(""); go(Object.fromEntries(kept.map((name) => [name, ""]))); };
  const list = useList(`leads/list?${board}${new URLSearchParams(chosen)}`, (cursor) => paged(api.GET("/leads", { params: { query: { ...chosen, limit: board ? onBoard : 50, cursor } as never } })));
  return (
    <>
      <PageHead title="Leads">
        <div class="row wrap-row">
          <div class="segments" role="group" aria-label="View">
            <a href={`/console/leads`} aria-current={board ? undefined : "page"}>Table</a><a href="/console/leads?view=board" aria-current={board ? "page" : undefined}>Board</a>
          </div>
          <Button icon="upload" onClick={() => setDialog("import")}>Import</Button>
          <Button kind="primary" icon="user-plus" onClick={() => setDialog("add")}>Add lead</Button>
        </div>
      </PageHead>
      <form class="filters" role="search" onSubmit={(e) => { e.preventDefault(); go({ q: text.trim() }); }}>
        <Field label="Search leads" name="q" type="search" placeholder="Name, phone, e-mail or campaign" maxLength={200} required value={text}
          onInput={(e) => { const value = e.currentTarget.value; setText(value); clearTimeout(timer.current); timer.current = window.setTimeout(() => go({ q: value.trim() }), pause); }} />
        {!board && <Select hidden label="Status" value={chosen.status ?? ""} options={[["", "Any status"], ...options(statuses)]} onChange={(status) => go({ status })} />}
        <Select hidden label="Agent" value={chosen.assigned_agent_id ?? ""} options={[["", "Anybody's"], ...(agents.data ?? []).map((a): [string, string] => [a.id, a.full_name])]} onChange={(assigned_agent_id) => go({ assigned_agent_id })} />
      </form>
      {chosen.untouched_since && <div class="note spaced" role="note"><Icon name="info" /><p class="grow">Only open leads without a contact since {when(chosen.untouched_since)}.</p><Button onClick={all}>Show all leads</Button></div>}
      <Loaded query={list} rows={8}>
        {() => list.items.length === 0 ? (
          Object.keys(chosen).length ? <Empty icon="search" title="No lead matches"><Button onClick={all}>Show all leads</Button></Empty>
            : <Empty icon="target" title="No leads yet"><p>Import them from a CSV file, or let Pabbly send them to <code>POST /leads/inbound</code>, signed with <code>PABBLY_INBOUND_SECRET</code>.</p><Button kind="primary" icon="upload" onClick={() => setDialog("import")}>Import a CSV file</Button></Empty>
        ) : board ? <Board leads={list.items} more={Boolean(list.more)} /> : <Table leads={list.items} more={list.more} />}
      </Loaded>
      {dialog === "add" && <LeadForm onClose={() => setDialog(null)} />}
      {dialog === "import" && <Import onClose={() => setDialog(null)} />}
    </>
  );
}

function Table({ leads, more }: { leads: Lead[]; more?: () => Promise<void> }) {
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [deleting, setDeleting] = useState(false);
  const agents = useAgents();
  const pick = (id: string) => { const next = new Set(picked); if (!next.delete(id)) next.add(id); setPicked(next); };
  const all = picked.size === leads.length;
  const apply = async (change: object) => {
    const result = await bulk([...picked], change);
    setPicked(new Set());
    toast(result.failed ? `${count(result.failed, "lead")} could not be changed: ${result.errors[0]}` : `${count(result.updated + result.deleted, "lead")} changed`, { tone: result.failed ? "bad" : "neutral" });
  };
  const then = (change: object) => apply(change).catch(showError);
  return (
    <Card>
      <div class="bulk row wrap-row" role="toolbar" aria-label="Change the chosen leads">
        <label class="check"><input type="checkbox" checked={all} onChange={() => setPicked(all ? new Set() : new Set(leads.map((l) => l.id)))} /> {picked.size ? count(picked.size, "lead") + " chosen" : "Choose all"}</label>
        {picked.size > 0 && (
          <>
            <Select hidden label="Set status of the chosen" value="" options={[["", "Set status…"], ...options(statuses)]} onChange={(status) => status && then({ action: "change_status", status })} />
            <Select hidden label="Assign the chosen" value="" options={[["", "Assign to…"], ...(agents.data ?? []).filter((a) => a.is_active).map((a): [string, string] => [a.id, a.full_name])]} onChange={(agent_id) => agent_id && then({ action: "assign", agent_id })} />
            <Button icon="trash-2" onClick={() => setDeleting(true)}>Delete</Button>
          </>
        )}
      </div>
      <ul class="list" aria-label="Leads">
        {leads.map((lead) => (
          <li key={lead.id} class="row lead-row">
            <label class="check"><input type="checkbox" aria-label={`Choose ${lead.name}`} checked={picked.has(lead.id)} onChange={() => pick(lead.id)} /></label>
            <LeadLink lead={lead} note={[lead.phone, lead.source_campaign, lead.assigned_agent_id && agents.byId.get(lead.assigned_agent_id)?.full_name, lead.next_followup_at && `follow up ${when(lead.next_followup_at)}`]} />
          </li>
        ))}
      </ul>
      <More more={more} />
      {deleting && <Confirm title={`Delete ${count(picked.size, "lead")}?`} text="Their personal data is erased in the whole platform. This cannot be undone." action="Delete" run={() => apply({ action: "delete" })} onClose={() => setDeleting(false)} />}
    </Card>
  );
}

function Board({ leads, more }: { leads: Lead[]; more: boolean }) {
  const [moved, setMoved] = useState<Record<string, string>>({}); // until the list is loaded again
  const [over, setOver] = useState("");
  const statusOf = (lead: Lead) => moved[lead.id] ?? lead.status;
  const stages = [...statuses, ...new Set(leads.map((l) => l.status).filter((s) => !statuses.includes(s)))];
  const move = (id: string, status: string) => {
    setMoved((m) => ({ ...m, [id]: status }));
    changeLead(id, { status }).then(() => toast(`Moved to ${words(status)}`), (error) => { setMoved(({ [id]: _, ...rest }) => rest); showError(error); });
  };
  return (
    <>
      <div class="board" role="group" aria-label="Leads by status" tabIndex={0}>
        {stages.map((stage) => {
          const here = leads.filter((lead) => statusOf(lead) === stage);
          return (
            <section key={stage} class={`stage ${over === stage ? "over" : ""}`} data-stage={stage} aria-label={words(stage)}
              onDragOver={(e) => { if (e.dataTransfer?.types.includes("text/lead")) { e.preventDefault(); setOver(stage); } }}
              onDragLeave={() => setOver("")}
              onDrop={(e) => { const id = e.dataTransfer?.getData("text/lead"); setOver(""); if (id) { e.preventDefault(); move(id, stage); } }}>
              <h2>{words(stage)} <span class="muted tabular">{here.length}</span></h2>
              {here.map((lead) => (
                <article key={lead.id} class="lead-card" data-id={lead.id} draggable onDragStart={(e) => e.dataTransfer!.setData("text/lead", lead.id)}>
                  <a href={`/console/leads/${lead.id}`} class="row-title clip" dir="auto" draggable={false}>{lead.name}</a>
                  <div class="row-note clip">{lead.source_campaign ?? lead.phone}</div>
                  <Select hidden label={`Status of ${lead.name}`} value={statusOf(lead)} options={options(stages)} onChange={(status) => move(lead.id, status)} />
                </article>
              ))}
            </section>
          );
        })}
      </div>
      {more && <p class="quiet">The board shows {onBoard} leads. Search, or use the table for all.</p>}
    </>
  );
}

interface ImportResult { total: number; created: number; updated: number; merged: number; skipped: number; dry_run: boolean; rows: { line: number; result: string; reason: string | null }[] }

/** Import always shows what would happen before it happens. */
function Import({ onClose }: { onClose: () => void }) {
  const [file, setFile] = useState<File>();
  const [result, setResult] = useState<ImportResult>();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<any>();
  const run = async (chosen: File, dry: boolean) => {
    setBusy(true);
    setProblem(undefined);
    try {
      const form = new FormData();
      form.append("dry_run", String(dry));
      form.append("file", chosen, chosen.name);
      const response = await send(new Request("/leads/import", { method: "POST", body: form }));
      if (!response.ok) throw await problemOf(response);
      setResult(await response.json());
      if (!dry) invalidate("lead");
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  const would = result?.dry_run;
  const skipped = result?.rows.filter((row) => row.result === "skipped") ?? [];
  return (
    <Dialog class="wide" title="Import leads" onClose={onClose}>
      <p>A CSV file with a header line. Columns such as <code>name</code>, <code>phone</code>, <code>email</code> and <code>campaign</code> are recognised; the others are kept as extra data. A known phone number is merged.</p>
      {problem && <Failure error={problem} />}
      {!result?.rows || would ? <div class="field"><label for="csv">CSV file</label><input id="csv" type="file" accept=".csv,text/csv" onChange={(e) => { const chosen = e.currentTarget.files?.[0]; setFile(chosen); setResult(undefined); if (chosen) run(chosen, true); }} /></div> : null}
      {busy && <progress aria-label="Reading the file" />}
      {result && (
        <>
          <p class="lead-text" role="status">{would ? "This would happen: " : "Done: "}{count(result.created, "lead")} created, {result.updated + result.merged} merged or updated, {result.skipped} skipped of {count(result.total, "row")}.</p>
          {skipped.length > 0 && <ul class="list skipped">{skipped.slice(0, 50).map((row) => <li key={row.line}><span class="tabular">line {row.line}</span>: {row.reason}</li>)}</ul>}
        </>
      )}
      <div class="row end">
        <Button onClick={onClose}>{result && !would ? "Close" : "Cancel"}</Button>
        {would && <Button kind="primary" busy={busy} disabled={result.created + result.updated + result.merged === 0} onClick={() => run(file!, false)}>Import {count(result.total - result.skipped, "lead")}</Button>}
      </div>
    </Dialog>
  );
}
