import { useLocation } from "preact-iso/router";
import { api, paged, type FollowUp } from "../api";
import { useList } from "../query";
import { accept, complete, FollowUpRow, isDueToday, isOverdue, statusOf } from "../ui/followup";
import { useKeys } from "../ui/keys";
import { Card, Empty, Loaded, More, PageHead, useTitle } from "../ui/ui";

const groups: { title: string; icon: string; has: (f: FollowUp) => boolean }[] = [
  { title: "Suggested from your calls", icon: "sparkles", has: (f) => statusOf(f) === "suggested" },
  { title: "Overdue", icon: "clock", has: (f) => isOverdue(f) && !isDueToday(f) },
  { title: "Today", icon: "calendar-check", has: isDueToday },
  { title: "Later", icon: "calendar", has: (f) => statusOf(f) === "pending" && !isDueToday(f) && !isOverdue(f) },
];

export default function FollowUps() {
  useTitle("Follow-ups");
  const done = "done" in useLocation().query;
  return (
    <>
      <PageHead title="Follow-ups">
        <nav class="segments" aria-label="Which follow-ups">
          <a href="/console/followups" aria-current={done ? undefined : "page"}>To do</a>
          <a href="/console/followups?done" aria-current={done ? "page" : undefined}>Done</a>
        </nav>
      </PageHead>
      {done ? <Done /> : <ToDo />}
    </>
  );
}

function ToDo() {
  const list = useList("followups/todo", (cursor) => paged(api.GET("/followups", { params: { query: { completed: false, limit: 200, cursor } } })));
  const of = groups.map((g) => ({ ...g, items: list.items.filter(g.has) }));
  useKeys({ a: () => of[0]!.items[0] && accept(of[0]!.items[0]), e: () => { const first = [...of[1]!.items, ...of[2]!.items, ...of[3]!.items][0]; if (first) complete(first); } });
  const shown = of.filter((g) => g.items.length);
  return (
    <Loaded query={list} rows={6}>
      {() => (
        <div class="stack">
          {shown.length ? shown.map((g) => <Card key={g.title} title={g.title} icon={g.icon}><ul class="list">{g.items.map((f) => <FollowUpRow key={f.id} followUp={f} call />)}</ul></Card>)
            : <Empty icon="check-check" title="Nothing is due">Follow-ups come from your calls: what was promised is suggested here, and you can add your own on the page of a call.<a class="button primary" href="/console/calls">Go to the calls</a></Empty>}
          <More more={list.more} />
        </div>
      )}
    </Loaded>
  );
}

function Done() {
  const list = useList("followups/done", (cursor) => paged(api.GET("/followups", { params: { query: { status: "completed", limit: 50, cursor } } })));
  return (
    <Loaded query={list} rows={6}>
      {() => (list.items.length ? <Card><ul class="list">{list.items.map((f) => <FollowUpRow key={f.id} followUp={f} call />)}</ul><More more={list.more} /></Card>
        : <Empty icon="list-checks" title="Nothing is done yet"><a class="button plain" href="/console/followups">What is to do</a></Empty>)}
    </Loaded>
  );
}
