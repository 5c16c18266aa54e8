// Webhook endpoints: where events go outside, their secrets, and a test with what the receiver answers.
import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso/router";
import { api, newKey, ok, paged, type Schema, type Webhook } from "../api";
import { invalidate, useList, useQuery } from "../query";
import { fullTime, when } from "../text/text";
import { Answer, DeliveryRow, eventOptions, eventsOf, groups, HookStatus, hookName, Json } from "../ui/webhook";
import { Badge, Button, Card, Check, Confirm, Dialog, Failure, Field, Icon, Loaded, More, PageHead, Secret, Select, showError, toast, useForm, useTitle } from "../ui/ui";

type Fields = Schema<"WebhookFields">;
type Made = Schema<"WebhookWithSecret">;

const profiles: [Fields["profile"] & string, string][] = [
  ["pabbly", "Pabbly: flat JSON with the same keys every time"], ["pabbly-nested", "Pabbly, nested: event, timestamp, data"], ["standard", "Standard Webhooks: type, timestamp, data"],
];

// A platform that was just started sends to its own inbox: nobody has connected anything yet.
const ofServer = (hook: Webhook) => hook.origin === "environment" && !hook.url.includes("pabbly.com");

export function Webhooks() {
  useTitle("Webhooks");
  const [adding, setAdding] = useState(false);
  const list = useList("webhooks/list", (cursor) => paged(api.GET("/webhooks", { params: { query: { limit: 100, cursor } } })));
  return (
    <>
      <PageHead title="Webhooks"><Button kind="primary" icon="plus" onClick={() => setAdding(true)}>Add a webhook</Button></PageHead>
      <Loaded query={list} rows={4}>
        {() => <>{list.items.length > 0 && (
          <Card class="spaced">
            <ul class="list" aria-label="Webhooks">
              {list.items.map((hook) => (
                <li key={hook.id}>
                  <a class="row-link" href={`/console/admin/webhooks/${hook.id}`}>
                    <span class="grow clip"><span class="row-title clip" dir="auto">{hookName(hook)}</span><span class="row-note clip">{hook.description && `${hook.url} · `}{eventsOf(hook)}</span></span>
                    <HookStatus hook={hook} />
                  </a>
                </li>
              ))}
            </ul>
            <More more={list.more} />
          </Card>
        )}{list.items.every(ofServer) && <PabblySteps onAdd={() => setAdding(true)} />}</>}
      </Loaded>
      {adding && <HookForm onClose={() => setAdding(false)} />}
    </>
  );
}

function PabblySteps({ onAdd }: { onAdd: () => void }) {
  const steps: [string, preact.ComponentChildren, preact.ComponentChildren?][] = [
    ["Make a workflow in Pabbly Connect", <>Choose <b>Webhook by Pabbly</b> as its trigger, and copy the webhook URL that it shows.</>],
    ["Add it here", "Paste the URL and choose what it gets: completed calls, follow-ups, leads, or everything.", <Button kind="primary" icon="plus" onClick={onAdd}>Add a webhook</Button>],
    ["Keep the secret", "It is shown once. A receiver that can check signatures checks them with it; Pabbly, which cannot, asks us whether an event is ours."],
    ["Send a test", "Its page sends a sample of any event. Pabbly captures it, and you map its fields to the next step of the workflow."],
  ];
  return (
    <section aria-labelledby="pabbly">
      <h2 id="pabbly" class="steps-title">Pabbly in 4 steps</h2>
      <ol class="steps">
        {steps.map(([title, text, action], i) => (
          <li key={title} class="card step"><span class="step-icon tabular" aria-hidden="true">{i + 1}</span><div class="grow"><h3>{title}</h3><p>{text}</p></div>{action}</li>
        ))}
      </ol>
    </section>
  );
}

/** HookForm makes a webhook, whose secret it shows once, or changes one. */
function HookForm({ hook, onClose }: { hook?: Webhook; onClose: () => void }) {
  const { route } = useLocation();
  const [key] = useState(newKey);
  const [made, setMade] = useState<Made>();
  const [wanted, setWanted] = useState<ReadonlySet<string>>(new Set(hook?.events ?? ["*"]));
  const fromEnvironment = hook?.origin === "environment";
  const form = useForm(async (v) => {
    const body: Partial<Fields> = {
      description: v.description!, events: [...wanted] as Fields["events"], profile: v.profile as Fields["profile"], rate_limit_per_second: v.rate ? Number(v.rate) : null,
      ...(v.url ? { url: v.url } : {}),
    };
    const saved = hook ? await ok(api.PATCH("/webhooks/{id}", { params: { path: { id: hook.id } }, body })) : await ok(api.POST("/webhooks", { params: { header: { "Idempotency-Key": key } }, body: body as Fields }));
    invalidate("webhook");
    if (hook) onClose();
    else setMade(saved);
  });
  if (made) return <ShowSecret made={made} onClose={() => { onClose(); route(`/console/admin/webhooks/${made.id}`); }} />;
  return (
    <Dialog title={hook ? "Change the webhook" : "Add a webhook"} onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {form.general}
        {!fromEnvironment && <Field label="URL" name="url" type="url" required={!hook} maxLength={2000} placeholder="https://connect.pabbly.com/workflow/sendwebhookdata/…" error={form.fields.url}
          hint={hook ? `Now at ${hook.url} Leave it empty to keep it: the rest of the address is secret.` : "The whole address is secret, like a password."} />}
        <Field label="Name" name="description" maxLength={200} value={hook?.description ?? ""} error={form.fields.description} hint="What tells it from the others." />
        <Events wanted={wanted} onChange={setWanted} error={form.fields.events} />
        <Select label="Form of the payload" name="profile" value={hook?.profile ?? "pabbly"} options={profiles} />
        <Field label="Requests per second, at most" name="rate" type="number" min={1} max={1000} value={hook?.rate_limit_per_second ?? ""} error={form.fields.rate_limit_per_second} hint="Empty: no limit." />
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy} disabled={wanted.size === 0}>{hook ? "Save" : "Add the webhook"}</Button></div>
      </form>
    </Dialog>
  );
}

