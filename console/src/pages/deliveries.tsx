import { useLocation, useRoute } from "preact-iso/router";
import { api, ok, paged, type Schema } from "../api";
import { useList, useQuery } from "../query";
import { count, fullTime, when, words } from "../text/text";
import { Badge, Button, Card, Empty, Icon, Loaded, More, PageHead, Select, showError, toast, useTitle } from "../ui/ui";

type Delivery = Schema<"Delivery">;

const tones: Record<Delivery["status"], "good" | "bad" | "warn" | "neutral" | "accent"> = { delivered: "good", dead: "bad", held: "warn", retrying: "accent", pending: "neutral" };
const icons: Record<Delivery["status"], string> = { delivered: "check", dead: "circle-alert", held: "pause", retrying: "refresh-cw", pending: "clock" };
const DeliveryStatus = ({ value }: { value: Delivery["status"] }) => <Badge tone={tones[value]} icon={icons[value]}>{words(value)}</Badge>;

export function Deliveries() {
  useTitle("Deliveries");
  const { query, route } = useLocation();
  const status = query.status ?? "", event = query.event ?? "";
  const go = (change: Record<string, string>) => {
    const next = new URLSearchParams({ status, event, ...change });
    for (const [name, value] of [...next]) if (!value) next.delete(name);
    route(`/console/admin/deliveries${next.size ? "?" + next : ""}`, true);
  };
  const list = useList(`deliveries/list?${status}&${event}`, (cursor) => paged(api.GET("/webhooks/deliveries", { params: { query: { status: status || undefined, event: event || undefined, limit: 50, cursor } as never } })));
  const events = ["transcription.completed", "followup.scheduled", "followup.due", "followup.completed", "lead.imported", "lead.no_answer"];
  return (
    <>
      <PageHead title="Deliveries"><Button icon="refresh-cw" onClick={list.reload}>Refresh</Button></PageHead>
      <form class="filters">
        <Select hidden label="Status" value={status} options={[["", "Any status"], ...["pending", "retrying", "delivered", "held", "dead"].map((s): [string, string] => [s, words(s)])]} onChange={(status) => go({ status })} />
        <Select hidden label="Event" value={event} options={[["", "Any event"], ...events.map((e): [string, string] => [e, e])]} onChange={(event) => go({ event })} />
      </form>
      <Loaded query={list} rows={8}>
        {() => list.items.length ? (
          <Card>
            <ul class="list" aria-label="Deliveries">
              {list.items.map((d) => (
                <li key={d.id}>
                  <a class="row-link" href={`/console/admin/deliveries/${d.id}`}>
                    <span class="grow clip"><span class="row-title clip">{d.event}</span><span class="row-note clip"><time dateTime={d.created_at} title={fullTime(d.created_at)}>{when(d.created_at)}</time> · {count(d.attempts, "attempt")}{d.reason ? ` · ${d.reason}` : ""}</span></span>
                    <DeliveryStatus value={d.status} />
                  </a>
                </li>
              ))}
            </ul>
            <More more={list.more} />
          </Card>
        ) : status || event ? <Empty icon="search" title="No delivery matches"><Button onClick={() => go({ status: "", event: "" })}>Show all</Button></Empty>
          : <Empty icon="send" title="Nothing was sent yet">Every call and follow-up sends a webhook to your automations. Run a call, and its deliveries are here.</Empty>}
      </Loaded>
    </>
  );
}

export function DeliveryPage() {
  const { id } = useRoute().params as { id: string };
  const query = useQuery(`delivery/${id}`, () => ok(api.GET("/webhooks/deliveries/{id}", { params: { path: { id } } })));
  useTitle(query.data?.event ?? "Delivery");
  return (
    <Loaded page="Delivery" query={query} rows={6}>
      {(d) => {
        const payload = d.payload ? JSON.stringify(d.payload, null, 2) : "";
        const copy = () => navigator.clipboard ? navigator.clipboard.writeText(payload).then(() => toast("Copied"), showError) : showError(new Error("This browser copies only over https: select the text instead."));
        return (
          <>
            <PageHead back={{ href: "/console/admin/deliveries", text: "Deliveries" }} title={d.event}><Button icon="refresh-cw" onClick={query.reload}>Refresh</Button></PageHead>
            <p class="facts"><DeliveryStatus value={d.status} /><time dateTime={d.created_at} title={fullTime(d.created_at)}>{when(d.created_at)}</time>{d.reason && <span>{d.reason}</span>}{d.next_attempt_at && <span>next attempt {when(d.next_attempt_at)}</span>}{d.call_id && <a href={`/console/calls/${d.call_id}`}>Open the call</a>}</p>
            <div class="columns">
              <Card title="Attempts" icon="clock">
                {d.attempt_log.length ? (
                  <ol class="timeline">
                    {d.attempt_log.map((a) => {
                      const good = a.status_code !== null && a.status_code >= 200 && a.status_code < 300;
                      return (
                        <li key={a.number}>
                          <span class="timeline-icon"><Icon name={good ? "check" : "circle-alert"} /></span>
                          <div class="grow">
                            <div><Badge tone={good ? "good" : "bad"}>{a.status_code ?? words(a.error)}</Badge> <span class="muted tabular">{a.latency_ms} ms</span></div>
                            <div class="row-note"><time dateTime={a.started_at} title={fullTime(a.started_at)}>{when(a.started_at)}</time>{a.trace_id && <span>trace <code>{a.trace_id}</code></span>}</div>
                            {a.answer && <pre class="answer" tabIndex={0}>{a.answer}</pre>}
                          </div>
                        </li>
                      );
                    })}
                  </ol>
                ) : <p class="quiet">It was not tried yet.</p>}
              </Card>
              <Card title="What is sent" icon="file-audio" actions={payload && <Button kind="quiet" icon="copy" onClick={copy}>Copy</Button>}>
                {payload ? <pre class="answer" tabIndex={0}>{payload}</pre> : <p class="quiet">Nothing yet.</p>}
              </Card>
            </div>
          </>
        );
      }}
    </Loaded>
  );
}
