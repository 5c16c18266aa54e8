// Numbers as tiles, columns and bars. Each chart is also a table.
import { useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { decimal, plain, usd } from "../text/text";
import { Button, Card } from "./ui";

/** Tiles shows numbers by name, each with a note of what it means. */
export function Tiles({ of }: { of: [string, string, ComponentChildren][] }) {
  return <div class="tiles">{of.map(([name, value, note]) => <Card key={name}><p class="muted">{name}</p><p class="tile tabular" data-tile={name}>{value}</p><p class="hint">{note}</p></Card>)}</div>;
}

// The policy allows no style attribute in markup; properties set by a script are no markup.
export const sized = (name: string, share: number) => (element: HTMLElement | null) => element?.style.setProperty(name, `${share * 100}%`);

/** Days is a column for each day, and the same as a table. */
export function Days({ title, data, format = plain }: { title: string; data: [string, number][]; format?: (n: number) => string }) {
  const [table, setTable] = useState(false);
  const most = Math.max(0, ...data.map(([, n]) => n)), total = data.reduce((all, [, n]) => all + n, 0);
  return (
    <Card title={title} actions={<Button kind="quiet" aria-pressed={table} onClick={() => setTable(!table)}>{table ? "Chart" : "Table"}</Button>}>
      {table ? (
        <div class="scroll" tabIndex={0} role="group" aria-label={title}><table><thead><tr><th scope="col">Day</th><th scope="col" class="number">{title.split(" ")[0]}</th></tr></thead><tbody>{data.map(([day, n]) => <tr key={day}><th scope="row">{day}</th><td class="number tabular">{format(n)}</td></tr>)}</tbody></table></div>
      ) : (
        <>
          <div class="days" role="img" aria-label={`${title}: ${format(total)} in ${data.length} days, at most ${format(most)} a day`}>{data.map(([day, n]) => <span key={day} title={`${day}: ${format(n)}`}><i ref={sized("height", n / (most || 1))} /></span>)}</div>
          <div class="talk-legend muted"><span>{data[0]?.[0]}</span><span class="tabular">at most {format(most)} a day</span><span>{data.at(-1)?.[0]}</span></div>
        </>
      )}
    </Card>
  );
}

/** formatOf writes the numbers of a column, by its heading, so that they are aligned. */
const formatOf = (heading: string) => (heading === "%" || heading === "Minutes" ? decimal : heading === "Cost" ? usd : plain);

/** Bars is a table whose first number is also a bar. */
export function Bars({ title, head, rows }: { title: string; head: string[]; rows: [string, ...number[]][] }) {
  const most = Math.max(0, ...rows.map((row) => row[1]!)) || 1;
  return (
    <Card title={title}>
      {rows.length ? (
        <div class="scroll" tabIndex={0} role="group" aria-label={title}>
          <table>
            <thead><tr>{head.map((text, i) => <th key={text} scope="col" class={i ? "number" : ""}>{text}</th>)}</tr></thead>
            <tbody>{rows.map((row, i) => (
              <tr key={i}><th scope="row"><span class="wrap" dir="auto">{row[0]}</span><i class="bar" aria-hidden="true"><i ref={sized("width", row[1]! / most)} /></i></th>{(row.slice(1) as number[]).map((n, j) => <td key={j} class="number tabular">{formatOf(head[j + 1]!)(n)}</td>)}</tr>
            ))}</tbody>
          </table>
        </div>
      ) : <p class="quiet">Nothing yet.</p>}
    </Card>
  );
}