function Events({ wanted, onChange, error }: { wanted: ReadonlySet<string>; onChange: (wanted: ReadonlySet<string>) => void; error?: string }) {
  const flip = (name: string, without: string[] = []) => {
    const next = new Set(wanted);
    if (!next.delete(name)) next.add(name);
    for (const covered of without) next.delete(covered);
    onChange(next);
  };
  const everything = wanted.has("*");
  return (
    <fieldset class="field choices">
      <legend>Events</legend>
      <Check label="Everything" checked={everything} onChange={() => onChange(new Set(everything ? [] : ["*"]))} />
      {!everything && groups.map(([all, title, types]) => (
        <div key={all} role="group" aria-label={title}>
          <Check label={<b>{title}: all</b>} checked={wanted.has(all)} onChange={() => flip(all, types)} />
          {!wanted.has(all) && types.length > 1 && types.map((type) => <Check key={type} label={type} value={type} checked={wanted.has(type)} onChange={() => flip(type)} />)}
        </div>
      ))}
      {wanted.size === 0 && <p class="hint">Choose at least one.</p>}
      {error && <p class="field-error">{error}</p>}
    </fieldset>
  );
}

function ShowSecret({ made, onClose }: { made: Made; onClose: () => void }) {
  return (
    <Dialog title="The secret of this webhook" onClose={onClose}>
      {made.secret ? <><p>Copy it now: <b>it is shown only this once.</b> With it a receiver checks that an event is ours. If it is lost, rotate it.</p><Secret value={made.secret} /></>
        : <p>The webhook was made by an earlier attempt, whose answer had the secret and was lost. Rotate the secret on its page to get a new one.</p>}
      <div class="row end"><Button kind="primary" onClick={onClose}>{made.secret ? "I have copied it" : "Go on"}</Button></div>
    </Dialog>
  );
}

export function WebhookPage() {
  const { id } = useRoute().params as { id: string };
  const query = useQuery(`webhook/${id}`, () => ok(api.GET("/webhooks/{id}", { params: { path: { id } } })));
  useTitle(query.data ? hookName(query.data) : "Webhook");
  return <Loaded page="Webhook" back={{ href: "/console/admin/webhooks", text: "Webhooks" }} query={query} rows={6}>{(hook) => <OneWebhook key={hook.id} hook={hook} />}</Loaded>;
}

