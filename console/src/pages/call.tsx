import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso/router";
import { api, ok, paged, type Call } from "../api";
import { invalidate, useQuery } from "../query";
import { clock, fullTime, percent, when, words } from "../text/text";
import { isWorking, nameOf, Sentiment, Status, stepOf, useAgents, useClients } from "../ui/call";
import { accept, complete, Edit, FollowUpRow, statusOf } from "../ui/followup";
import { useKeys } from "../ui/keys";
import { Player, PlayerBar, type Flag } from "../ui/player";
import { indexAt, speakerOf, Transcript } from "../ui/transcript";
import { Button, Card, Confirm, Dialog, Empty, Field, Icon, Loaded, PageHead, Select, showError, toast, useForm, useTitle } from "../ui/ui";

export default function CallPage() {
  const { id } = useRoute().params as { id: string };
  const query = useQuery(`call/${id}`, () => ok(api.GET("/calls/{id}", { params: { path: { id } } })));
  useTitle(query.data ? nameOf(query.data) : "Call");
  return <Loaded page="Call" back={{ href: "/console/calls", text: "Calls" }} query={query} rows={8}>{(call) => <OneCall key={call.id} call={call} />}</Loaded>;
}

function OneCall({ call }: { call: Call }) {
  const player = useMemo(() => new Player(), []);
  const [dialog, setDialog] = useState<"names" | "link" | "title" | "delete" | "followup" | null>(null);
  const clients = useClients(), agents = useAgents();
  const waveform = useQuery(`waveform/${call.id}/${call.status}`, () => (call.audio_url && call.status === "completed" ? ok(api.GET("/calls/{id}/waveform", { params: { path: { id: call.id } } })) : Promise.resolve(undefined)));
  const followups = useQuery(`followups/call/${call.id}`, () => paged(api.GET("/followups", { params: { query: { call_id: call.id, limit: 100 } } })));
  const segments = call.segments ?? [];
  const roleAt = useCallback((time: number) => {
    const segment = segments[indexAt(segments, time)];
    return segment && time <= segment.end + 0.5 ? speakerOf(call, segment.speaker).role : null;
  }, [call]);
  const evidence = [...(call.evidence ?? [])].sort((a, b) => a.start - b.start);
  const flags: Flag[] = evidence.filter((e) => e.kind !== "next_step").map((e) => ({ start: e.start, kind: e.kind === "objection" ? "objection" : "promise", text: e.claim }));
  const suggested = followups.data?.items.find((f) => statusOf(f) === "suggested");
  const pending = followups.data?.items.find((f) => statusOf(f) === "pending");
  const toQuote = (by: number) => {
    const now = player.time.value, next = by > 0 ? evidence.find((e) => e.start > now + 0.3) : evidence.findLast((e) => e.start < now - 1.5);
    if (next) player.play(next.start);
  };
  useKeys({
    k: () => player.toggle(), j: () => player.seek(player.time.value - 10), l: () => player.seek(player.time.value + 10),
    n: () => toQuote(1), p: () => toQuote(-1), a: () => suggested && accept(suggested), e: () => pending && complete(pending),
  });
  const client = call.client_id ? clients.byId.get(call.client_id) : undefined;
  const agent = agents.byId.get(call.agent_id);
  const labels = Object.keys(call.speakers);
  return (
    <>
      <PageHead back={{ href: "/console/calls", text: "Calls" }} title={<span dir="auto">{nameOf(call)}</span>}>
        <Menu call={call} open={setDialog} />
      </PageHead>
      <p class="facts">
        <Status call={call} /><Sentiment value={call.sentiment} />
        <time dateTime={call.recorded_at} title={fullTime(call.recorded_at)}>{when(call.recorded_at)}</time>
        {call.duration_seconds != null && <span class="tabular">{clock(call.duration_seconds)}</span>}
        {agent && <span>{agent.full_name}</span>}
        {client ? <a href={`/console/clients/${client.id}`} dir="auto">{client.name}</a> : <button type="button" class="link" onClick={() => setDialog("link")}>Link a client</button>}
        {call.pabbly_sent && <span><Icon name="send" /> sent to your automations</span>}
      </p>
      {call.audio_url && <PlayerBar player={player} call={call} peaks={waveform.data} roleAt={roleAt} flags={flags} />}
      {isWorking(call) ? <Working call={call} /> : call.status === "failed" ? <Failed call={call} /> : (
        <div class="call-columns">
          <div class="insights stack">
            <Plainly call={call} />
            <NextStep call={call} query={followups} player={player} onAdd={() => setDialog("followup")} />
            {call.summary && <Card title="Summary" icon="sparkles"><p class="reading" dir="auto">{call.summary}</p>{call.key_topics?.length ? <ul class="chips" aria-label="Topics">{call.key_topics.map((t, i) => <li key={i} dir="auto">{t}</li>)}</ul> : null}</Card>}
            <Quotes title="Promises" icon="flag" kind="action_item" items={call.action_items} call={call} player={player} />
            <Quotes title="Objections" icon="triangle-alert" kind="objection" items={call.objections} call={call} player={player} />
            <Talk call={call} />
            <About call={call} />
          </div>
          {segments.length ? <Transcript call={call} player={player} onNames={labels.length ? () => setDialog("names") : undefined} />
            : call.raw_transcript ? <Card title="Transcript" icon="message-square-text"><p class="reading transcript-plain" dir="auto">{call.raw_transcript}</p></Card> : null}
        </div>
      )}
      {dialog === "names" && <Names call={call} onClose={() => setDialog(null)} />}
      {dialog === "link" && <LinkClient call={call} onClose={() => setDialog(null)} />}
      {dialog === "title" && <Title call={call} onClose={() => setDialog(null)} />}
      {dialog === "followup" && <Edit callId={call.id} onClose={() => setDialog(null)} />}
      {dialog === "delete" && <DeleteCall call={call} onClose={() => setDialog(null)} />}
    </>
  );
}

