// How a call is shown wherever it appears.
import { api, ok, type CallSummary } from "../api";
import { useQuery } from "../query";
import { clock, fullTime, marks, percent, when, words } from "../text/text";
import { Badge, Icon } from "./ui";

const steps: Record<string, string> = { waiting: "Waiting for the AI provider", prepare: "Preparing the audio", transcribe: "Transcribing", analyse: "Finding what was said and promised" };

export const stepOf = (call: CallSummary) => (call.status === "pending" ? "Waiting for its turn" : steps[call.step ?? ""] ?? "Working");
export const isWorking = (call: CallSummary) => call.status === "pending" || call.status === "transcribing";

export const nameOf = (call: CallSummary) => call.title ?? call.audio_filename ?? (call.call_tag === "connected" ? "Call without a recording" : words(call.call_tag));

const outcomes: Record<string, string> = { no_speech: "No speech", too_short: "Too short", no_recording: "No recording", partial: "Partly transcribed" };

export function Status({ call }: { call: CallSummary }) {
  if (call.status === "failed") return <Badge tone="bad" icon="circle-alert">Failed</Badge>;
  if (call.status === "pending") return <Badge tone="neutral" icon="clock">Pending</Badge>;
  if (call.status === "transcribing") return <Badge tone="accent" icon="sparkles">Transcribing {percent(call.progress)}</Badge>;
  if (call.outcome && outcomes[call.outcome]) return <Badge tone="warn" icon="info">{outcomes[call.outcome]}</Badge>;
  return <Badge tone="good" icon="check">Completed</Badge>;
}

const moods: Record<string, { tone: "good" | "neutral" | "bad" }> = { positive: { tone: "good" }, neutral: { tone: "neutral" }, negative: { tone: "bad" } };

export const Sentiment = ({ value }: { value: string | null }) => (value ? <Badge tone={moods[value]?.tone ?? "neutral"}>{words(value)}</Badge> : null);

/** useClients knows the clients by id. */
export function useClients() {
  const query = useQuery("clients/names", () => ok(api.GET("/clients", { params: { query: { limit: 500 } } })));
  return { ...query, byId: new Map((query.data ?? []).map((client) => [client.id, client])) };
}

/** useAgents knows the team by id. */
export function useAgents() {
  const query = useQuery("agents/names", () => ok(api.GET("/agents", { params: { query: { limit: 500 } } })));
  return { ...query, byId: new Map((query.data ?? []).map((agent) => [agent.id, agent])) };
}

export function CallRow({ call, client }: { call: CallSummary; client?: string }) {
  return (
    <li class="call-row">
      <a href={`/console/calls/${call.id}`} class="row-link">
        <span class="grow clip">
          <span class="row-title clip" dir="auto">{nameOf(call)}</span>
          <span class="row-note clip" dir="auto">
            <time dateTime={call.recorded_at} title={fullTime(call.recorded_at)}>{when(call.recorded_at)}</time>
            {client && <> · {client}</>}
            {call.duration_seconds != null && <> · <span class="tabular">{clock(call.duration_seconds)}</span></>}
          </span>
          {call.status === "completed" && call.next_step && <span class="row-next clip" dir="auto"><Icon name="arrow-right" />{call.next_step}</span>}
          {call.status === "failed" && call.error && <span class="row-next clip bad-text">{call.error.message}</span>}
          {isWorking(call) && <span class="working"><progress value={call.progress || undefined} max={1} aria-label="Progress" /><span>{stepOf(call)}</span></span>}
          {call.highlights?.map((h, i) => <span key={i} class="highlight" dir="auto">{marks(h.snippet).map((m, j) => (m.marked ? <mark key={j}>{m.text}</mark> : m.text))}</span>)}
        </span>
        <span class="row-badges"><Sentiment value={call.sentiment} /><Status call={call} /></span>
      </a>
    </li>
  );
}
