import { useState } from "preact/hooks";
import { useLocation } from "preact-iso/router";
import { api, ok, type Schema } from "../api";
import { useQuery } from "../query";
import { count, words } from "../text/text";
import { Button, Card, Empty, Loaded, PageHead, useTitle } from "../ui/ui";

type Overview = Schema<"AnalyticsOverview">;

const periods = ["7", "30", "90"];

export default function Team() {
  useTitle("Team");
  const { query } = useLocation();
  const days = periods.includes(query.days ?? "") ? query.days! : "30";
  const tz = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const overview = useQuery(`analytics/${days}`, () => ok(api.GET("/analytics/overview", { params: { query: { scope: "team", days: Number(days), tz } } })));
  return (
    <>
      <PageHead title="Team">
        <nav class="segments" aria-label="Period">{periods.map((d) => <a key={d} href={`/console/team?days=${d}`} aria-current={d === days ? "page" : undefined}>{d} days</a>)}</nav>
      </PageHead>
      <Loaded query={overview} rows={6}>{(o) => <Numbers o={o} days={days} />}</Loaded>
    </>
  );
}

function Numbers({ o, days }: { o: Overview; days: string }) {
  const sum = (of: (d: Overview["daily_stats"][number]) => number) => o.daily_stats.reduce((all, d) => all + of(d), 0);
  const tiles: [string, string, string][] = [
    ["Leads", o.total_leads.toLocaleString(), `${count(sum((d) => d.new_leads), "new one")} in ${days} days`],
    ["Calls", sum((d) => d.calls_made).toLocaleString(), `${o.total_calls_today} today`],
    ["Conversions", o.total_conversions.toLocaleString(), `${o.conversion_rate} % of the leads`],
    ["Due today", o.followups_due_today.toLocaleString(), "follow-ups"],
    ["Stale leads", o.stale_leads_count.toLocaleString(), `${o.leads_without_contact} never contacted`],
  ];
  if (!o.total_leads && !sum((d) => d.calls_made)) return <Empty icon="chart-column" title="Nothing to count yet">Calls and conversions per day, the funnel of your leads, their campaigns and intents, and who closed what appear here with the first calls and leads.</Empty>;
  return (
    <div class="stack">
      <div class="tiles">{tiles.map(([name, value, note]) => <Card key={name}><p class="muted">{name}</p><p class="tile tabular" data-tile={name}>{value}</p><p class="hint">{note}</p></Card>)}</div>
      <div class="columns">
        <Days title="Calls per day" data={o.daily_stats.map((d) => [d.date, d.calls_made])} />
        <Days title="Conversions per day" data={o.daily_stats.map((d) => [d.date, d.conversions])} />
        <Bars title="Funnel" head={["Stage", "Leads", "%"]} rows={o.status_funnel.map((s) => [words(s.stage), s.count, s.pct])} />
        <Bars title="Intents" head={["Intent", "Leads"]} rows={o.intent_distribution.map((i) => [words(i.intent), i.count])} />
        <Bars title="Campaigns" head={["Campaign", "Leads", "Converted", "%"]} rows={o.campaign_breakdown.map((c) => [c.campaign, c.leads, c.converted, c.conversion_rate])} />
        <Bars title="Leaderboard" head={["Agent", "Conversions", "Calls", "Leads", "%"]} rows={[...o.agent_stats].sort((a, b) => b.conversions - a.conversions).map((a) => [a.agent_name, a.conversions, a.calls_made, a.leads_assigned, a.conversion_rate])} />
      </div>
    </div>
  );
}

// The policy allows no style attribute in markup; properties set by a script are no markup.
const sized = (name: string, share: number) => (element: HTMLElement | null) => element?.style.setProperty(name, `${share * 100}%`);

/** Days is a column for each day, and the same as a table. */
function Days({ title, data }: { title: string; data: [string, number][] }) {
  const [table, setTable] = useState(false);
  const most = Math.max(1, ...data.map(([, n]) => n)), total = data.reduce((all, [, n]) => all + n, 0);
  return (
    <Card title={title} actions={<Button kind="quiet" aria-pressed={table} onClick={() => setTable(!table)}>{table ? "Chart" : "Table"}</Button>}>
      {table ? (
        <div class="scroll" tabIndex={0} role="group" aria-label={title}><table><thead><tr><th scope="col">Day</th><th scope="col" class="number">{title.split(" ")[0]}</th></tr></thead><tbody>{data.map(([day, n]) => <tr key={day}><th scope="row">{day}</th><td class="number tabular">{n}</td></tr>)}</tbody></table></div>
      ) : (
        <>
          <div class="days" role="img" aria-label={`${title}: ${total} in ${data.length} days, at most ${most} a day`}>{data.map(([day, n]) => <span key={day} title={`${day}: ${n}`}><i ref={sized("height", n / most)} /></span>)}</div>
          <div class="talk-legend muted"><span>{data[0]?.[0]}</span><span>{data.at(-1)?.[0]}</span></div>
        </>
      )}
    </Card>
  );
}

/** Bars is a table whose first number is also a bar. */
function Bars({ title, head, rows }: { title: string; head: string[]; rows: [string, ...number[]][] }) {
  const most = Math.max(1, ...rows.map((row) => row[1]!));
  return (
    <Card title={title}>
      {rows.length ? (
        <div class="scroll" tabIndex={0} role="group" aria-label={title}>
          <table>
            <thead><tr>{head.map((text, i) => <th key={text} scope="col" class={i ? "number" : ""}>{text}</th>)}</tr></thead>
            <tbody>{rows.map((row, i) => (
              <tr key={i}><th scope="row"><span class="wrap" dir="auto">{row[0]}</span><i class="bar"><i ref={sized("width", row[1]! / most)} /></i></th>{row.slice(1).map((n, j) => <td key={j} class="number tabular">{n.toLocaleString()}</td>)}</tr>
            ))}</tbody>
          </table>
        </div>
      ) : <p class="quiet">Nothing yet.</p>}
    </Card>
  );
}