function Menu({ call, open }: { call: Call; open: (dialog: "link" | "title" | "delete") => void }) {
  return (
    <div class="row wrap-row">
      <Button icon="pencil" onClick={() => open("title")}>Rename</Button>
      <Button icon="link" onClick={() => open("link")}>{call.client_id ? "Change client" : "Link client"}</Button>
      <Button icon="trash-2" aria-label="Delete this call" onClick={() => open("delete")} />
    </div>
  );
}

function Working({ call }: { call: Call }) {
  const [busy, setBusy] = useState(false);
  const cancel = () => {
    setBusy(true);
    ok(api.POST("/calls/{id}/cancel", { params: { path: { id: call.id } } })).then(() => invalidate("call"), showError).finally(() => setBusy(false));
  };
  return (
    <Card class="working-card">
      <div class="stack center" role="status">
        <h2>{stepOf(call)}</h2>
        <progress value={call.progress || undefined} max={1} aria-label="Progress" />
        <p class="muted">{call.status === "pending" ? "It begins in a moment." : `${percent(call.progress)} done.`} This page shows the result by itself; you can leave it.</p>
        <Button busy={busy} onClick={cancel}>Stop</Button>
      </div>
    </Card>
  );
}

const advice: Record<string, string> = {
  audio_unreadable: "The file is damaged or has no sound. Upload the recording again, if you can from the phone that made it.",
  audio_missing: "The recording is not in the storage any more. Upload it again.",
  audio_too_long: "Cut it into parts and upload each.",
  provider_unavailable: "The AI provider does not answer. Try again in a few minutes.",
  provider_quota: "The account at the AI provider has no credit left. An admin has to add some; then try again.",
  provider_rejected: "The AI provider refuses this recording. Try again with the right language, or ask an admin to look at the provider's settings.",
  insights_invalid: "The AI gave no usable answer. Trying again often helps; the transcript is not paid for twice.",
  timeout: "It took too long. Try again.",
  cancelled: "Somebody stopped it. Start it again whenever you like.",
  budget_exceeded: "The month's AI budget is spent. An admin can raise it.",
  interrupted: "The work was interrupted too often. Try again.",
};