function OneWebhook({ hook }: { hook: Webhook }) {
  const { route } = useLocation();
  const [dialog, setDialog] = useState<"edit" | "delete" | "rotate" | null>(null);
  const [busy, setBusy] = useState(false);
  const close = () => setDialog(null);
  const fromEnvironment = hook.origin === "environment";
  const enable = (enabled: boolean) => {
    setBusy(true);
    ok(api.PATCH("/webhooks/{id}", { params: { path: { id: hook.id } }, body: { enabled } }))
      .then(() => { invalidate("webhook"); invalidate("deliver"); toast(enabled ? "Resumed. What was held is sent now, the oldest first." : "Paused. Its events are held until you resume it."); }, showError).finally(() => setBusy(false));
  };
  const remove = async () => {
    await ok(api.DELETE("/webhooks/{id}", { params: { path: { id: hook.id } } }));
    invalidate("webhooks");
    route("/console/admin/webhooks");
    toast("Webhook deleted");
  };
  return (
    <>
      <PageHead back={{ href: "/console/admin/webhooks", text: "Webhooks" }} title={<span dir="auto" class="wrap">{hookName(hook)}</span>}>
        <div class="row wrap-row">
          {hook.enabled ? <Button icon="pause" busy={busy} onClick={() => enable(false)}>Pause</Button> : <Button kind="primary" icon="play" busy={busy} onClick={() => enable(true)}>Resume</Button>}
          <Button icon="pencil" onClick={() => setDialog("edit")}>Change</Button>
          {!fromEnvironment && <Button icon="trash-2" aria-label="Delete this webhook" onClick={() => setDialog("delete")} />}
        </div>
      </PageHead>
      <p class="facts"><HookStatus hook={hook} /><span class="wrap">{hook.url}</span><time dateTime={hook.created_at} title={fullTime(hook.created_at)}>since {when(hook.created_at)}</time></p>
      <div class="columns">
        <div class="stack"><Test hook={hook} /><Latest hook={hook} /></div>
        <div class="stack">
          <Card title="What it gets" icon="webhook">
            <ul class="chips" aria-label="Events">{hook.events.map((event) => <li key={event}>{event === "*" ? "Everything" : event}</li>)}</ul>
            <dl class="facts-list">
              <div><dt>Form</dt><dd>{profiles.find(([name]) => name === hook.profile)?.[1]}</dd></div>
              <div><dt>At most</dt><dd>{hook.rate_limit_per_second ? `${hook.rate_limit_per_second} requests a second` : "no limit"}</dd></div>
            </dl>
          </Card>
          <Card title="Secret" icon="key-round" actions={!fromEnvironment && <Button icon="rotate-cw" onClick={() => setDialog("rotate")}>Rotate</Button>}>
            {fromEnvironment ? <p>Its URL and secret are settings of the server: <code>PABBLY_WEBHOOK_URL</code> and <code>PABBLY_WEBHOOK_SECRET</code>. Change them there.</p>
              : <p>It was shown when it was made. If it is lost, or somebody may have seen it, rotate it.</p>}
            {hook.previous_secret_until && new Date(hook.previous_secret_until) > new Date() && <p class="row-note"><Badge tone="warn" icon="clock">Two secrets</Badge> the former one signs too until {when(hook.previous_secret_until)}</p>}
          </Card>
        </div>
      </div>
      {dialog === "edit" && <HookForm hook={hook} onClose={close} />}
      {dialog === "rotate" && <Rotate hook={hook} onClose={close} />}
      {dialog === "delete" && <Confirm title="Delete this webhook?" text="Its URL and secrets are erased, and nothing is sent to it any more. The deliveries that it has had stay in the list. This cannot be undone." action="Delete the webhook" run={remove} onClose={close} />}
    </>
  );
}

function Rotate({ hook, onClose }: { hook: Webhook; onClose: () => void }) {
  const [made, setMade] = useState<Made>();
  const form = useForm(async (v) => {
    setMade(await ok(api.POST("/webhooks/{id}/rotate-secret", { params: { path: { id: hook.id } }, body: { overlap_hours: Number(v.overlap) } })));
    invalidate("webhook");
  });
  if (made) return <ShowSecret made={made} onClose={onClose} />;
  return (
    <Dialog title="Rotate the secret" onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {form.general}
        <p>The new secret signs at once, and is shown once. Meanwhile the former one signs too (header <code>webhook-signature</code>), so that the receiver can change over without refusing anything.</p>
        <Select label="The former secret signs too for" name="overlap" value="24" options={[["24", "a day"], ["1", "an hour"], ["168", "a week"], ["720", "30 days"], ["0", "no time: it may be known to others"]]} />
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy}>Make a new secret</Button></div>
      </form>
    </Dialog>
  );
}

function Test({ hook }: { hook: Webhook }) {
  const [result, setResult] = useState<Schema<"WebhookTestResult">>();
  const form = useForm(async (v) => {
    setResult(undefined);
    setResult(await ok(api.POST("/webhooks/{id}/test", { params: { path: { id: hook.id } }, body: { event: v.event as "followup.due" } })));
  });
  return (
    <Card title="Send a test" icon="send">
      <p class="quiet">A sample with the real shape, marked <code>is_test</code>, is sent once, also while it is paused.</p>
      <form class="row wrap-row test-form" onSubmit={form.onSubmit}>
        <Select hidden label="Event of the test" name="event" value="transcription.completed" options={eventOptions} />
        <Button kind="primary" type="submit" icon="send" busy={form.busy}>{form.busy ? "Waiting for the answer…" : "Send a test"}</Button>
      </form>
      {form.problem && <Failure error={form.problem} />}
      {result && (
        <div class="test-result" role="status">
          <p><b>{result.succeeded ? "The receiver took it." : "The receiver did not take it."}</b></p>
          <Answer of={result} />
          <details><summary>What was sent</summary><Json value={result.payload} label="What was sent" /></details>
        </div>
      )}
    </Card>
  );
}

function Latest({ hook }: { hook: Webhook }) {
  const query = useQuery(`deliveries/of/${hook.id}`, () => ok(api.GET("/webhooks/deliveries", { params: { query: { webhook_id: hook.id, limit: 5 } } })));
  return (
    <Card title="Latest deliveries" icon="inbox" actions={<a href={`/console/admin/deliveries?webhook_id=${hook.id}`}>All of them</a>}>
      <Loaded query={query} rows={2}>{(deliveries) => deliveries.length ? <ul class="list">{deliveries.map((d) => <DeliveryRow key={d.id} delivery={d} />)}</ul> : <p class="quiet"><Icon name="info" /> Nothing yet: an event that it gets makes one.</p>}</Loaded>
    </Card>
  );
}
