// What was used of AI providers, and what it cost.
import { useLocation } from "preact-iso/router";
import { api, ok, type Schema } from "../api";
import { useQuery } from "../query";
import { decimal, plain, usd } from "../text/text";
import { useAgents } from "../ui/call";
import { Bars, Days, Tiles } from "../ui/chart";
import { Empty, Icon, Loaded, PageHead, useTitle } from "../ui/ui";

type Usage = Schema<"Usage">;

const periods = ["7", "30", "90"];
const day = 24 * 60 * 60 * 1000;

export default function UsagePage() {
  useTitle("Usage");
  const { query } = useLocation();
  const days = periods.includes(query.days ?? "") ? query.days! : "30";
  const usage = useQuery(`usage/${days}`, () => ok(api.GET("/usage", { params: { query: { days: Number(days) } } })));
  return (
    <>
      <PageHead title="Usage and cost">
        <nav class="segments" aria-label="Period">{periods.map((d) => <a key={d} href={`/console/admin/usage?days=${d}`} aria-current={d === days ? "page" : undefined}>{d} days</a>)}</nav>
      </PageHead>
      <Loaded query={usage} rows={6}>{(u) => <Numbers u={u} days={Number(days)} />}</Loaded>
    </>
  );
}

const named = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });

/** everyDay adds the days without usage. Days are those of UTC, as in the API. */
function everyDay(of: Usage["by_day"], days: number, field: "cost_usd" | "minutes"): [string, number][] {
  const known = new Map(of.map((d) => [d.day, d[field]])), today = Date.now();
  return Array.from({ length: days }, (_, i) => new Date(today - (days - 1 - i) * day).toISOString().slice(0, 10)).map((name) => [named.format(new Date(name)), known.get(name) ?? 0]);
}

function Numbers({ u, days }: { u: Usage; days: number }) {
  const agents = useAgents();
  const budget = u.monthly_budget_usd, spent = budget !== null && u.month_cost_usd >= budget;
  if (!u.total.requests && !u.month_cost_usd) return <Empty icon="gauge" title="Nothing was used yet">Minutes that were transcribed, tokens and their cost appear here with the first call, by day, agent and model.<a class="button primary" href="/console/calls">Go to the calls</a></Empty>;
  return (
    <div class="stack">
      {spent && <div class="failure" role="alert"><Icon name="circle-alert" /><p><b>This month's budget is spent.</b> Nothing is transcribed until the next month. To go on, set a higher <code>MONTHLY_BUDGET_USD</code> and start the platform again; then try the failed calls again.</p></div>}
      <Tiles of={[
        ["Cost", usd(u.total.cost_usd), `in ${days} days`],
        ["This month", usd(u.month_cost_usd), budget === null ? "no limit is set" : <><progress value={Math.min(u.month_cost_usd, budget)} max={budget || 1} aria-label="Share of the budget" /> of {usd(budget)}</>],
        ["Transcribed", decimal(u.total.minutes), "minutes"],
        ["Tokens", plain(u.total.input_tokens + u.total.output_tokens), `${plain(u.total.input_tokens)} in, ${plain(u.total.output_tokens)} out`],
        ["Requests", plain(u.total.requests), "to AI providers"],
      ]} />
      <div class="columns">
        {u.total.cost_usd > 0 ? <Days title="Cost per day" data={everyDay(u.by_day, days, "cost_usd")} format={usd} /> : <Days title="Minutes per day" data={everyDay(u.by_day, days, "minutes")} format={decimal} />}
        <Bars title="Models" head={["Model", "Cost", "Requests", "Minutes", "Tokens"]} rows={u.by_model.map((m) => [m.model, m.cost_usd, m.requests, m.minutes, m.input_tokens + m.output_tokens])} />
        <Bars title="Agents" head={["Agent", "Cost", "Requests", "Minutes"]} rows={u.by_agent.map((a) => [agents.byId.get(a.agent_id)?.full_name ?? "Somebody who left", a.cost_usd, a.requests, a.minutes])} />
      </div>
      <p class="quiet">Days are those of UTC. Deleted calls and retries are included. Only models whose prices are known have a cost.</p>
    </div>
  );
}