function Failed({ call }: { call: Call }) {
  const [busy, setBusy] = useState(false);
  const retry = () => {
    setBusy(true);
    ok(api.POST("/calls/{id}/retry", { params: { path: { id: call.id } }, body: {} })).then(() => { invalidate("call"); }, showError).finally(() => setBusy(false));
  };
  const problem = call.error;
  return (
    <Card class="failed-card">
      <div class="failure" role="alert">
        <Icon name="circle-alert" />
        <div class="grow"><h2>{problem?.message ?? "This call could not be processed"}</h2><p>{advice[problem?.code ?? ""] ?? "Try again. If it fails again, tell your admin the code below."}</p><p class="muted"><code>{problem?.code}</code></p></div>
      </div>
      {call.audio_url && <Button kind="primary" icon="refresh-cw" busy={busy} onClick={retry}>Try again</Button>}
    </Card>
  );
}

/** Plainly says when a completed call has less than it should. */
function Plainly({ call }: { call: Call }) {
  const text: Record<string, string> = {
    no_speech: "No speech was found in this recording, so there is no transcript. You can still play it.",
    too_short: "This recording is too short for a transcript. You can still play it.",
    no_recording: "This call has no recording.",
    partial: `Only ${percent(call.coverage ?? 0)} of the speech was transcribed: some parts could not be understood.`,
  };
  if (!call.outcome || !text[call.outcome]) return null;
  return <div class="note" role="note"><Icon name="info" /><p>{text[call.outcome]}</p></div>;
}

function NextStep({ call, query, player, onAdd }: { call: Call; query: { data?: { items: import("../api").FollowUp[] }; error?: any; reload: () => void }; player: Player; onAdd: () => void }) {
  const quote = call.evidence?.find((e) => e.kind === "next_step");
  const shown = (query.data?.items ?? []).filter((f) => statusOf(f) !== "dismissed");
  return (
    <Card title="Next step" icon="target" class="next-step" actions={<Button kind="quiet" icon="plus" onClick={onAdd}>Add</Button>}>
      {call.next_step ? <p class="lead-text" dir="auto">{call.next_step}</p> : <p class="quiet">The call names no next step.</p>}
      {quote && <Quote quote={quote.quote} start={quote.start} player={player} call={call} />}
      {call.callback_time && <p class="row-note"><Icon name="calendar" /> They asked to be called {when(call.callback_time)}</p>}
      <Loaded query={query} rows={2}>{() => (shown.length ? <ul class="list">{shown.map((f) => <FollowUpRow key={f.id} followUp={f} />)}</ul> : null)}</Loaded>
    </Card>
  );
}

function Quote({ quote, start, player, call }: { quote: string; start: number; player: Player; call: Call }) {
  return (
    <button type="button" class="quote" onClick={() => player.play(start)} disabled={!call.audio_url}>
      <Icon name="play" /><span class="unseen">Play the quote: </span><span class="grow" dir="auto">“{quote}”</span><span class="tabular">{clock(start)}</span>
    </button>
  );
}

function Quotes({ title, icon, kind, items, call, player }: { title: string; icon: string; kind: string; items: string[] | null; call: Call; player: Player }) {
  const evidence = (call.evidence ?? []).filter((e) => e.kind === kind);
  const claims = [...new Set([...(items ?? []), ...evidence.map((e) => e.claim)])];
  if (!claims.length) return null;
  return (
    <Card title={title} icon={icon}>
      <ul class="list claims">
        {claims.map((claim, i) => {
          const quotes = evidence.filter((e) => e.claim === claim);
          return <li key={i}><p dir="auto">{claim}</p>{quotes.map((e, j) => <Quote key={j} quote={e.quote} start={e.start} player={player} call={call} />)}</li>;
        })}
      </ul>
    </Card>
  );
}

function Talk({ call }: { call: Call }) {
  const talk = call.talk, bar = useRef<HTMLDivElement>(null);
  useEffect(() => { if (talk) bar.current?.style.setProperty("--share", `${talk.agent_ratio * 100}%`); }, [talk]);
  if (!talk) return null;
  const facts: [string, string][] = [
    ["Longest turn of the agent", clock(talk.longest_monologue)], ["Questions of the agent", String(talk.questions)], ["Words per minute", String(Math.round(talk.words_per_minute))],
    ["Silence", clock(talk.silence)], ["Turns", String(talk.turns)],
  ];
  return (
    <Card title="Who talked" icon="users">
      <div ref={bar} class="talk-bar" role="img" aria-label={`The agent talked ${percent(talk.agent_ratio)} of the time, the client ${percent(1 - talk.agent_ratio)}`}><span /></div>
      <div class="talk-legend"><span class="agent-text">Agent {percent(talk.agent_ratio)}</span><span class="client-text">Client {percent(1 - talk.agent_ratio)}</span></div>
      <dl class="facts-list">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd class="tabular">{value}</dd></div>)}</dl>
    </Card>
  );
}

