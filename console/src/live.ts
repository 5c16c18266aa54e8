// Live updates: one stream of events for the whole tab, closed while the tab is hidden, because an HTTP/1.1 origin has room for six.
import { renew, type Call, type Page, type Schema } from "./api";
import { invalidate, update } from "./query";
import { expired, session } from "./session";

type Change = Schema<"CallChange">;

let stream: EventSource | undefined;
let again = 0;
const afterCompletion = [700, 2500, 7000]; // ms: crm receives a call a moment later, and then suggests follow-ups
const planned = new Map<number, boolean>(); // of these, and whether another call has ended since

function connect() {
  stream?.close();
  clearTimeout(again);
  stream = undefined;
  if (document.hidden || !session.value?.agent) return;
  const opened = (stream = new EventSource("/events"));
  opened.addEventListener("reset", () => { invalidate("calls"); invalidate("call/"); invalidate("followups"); });
  opened.addEventListener("call", (event) => apply(JSON.parse(event.data)));
  opened.addEventListener("deleted", () => invalidate("calls"));
  opened.onerror = () => {
    if (opened.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
    again = window.setTimeout(() => renew().then((ok) => ok && connect(), connect), 3000);
  };
}

function apply(change: Change) {
  const { id, status, outcome, error, progress, step, updated_at } = change;
  const patch = { status, outcome, error, progress, step, updated_at } as Partial<Call>;
  update<Call>("call/" + id, (call) => (call.id === id ? { ...call, ...patch } : call));
  let known = false;
  update<Page<Call>>("calls", (page) => {
    if (!page.items?.some((call) => call.id === id)) return page;
    known = true;
    return { ...page, items: page.items.map((call) => (call.id === id ? { ...call, ...patch } : call)) };
  });
  const ended = status === "completed" || status === "failed";
  if (!known || ended || change.deleted) invalidate("calls");
  if (ended) {
    invalidate("call/" + id);
    afterCompletion.forEach(refreshAfter);
  }
}

/** refreshAfter loads what a call that has ended changes elsewhere, once for all calls that end during the wait: a team ends many at once. */
function refreshAfter(wait: number) {
  if (planned.has(wait)) { planned.set(wait, true); return; }
  planned.set(wait, false);
  setTimeout(() => {
    for (const key of ["followups", "timeline", "deliver"]) invalidate(key);
    const again = planned.get(wait);
    planned.delete(wait);
    if (again) refreshAfter(wait);
  }, wait);
}

/** start follows the session and the visibility of the tab. */
export function start() {
  document.addEventListener("visibilitychange", connect);
  addEventListener("online", connect);
  expired.subscribe((now) => { if (!now) connect(); });
  let agent: string | undefined;
  session.subscribe((now) => {
    if (now?.agent?.id === agent) return;
    agent = now?.agent?.id;
    connect();
  });
}
