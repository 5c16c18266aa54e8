import { fullTime, when, words } from "../text/text";
import type { TimelineItem } from "../api";
import { Badge, Icon } from "./ui";

const icons: Record<TimelineItem["kind"], string> = { call: "phone", followup: "calendar-check", delivery: "send", change: "pencil" };
const hrefOf = (item: TimelineItem) => (item.call_id ? `/console/calls/${item.call_id}` : undefined);

function titleOf(item: TimelineItem): string {
  switch (item.kind) {
    case "call": return item.title ?? "Call";
    case "followup": return item.title ?? "Follow-up";
    case "delivery": return `Webhook ${item.event ?? ""}`;
    default: return item.fields?.length ? `Changed ${item.fields.map((f) => f.replaceAll("_", " ")).join(", ")}` : words((item.event ?? "changed").replace(".", " "));
  }
}

const toneOf = (status: string) => (["completed", "delivered"].includes(status) ? "good" : ["failed", "dead"].includes(status) ? "bad" : "neutral");

export function Timeline({ items }: { items: TimelineItem[] }) {
  return (
    <ol class="timeline">
      {items.map((item) => {
        const href = hrefOf(item);
        return (
          <li key={item.kind + item.id + item.at}>
            <span class="timeline-icon"><Icon name={icons[item.kind]} /></span>
            <div class="grow">
              <div class="wrap" dir="auto">{href ? <a href={href}>{titleOf(item)}</a> : titleOf(item)}</div>
              <div class="row-note">
                <time dateTime={item.at} title={fullTime(item.at)}>{when(item.at)}</time>
                {item.status && <Badge tone={toneOf(item.status)}>{words(item.status)}</Badge>}
                {item.due_date && <span>due {when(item.due_date)}</span>}
                {item.reason && <span class="wrap" dir="auto">{item.reason}</span>}
              </div>
            </div>
          </li>
        );
      })}
    </ol>
  );
}
