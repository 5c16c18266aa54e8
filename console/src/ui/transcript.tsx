// The transcript in turns. It follows the playback until somebody scrolls; a click on a sentence plays it.
import { effect } from "@preact/signals";
import { Component } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Call } from "../api";
import { clock } from "../text/text";
import type { Player, Role } from "./player";
import { Button, Icon } from "./ui";

type Segment = NonNullable<Call["segments"]>[number];
interface Turn { speaker: string | null; first: number; segments: Segment[] }

const atOnce = 40; // turns that are drawn before the first paint; the rest follows in idle time
const longestTurn = 12; // sentences: without speakers the whole call would be one turn

export function turnsOf(segments: Segment[]): Turn[] {
  const turns: Turn[] = [];
  segments.forEach((segment, i) => {
    const last = turns.at(-1);
    if (last && last.speaker === segment.speaker && last.segments.length < longestTurn) last.segments.push(segment);
    else turns.push({ speaker: segment.speaker, first: i, segments: [segment] });
  });
  return turns;
}

/** indexAt returns the segment at that time, or the last one before it. */
export function indexAt(segments: Segment[], time: number): number {
  let low = 0, high = segments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (segments[middle]!.start <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export function speakerOf(call: Call, label: string | null): { name: string; role: Role } {
  const known = label === null ? undefined : call.speakers[label];
  return { name: known?.name ?? (known?.role === "agent" ? "Agent" : known?.role === "client" ? "Client" : label ?? ""), role: known?.role ?? null };
}

// Rows that were never drawn have a guessed height, so the first jump may miss: a second one, in the next frame, does not.
function center(element: Element) {
  element.scrollIntoView({ block: "center" });
  requestAnimationFrame(() => element.scrollIntoView({ block: "center" }));
}

interface TurnsProps { turns: Turn[]; call: Call; player: Player }

/** Turns is a part of the transcript. It is rendered again when the call changes, and not whenever something else on the page does. */
class Turns extends Component<TurnsProps> {
  shouldComponentUpdate(next: TurnsProps) {
    return next.turns !== this.props.turns || next.call !== this.props.call;
  }

  render({ turns, call, player }: TurnsProps) {
    return turns.map((turn) => {
      const speaker = speakerOf(call, turn.speaker), { start } = turn.segments[0]!;
      return (
        <div key={turn.first} class={`turn ${speaker.role ?? ""}`}>
          <div class="turn-head">
            {speaker.name && <span class="speaker clip" dir="auto">{speaker.name}</span>}
            <button type="button" class="stamp tabular" aria-label={`Play from ${clock(start)}`} onClick={(e) => { e.stopPropagation(); player.play(start); }} disabled={!call.audio_url}>{clock(start)}</button>
          </div>
          <p dir="auto">{turn.segments.map((segment, i) => <><span key={i} data-i={turn.first + i}>{segment.text}</span>{" "}</>)}</p>
        </div>
      );
    });
  }
}

export function Transcript({ call, player, onNames }: { call: Call; player: Player; onNames?: () => void }) {
  const segments = call.segments ?? [];
  const turns = useMemo(() => turnsOf(segments), [call.segments]);
  const parts = useMemo(() => Array.from({ length: Math.ceil(turns.length / atOnce) }, (_, i) => turns.slice(i * atOnce, (i + 1) * atOnce)), [turns]);
  const [shown, setShown] = useState(1); // parts
  const complete = shown >= parts.length;
  const [following, setFollowing] = useState(true);
  const box = useRef<HTMLDivElement>(null), follow = useRef(true);
  follow.current = following;

  useEffect(() => {
    if (complete) return;
    const idle = window.requestIdleCallback ?? ((run: () => void) => setTimeout(run, 30));
    const handle = idle(() => setShown(shown + 2));
    return () => (window.cancelIdleCallback ?? clearTimeout)(handle as number);
  }, [shown, complete]);

  useEffect(() => {
    let lit: Element | null = null, index = -2;
    return effect(() => {
      const next = indexAt(segments, player.time.value), started = player.playing.value || player.time.value > 0;
      if (next === index) return;
      index = next;
      lit?.classList.remove("now");
      lit = started ? box.current?.querySelector(`[data-i="${next}"]`) ?? null : null;
      lit?.classList.add("now");
      if (lit && follow.current && player.playing.value) center(lit);
    });
  }, [segments, player, complete]);

  useEffect(() => {
    const stop = () => { if (player.playing.value) setFollowing(false); };
    const onKey = (e: KeyboardEvent) => { if (["PageUp", "PageDown", "Home", "End", "ArrowUp", "ArrowDown"].includes(e.key) && (e.target === document.body || (e.target as Element).id === "main")) stop(); };
    addEventListener("wheel", stop, { passive: true });
    addEventListener("touchmove", stop, { passive: true });
    addEventListener("keydown", onKey);
    return () => { removeEventListener("wheel", stop); removeEventListener("touchmove", stop); removeEventListener("keydown", onKey); };
  }, [player]);

  const play = (event: Event) => {
    const sentence = (event.target as Element).closest<HTMLElement>("[data-i]");
    if (!sentence || getSelection()?.toString()) return;
    const segment = segments[Number(sentence.dataset.i)]!;
    if (call.audio_url) player.play(segment.start);
  };
  const again = () => { setFollowing(true); const lit = box.current?.querySelector(".now"); if (lit) center(lit); };

  return (
    <section class="card transcript" aria-labelledby="transcript-title">
      <header class="card-head">
        <h2 id="transcript-title"><Icon name="message-square-text" />Transcript</h2>
        <Find box={box} ready={complete} />
      </header>
      <div class="row wrap-row transcript-tools">
        {onNames && <Button kind="quiet" icon="users" onClick={onNames}>Name the speakers</Button>}
        <a class="button quiet" href={`/calls/${call.id}/transcript?format=txt`} download><Icon name="download" />Text</a>
        <a class="button quiet" href={`/calls/${call.id}/transcript?format=srt`} download><Icon name="download" />Subtitles</a>
      </div>
      <div ref={box} class="turns" onClick={play}>
        {parts.slice(0, shown).map((part, i) => <Turns key={i} turns={part} call={call} player={player} />)}
      </div>
      {!following && <Button class="follow" kind="primary" icon="arrow-right" onClick={again}>Follow the playback</Button>}
    </section>
  );
}

/** Find finds words in this transcript and marks them without changing the document. */
function Find({ box, ready }: { box: { current: HTMLDivElement | null }; ready: boolean }) {
  const [text, setText] = useState("");
  const [found, setFound] = useState<Range[]>([]);
  const [at, setAt] = useState(0);
  useEffect(() => {
    const ranges = text.trim().length > 1 && box.current ? rangesOf(box.current, text.trim().toLowerCase()) : [];
    setFound(ranges);
    setAt(0);
    CSS.highlights?.set("found", new Highlight(...ranges));
    return () => { CSS.highlights?.delete("found"); CSS.highlights?.delete("found-now"); };
  }, [text, ready]);
  useEffect(() => {
    const range = found[at];
    if (!range) { CSS.highlights?.delete("found-now"); return; }
    CSS.highlights?.set("found-now", new Highlight(range));
    center(range.startContainer.parentElement!);
  }, [found, at]);
  const step = (by: number) => setAt((at + by + found.length) % Math.max(1, found.length));
  return (
    <div class="find" role="search">
      <input type="search" aria-label="Find in this call" placeholder="Find in this call" value={text} onInput={(e) => setText(e.currentTarget.value)}
        onKeyDown={(e) => { if (e.key === "Enter") { e.preventDefault(); step(e.shiftKey ? -1 : 1); } if (e.key === "Escape") setText(""); }} />
      {text.trim().length > 1 && <span class="tabular muted" role="status">{found.length ? `${at + 1} of ${found.length}` : "none"}</span>}
    </div>
  );
}

const mostFound = 500;

function rangesOf(root: Element, needle: string): Range[] {
  const ranges: Range[] = [];
  for (const span of root.querySelectorAll("[data-i]")) {
    const node = span.firstChild;
    if (!node) continue;
    const text = (node.textContent ?? "").toLowerCase();
    for (let i = text.indexOf(needle); i >= 0 && ranges.length < mostFound; i = text.indexOf(needle, i + needle.length)) {
      const range = new Range();
      if (i + needle.length > (node.textContent ?? "").length) break; // a letter whose lower case is longer
      range.setStart(node, i);
      range.setEnd(node, i + needle.length);
      ranges.push(range);
    }
  }
  return ranges;
}
