// What webhook endpoints and their deliveries have in common wherever they are shown.
import { api, ok, type Delivery, type Webhook } from "../api";
import { useQuery } from "../query";
import { count, fullTime, when, words } from "../text/text";
import { Badge } from "./ui";

export const groups: [string, string, string[]][] = [
  ["transcription.*", "Calls", ["transcription.completed", "transcription.failed"]],
  ["followup.*", "Follow-ups", ["followup.scheduled", "followup.due", "followup.completed"]],
  ["lead.*", "Leads", ["lead.imported", "lead.updated", "lead.no_answer", "lead.not_interested", "lead.callback_requested", "lead.interested", "lead.payment_pending", "lead.future_planning", "lead.converted", "lead.wrong_number", "lead.undecided"]],
  ["webhook.*", "Webhooks", ["webhook.endpoint_disabled"]],
];
export const eventTypes = groups.flatMap(([, , types]) => types);
export const eventOptions = eventTypes.map((type): [string, string] => [type, type]);

/** useWebhooks knows the endpoints by id. */
export function useWebhooks() {
  const query = useQuery("webhooks/names", () => ok(api.GET("/webhooks", { params: { query: { limit: 500 } } })));
  return { ...query, byId: new Map((query.data ?? []).map((hook) => [hook.id, hook])) };
}

export const hookName = (hook: Webhook) => hook.description || hook.url;

const disabled: Record<string, string> = {
  paused: "Paused", gone: "Stopped: the receiver answered 410", failing: "Stopped: the receiver has failed for days", not_configured: "Stopped: PABBLY_WEBHOOK_URL is not set any more",
};
export const HookStatus = ({ hook }: { hook: Webhook }) =>
  hook.enabled ? <Badge tone="good" icon="check">Sending</Badge> : <Badge tone="warn" icon="pause">{disabled[hook.disabled_reason ?? ""] ?? "Paused"}</Badge>;

export const eventsOf = (hook: Webhook) => (hook.events.includes("*") ? "all events" : hook.events.length > 2 ? count(hook.events.length, "kind of event", "kinds of events") : hook.events.join(", "));

/** reasons says what a reason of the API means, and what to do. */
export const reasons: Record<string, string> = {
  timeout: "The receiver did not answer within 15 seconds.", dns: "The host of its URL is unknown. Check the URL.", connect: "The receiver refuses connections. Check that it runs.",
  tls: "Its certificate is not valid.", address_refused: "Its address is not on the public internet. The operator can allow it with WEBHOOK_ALLOW_PRIVATE_CIDRS.",
  connection_lost: "The receiver closed the connection before it answered.", secret_invalid: "Its secret cannot be used. Rotate it.", endpoint_paused: "Its endpoint is paused. Resume it, and this is sent.",
  endpoint_gone: "The receiver answered 410: it wants no more. Resume the endpoint, and this is sent.", endpoint_failing: "The receiver has failed for days. Resume the endpoint, and this is sent.",
  endpoint_deleted: "Its endpoint was deleted.", payload_invalid: "The payload could not be made.", canceled: "Its replay was canceled.", erased: "Its data was erased.",
};
export const reasonText = (reason: string) => reasons[reason] ?? (/^status_\d+$/.test(reason) ? `The receiver answered ${reason.slice(7)}.` : words(reason));

const tones: Record<Delivery["status"], "good" | "bad" | "warn" | "neutral" | "accent"> = { delivered: "good", dead: "bad", held: "warn", retrying: "accent", pending: "neutral" };
const icons: Record<Delivery["status"], string> = { delivered: "check", dead: "circle-alert", held: "pause", retrying: "refresh-cw", pending: "clock" };
export const DeliveryStatus = ({ value }: { value: Delivery["status"] }) => <Badge tone={tones[value]} icon={icons[value]}>{words(value)}</Badge>;

export function DeliveryRow({ delivery: d, hook }: { delivery: Delivery; hook?: Webhook }) {
  return (
    <li>
      <a class="row-link" href={`/console/admin/deliveries/${d.id}`}>
        <span class="grow clip">
          <span class="row-title clip">{d.event}</span>
          <span class="row-note clip" dir="auto"><time dateTime={d.created_at} title={fullTime(d.created_at)}>{when(d.created_at)}</time>{hook && ` · ${hookName(hook)}`} · {count(d.attempts, "attempt")}</span>
          {d.status !== "delivered" && d.reason && <span class={`row-next clip ${d.status === "dead" ? "bad-text" : ""}`}>{reasonText(d.reason)}</span>}
        </span>
        <DeliveryStatus value={d.status} />
      </a>
    </li>
  );
}

/** Answer is what a receiver said to one request. */
export function Answer({ of: a }: { of: { status_code: number | null; error: string | null; latency_ms: number; answer: string } }) {
  const good = a.status_code !== null && a.status_code >= 200 && a.status_code < 300;
  return (
    <>
      <div><Badge tone={good ? "good" : "bad"} icon={good ? "check" : "circle-alert"}>{a.status_code ?? "No answer"}</Badge> <span class="muted tabular">after {a.latency_ms} ms</span></div>
      {a.error && <p class="row-note">{reasonText(a.error)}</p>}
      {a.answer && <pre class="answer" tabIndex={0} role="group" aria-label="The receiver's answer"><bdi>{a.answer}</bdi></pre>}
    </>
  );
}

export function Json({ value, label }: { value: unknown; label: string }) {
  return <pre class="answer" tabIndex={0} role="group" aria-label={label}>{JSON.stringify(value, null, 2)}</pre>;
}

