// What was sent to webhooks, each attempt with its answer, and how it is sent again.
import { useMemo, useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso/router";
import { api, newKey, ok, paged, type Schema } from "../api";
import { invalidate, useList, useQuery } from "../query";
import { count, fullTime, when, words } from "../text/text";
import { Answer, DeliveryRow, DeliveryStatus, eventOptions, hookName, Json, reasonText, useWebhooks } from "../ui/webhook";
import { Button, Card, copy, Dialog, Empty, Failure, Field, Icon, Loaded, More, PageHead, Select, showError, toast, useTitle } from "../ui/ui";

type Filter = Omit<Schema<"ReplayFilter">, "dry_run">;

const kept = ["status", "event", "webhook_id", "replay_id", "call_id"]; // of the address
const path = "/console/admin/deliveries";

export function Deliveries() {
  useTitle("Deliveries");
  const { query, route } = useLocation();
  const [replaying, setReplaying] = useState(false);
  const chosen = Object.fromEntries(kept.flatMap((name) => (query[name] ? [[name, query[name]]] : []))) as Record<string, string>;
  const set = (name: string, value: string) => {
    const next = new URLSearchParams({ ...chosen, [name]: value });
    if (!value) next.delete(name);
    route(`${path}${next.size ? "?" + next : ""}`, true);
  };
  const list = useList(`deliveries/list?${new URLSearchParams(chosen)}`, (cursor) => paged(api.GET("/webhooks/deliveries", { params: { query: { ...chosen, limit: 50, cursor } as never } })));
  const hooks = useWebhooks();
  const endpoints = (hooks.data ?? []).map((hook): [string, string] => [hook.id, hookName(hook)]);
  return (
    <>
      <PageHead title="Deliveries">
        <div class="row wrap-row"><Button icon="refresh-cw" onClick={list.reload}>Refresh</Button><Button icon="rotate-ccw" onClick={() => setReplaying(true)}>Replay…</Button></div>
      </PageHead>
      <form class="filters">
        <Select hidden label="Status" value={chosen.status ?? ""} options={[["", "Any status"], ...["pending", "retrying", "delivered", "held", "dead"].map((s): [string, string] => [s, words(s)])]} onChange={(value) => set("status", value)} />
        <Select hidden label="Event" value={chosen.event ?? ""} options={[["", "Any event"], ...eventOptions]} onChange={(value) => set("event", value)} />
        <Select hidden label="Webhook" value={chosen.webhook_id ?? ""} options={[["", "Any webhook"], ...endpoints]} onChange={(value) => set("webhook_id", value)} />
      </form>
      {chosen.replay_id && <div class="note" role="note"><Icon name="rotate-ccw" /><p class="grow">These are of one replay. <a href={path}>Show all</a></p><CancelReplay id={chosen.replay_id} /></div>}
      <Loaded query={list} rows={8}>
        {() => list.items.length ? (
          <Card>
            <ul class="list" aria-label="Deliveries">{list.items.map((d) => <DeliveryRow key={d.id} delivery={d} hook={hooks.byId.get(d.webhook_id)} />)}</ul>
            <More more={list.more} />
          </Card>
        ) : Object.keys(chosen).length ? <Empty icon="search" title="No delivery matches"><Button onClick={() => route(path, true)}>Show all</Button></Empty>
          : <Empty icon="send" title="Nothing was sent yet"><p>Every call and follow-up is sent to your webhooks. Send a test event from the page of a webhook.</p><a class="button primary" href="/console/admin/webhooks">Go to the webhooks</a></Empty>}
      </Loaded>
      {replaying && <Replay filter={{ status: chosen.status === "delivered" ? "delivered" : "dead", event: chosen.event, webhook_id: chosen.webhook_id }} endpoints={endpoints} onClose={() => setReplaying(false)} />}
    </>
  );
}

function CancelReplay({ id }: { id: string }) {
  const [busy, setBusy] = useState(false);
  const cancel = () => {
    setBusy(true);
    ok(api.POST("/webhooks/deliveries/replays/{id}/cancel", { params: { path: { id } } }))
      .then(({ count: n }) => { invalidate("deliver"); toast(n ? `${count(n, "delivery", "deliveries")} canceled` : "All of them had been sent already"); }, showError).finally(() => setBusy(false));
  };
  return <Button icon="x" busy={busy} onClick={cancel}>Cancel the replay</Button>;
}

const moment = (local: string) => (local ? new Date(local).toISOString() : undefined);

/** Replay counts what matches before it sends anything again. */
function Replay({ filter, endpoints, onClose }: { filter: Filter; endpoints: [string, string][]; onClose: () => void }) {
  const { route } = useLocation();
  const [chosen, setChosen] = useState<Filter>(filter);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<any>();
  const [done, setDone] = useState<Schema<"Replayed">>();
  const what = JSON.stringify(chosen), key = useMemo(newKey, [what]);
  const post = (dry_run: boolean) => ok(api.POST("/webhooks/deliveries/replay", { params: { header: dry_run ? {} : { "Idempotency-Key": key } }, body: { ...chosen, dry_run } }));
  const counted = useQuery(`replay/${what}`, () => post(true));
  const set = (name: keyof Filter, value?: string) => setChosen({ ...chosen, [name]: value || undefined });
  const send = () => {
    setBusy(true);
    setProblem(undefined);
    post(false).then((made) => { setDone(made); invalidate("deliver"); }, setProblem).finally(() => setBusy(false));
  };
  if (done) {
    return (
      <Dialog title="Replay" onClose={onClose}>
        <p role="status">{count(done.count, "delivery waits", "deliveries wait")} to be sent again, at the rate of each webhook.</p>
        <div class="row end">
          {done.replay_id && <CancelReplay id={done.replay_id} />}
          <Button kind="primary" onClick={() => { onClose(); if (done.replay_id) route(`${path}?replay_id=${done.replay_id}`); }}>Show them</Button>
        </div>
      </Dialog>
    );
  }
  const n = counted.data?.count, waiting = counted.loading || n === undefined;
  return (
    <Dialog title="Send deliveries again" onClose={onClose}>
      <p>With the same payload and event_id, so that a receiver that keeps them takes none twice.</p>
      <Select label="Which" value={chosen.status ?? ""} options={[["dead", "Dead: every attempt failed"], ["delivered", "Delivered"], ["", "Both"]]} onChange={(value) => set("status", value)} />
      <Select label="Event" value={chosen.event ?? ""} options={[["", "Any event"], ...eventOptions]} onChange={(value) => set("event", value)} />
      <Select label="Webhook" value={chosen.webhook_id ?? ""} options={[["", "Any webhook"], ...endpoints]} onChange={(value) => set("webhook_id", value)} />
      <div class="pair even">
        <Field label="Created from" name="from" type="datetime-local" onChange={(e) => set("from", moment(e.currentTarget.value))} />
        <Field label="and before" name="to" type="datetime-local" onChange={(e) => set("to", moment(e.currentTarget.value))} />
      </div>
      {(problem ?? counted.error) ? <Failure error={problem ?? counted.error} retry={problem ? undefined : counted.reload} />
        : <p class="lead-text" role="status">{waiting ? "Counting…" : n ? `${count(n, "delivery matches", "deliveries match")} and would be sent again.` : "Nothing matches."}</p>}
      <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" icon="rotate-ccw" busy={busy} disabled={waiting || !n || Boolean(counted.error)} onClick={send}>{n && !waiting ? `Send ${n.toLocaleString()} again` : "Send again"}</Button></div>
    </Dialog>
  );
}

export function DeliveryPage() {
  const { id } = useRoute().params as { id: string };
  const query = useQuery(`delivery/${id}`, () => ok(api.GET("/webhooks/deliveries/{id}", { params: { path: { id } } })));
  useTitle(query.data?.event ?? "Delivery");
  return <Loaded page="Delivery" back={{ href: "/console/admin/deliveries", text: "Deliveries" }} query={query} rows={6}>{(d) => <OneDelivery key={d.id} d={d} reload={query.reload} />}</Loaded>;
}

// A shell takes everything in single quotes as it is, but for the quote itself.
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

const curlOf = (d: Schema<"DeliveryDetail">) =>
  [`curl ${quoted("YOUR_WEBHOOK_URL")}`, `-H 'Content-Type: application/json'`, `-H 'X-Pabbly-Event: ${d.event}'`, `-H 'webhook-id: ${d.event_id}'`, `--data-raw ${quoted(JSON.stringify(d.payload))}`].join(" \\\n  ");

function OneDelivery({ d, reload }: { d: Schema<"DeliveryDetail">; reload: () => void }) {
  const { route } = useLocation();
  const [busy, setBusy] = useState(false);
  const [key] = useState(newKey);
  const hooks = useWebhooks(), hook = hooks.byId.get(d.webhook_id);
  const redeliver = () => {
    setBusy(true);
    ok(api.POST("/webhooks/deliveries/{id}/redeliver", { params: { path: { id: d.id }, header: { "Idempotency-Key": key } } }))
      .then((made) => { invalidate("deliver"); toast("It is sent again as a new delivery."); route(`${path}?replay_id=${made.replay_id}`); }, showError).finally(() => setBusy(false));
  };
  return (
    <>
      <PageHead back={{ href: path, text: "Deliveries" }} title={d.event}>
        <div class="row wrap-row">
          <Button icon="refresh-cw" onClick={reload}>Refresh</Button>
          {(d.status === "delivered" || d.status === "dead") && hook && <Button kind={d.status === "dead" ? "primary" : "plain"} icon="rotate-ccw" busy={busy} onClick={redeliver}>Send again</Button>}
        </div>
      </PageHead>
      <p class="facts">
        <DeliveryStatus value={d.status} />
        <time dateTime={d.created_at} title={fullTime(d.created_at)}>{when(d.created_at)}</time>
        {hook ? <a href={`/console/admin/webhooks/${hook.id}`} dir="auto">{hookName(hook)}</a> : hooks.data && <span>its webhook was deleted</span>}
        {d.next_attempt_at && <span title={fullTime(d.next_attempt_at)}>next attempt {when(d.next_attempt_at)}</span>}
        {d.call_id && <a href={`/console/calls/${d.call_id}`}>Open the call</a>}
        {d.replay_of && <a href={`${path}/${d.replay_of}`}>repeats an earlier one</a>}
      </p>
      {d.status !== "delivered" && d.reason && <div class="note" role="note"><Icon name="info" /><p>{reasonText(d.reason)}</p></div>}
      <div class="columns">
        <Card title="Attempts" icon="clock">
          {d.attempt_log.length ? (
            <ol class="timeline">
              {d.attempt_log.map((a) => (
                <li key={a.number}>
                  <span class="timeline-icon tabular" aria-hidden="true">{a.number}</span>
                  <div class="grow">
                    <Answer of={a} />
                    <div class="row-note"><time dateTime={a.started_at} title={fullTime(a.started_at)}>{when(a.started_at)}</time>{a.trace_id && <span class="wrap">trace <code>{a.trace_id}</code></span>}</div>
                  </div>
                </li>
              ))}
            </ol>
          ) : <p class="quiet">It was not tried yet.</p>}
        </Card>
        <Card title="What is sent" icon="file-audio" actions={d.payload && <div class="row"><Button kind="quiet" icon="copy" onClick={() => copy(JSON.stringify(d.payload, null, 2))}>Copy</Button><Button kind="quiet" icon="copy" onClick={() => copy(curlOf(d))}>Copy as curl</Button></div>}>
          {d.payload ? <Json value={d.payload} label="What is sent" /> : <p class="quiet">Nothing yet.</p>}
        </Card>
      </div>
    </>
  );
}