function About({ call }: { call: Call }) {
  const facts = ([
    ["Intent", call.intent_category && words(call.intent_category)], ["Interest", call.interest_level && words(call.interest_level)], ["Type", words(call.call_type)],
    ["File", call.audio_filename], ["Transcribed by", call.models.transcription], ["Understood by", call.models.chat], ["Cost", call.cost_usd != null && `$${call.cost_usd.toFixed(4)}`],
  ] as [string, string | null | false][]).filter(([, value]) => value);
  return (
    <Card title="About this call" icon="info">
      <dl class="facts-list">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd class="wrap" dir="auto">{value}</dd></div>)}</dl>
      {call.notes && <p class="reading" dir="auto">{call.notes}</p>}
    </Card>
  );
}

const save = (id: string, body: object) => ok(api.PATCH("/calls/{id}", { params: { path: { id } }, body: body as never })).then(() => invalidate("call"));

function Names({ call, onClose }: { call: Call; onClose: () => void }) {
  const labels = Object.keys(call.speakers);
  const form = useForm(async (v) => {
    await save(call.id, { speakers: Object.fromEntries(labels.map((label, i) => [label, { name: v[`name-${i}`] || null, role: v[`role-${i}`] || null }])) });
    onClose();
    toast("Speakers named");
  });
  return (
    <Dialog title="Name the speakers" onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {form.general}
        {labels.map((label, i) => (
          <div class="pair" key={label}>
            <Field label={`Name of ${label}`} name={`name-${i}`} maxLength={200} value={call.speakers[label]?.name ?? ""} />
            <Select label="Is" name={`role-${i}`} value={call.speakers[label]?.role ?? ""} options={[["agent", "the agent"], ["client", "the client"], ["", "somebody else"]]} />
          </div>
        ))}
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy}>Save</Button></div>
      </form>
    </Dialog>
  );
}

function LinkClient({ call, onClose }: { call: Call; onClose: () => void }) {
  const { data } = useClients();
  const form = useForm(async (v) => { await save(call.id, { client_id: v.client_id || null }); onClose(); });
  return (
    <Dialog title="Whose call is it?" onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {form.general}
        {data && !data.length ? <Empty icon="users" title="You have no clients yet"><a class="button primary" href="/console/clients?new">Add the first client</a></Empty>
          : <Select label="Client" name="client_id" value={call.client_id ?? ""} options={[["", "Nobody"], ...(data ?? []).map((c): [string, string] => [c.id, c.company ? `${c.name}, ${c.company}` : c.name])]} />}
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy}>Save</Button></div>
      </form>
    </Dialog>
  );
}

function Title({ call, onClose }: { call: Call; onClose: () => void }) {
  const form = useForm(async (v) => { await save(call.id, { title: v.title || null, notes: v.notes || null }); onClose(); });
  return (
    <Dialog title="Rename the call" onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {form.general}
        <Field label="Title" name="title" maxLength={200} value={call.title ?? ""} error={form.fields.title} hint="Empty: the title that was found in the call." />
        <Field label="Notes" name="notes" maxLength={10000} value={call.notes ?? ""} error={form.fields.notes} />
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy}>Save</Button></div>
      </form>
    </Dialog>
  );
}

function DeleteCall({ call, onClose }: { call: Call; onClose: () => void }) {
  const { route } = useLocation();
  const run = async () => {
    await ok(api.DELETE("/calls/{id}", { params: { path: { id: call.id } } }));
    invalidate("calls");
    route("/console/calls");
    toast("Call deleted");
  };
  return <Confirm title="Delete this call?" text="The recording and its transcript are gone for good. Nobody can bring them back." action="Delete the call" run={run} onClose={onClose} />;
}
