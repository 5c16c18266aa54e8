import { useLocation } from "preact-iso/router";
import { api, ok, paged, type Schema } from "../api";
import { useQuery } from "../query";
import { daysAgo, plain, when, words } from "../text/text";
import { useAgents } from "../ui/call";
import { Bars, Days, Tiles } from "../ui/chart";
import { LeadLink } from "../ui/lead";
import { Card, Empty, Icon, Loaded, PageHead, useTitle } from "../ui/ui";

type Overview = Schema<"AnalyticsOverview">;

const periods = ["7", "30", "90"];

export default function Team() {
  useTitle("Team");
  const { query } = useLocation();
  const days = periods.includes(query.days ?? "") ? query.days! : "30";
  const tz = Intl.DateTimeFormat().resolvedOptions().timeZone;
  // Twice the days: the first half is what the second is compared with.
  const overview = useQuery(`analytics/${days}`, () => ok(api.GET("/analytics/overview", { params: { query: { scope: "team", days: 2 * Number(days), tz } } })));
  return (
    <>
      <PageHead title="Team">
        <nav class="segments" aria-label="Period">{periods.map((d) => <a key={d} href={`/console/team?days=${d}`} aria-current={d === days ? "page" : undefined}>{d} days</a>)}</nav>
      </PageHead>
      <Loaded query={overview} rows={6}>{(o) => <Numbers o={o} days={Number(days)} />}</Loaded>
    </>
  );
}

/** Change compares a number with that of the period before. */
function Change({ now, before, days }: { now: number; before: number; days: number }) {
  if (!before) return <>{now ? `none in the ${days} days before` : `as in the ${days} days before`}</>;
  const share = Math.round((100 * (now - before)) / before);
  return <><Icon name={share < 0 ? "arrow-down" : share > 0 ? "arrow-up" : "arrow-right"} /> {share === 0 ? "as many as" : `${plain(Math.abs(share))} % ${share > 0 ? "more" : "fewer"} than`} in the {days} days before</>;
}

function Numbers({ o, days }: { o: Overview; days: number }) {
  const stats = o.daily_stats.slice(-days), earlier = o.daily_stats.slice(0, -days);
  const sum = (of: typeof stats, field: "new_leads" | "calls_made" | "conversions") => of.reduce((all, d) => all + d[field], 0);
  const compared = (name: string, field: "new_leads" | "calls_made" | "conversions"): [string, string, preact.ComponentChildren] =>
    [name, plain(sum(stats, field)), <Change now={sum(stats, field)} before={sum(earlier, field)} days={days} />];
  if (!o.total_leads && !sum(o.daily_stats, "calls_made")) return <Empty icon="chart-column" title="Nothing to count yet">Calls and conversions per day, the funnel of your leads, their campaigns and intents, and who closed what appear here with the first calls and leads.<a class="button primary" href="/console/calls">Go to the calls</a></Empty>;
  return (
    <div class="stack">
      <Tiles of={[
        compared("Calls", "calls_made"), compared("New leads", "new_leads"), compared("Conversions", "conversions"),
        ["Leads", plain(o.total_leads), `${plain(o.total_conversions)} converted, ${o.conversion_rate} %`],
        ["Due today", plain(o.followups_due_today), "follow-ups"],
        ["Stale leads", plain(o.stale_leads_count), `no contact in ${staleAfter} days; ${plain(o.leads_without_contact)} never contacted`],
      ]} />
      <div class="columns">
        <Days title="Calls per day" data={stats.map((d) => [d.date, d.calls_made])} />
        <Days title="Conversions per day" data={stats.map((d) => [d.date, d.conversions])} />
        <Bars title="Funnel" head={["Stage", "Leads", "%"]} rows={o.status_funnel.map((s) => [words(s.stage), s.count, s.pct])} />
        <Bars title="Intents" head={["Intent", "Leads"]} rows={o.intent_distribution.map((i) => [words(i.intent), i.count])} />
        <Bars title="Campaigns" head={["Campaign", "Leads", "Converted", "%"]} rows={o.campaign_breakdown.map((c) => [c.campaign, c.leads, c.converted, c.conversion_rate])} />
        <Bars title="Leaderboard" head={["Agent", "Conversions", "Calls", "Leads", "%"]} rows={[...o.agent_stats].sort((a, b) => b.conversions - a.conversions).map((a) => [a.agent_name, a.conversions, a.calls_made, a.leads_assigned, a.conversion_rate])} />
      </div>
      <Stale />
    </div>
  );
}

const staleAfter = 7; // days without a contact, as the API counts

/** Stale lists the open leads that nobody was in touch with for the longest time. */
function Stale() {
  const since = daysAgo(staleAfter).toISOString();
  const chosen = { untouched_since: since, sort: "last_contacted_at" } as const;
  const list = useQuery(`leads/stale/${since}`, () => paged(api.GET("/leads", { params: { query: { ...chosen, limit: 10 } } })));
  const agents = useAgents();
  return (
    <Card title="Stale leads" actions={<a href={`/console/leads?${new URLSearchParams(chosen)}`}>All stale leads</a>}>
      <Loaded query={list}>
        {({ items }) => items.length ? (
          <ul class="list stale">{items.map((lead) => <li key={lead.id}><LeadLink lead={lead} note={[lead.last_contacted_at ? `last contact ${when(lead.last_contacted_at)}` : `never contacted, since ${when(lead.created_at)}`, lead.assigned_agent_id ? agents.byId.get(lead.assigned_agent_id)?.full_name : "nobody's"]} /></li>)}</ul>
        ) : <p class="quiet">Every open lead has had a contact in the last {staleAfter} days, or is new.</p>}
      </Loaded>
    </Card>
  );
}
