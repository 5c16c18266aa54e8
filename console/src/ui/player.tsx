// The player of a call: a recording, its waveform in two lanes, and what happened when.
import { effect, signal, useComputed } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Call, Schema } from "../api";
import { clock, spoken, words } from "../text/text";
import { Button, showError } from "./ui";

export type Role = "agent" | "client" | null;
export interface Flag { start: number; kind: string; text: string }

const rates = [1, 1.25, 1.5, 1.75, 2, 0.75];

/** Player is the state of the playback, shared by player, transcript and quotes. */
export class Player {
  readonly time = signal(0);
  readonly playing = signal(false);
  readonly rate = signal(1);
  readonly duration = signal(0);
  readonly problem = signal(false);
  audio: HTMLAudioElement | null = null;

  seek(to: number) {
    const at = Math.min(Math.max(0, to), this.duration.value || to);
    this.time.value = at;
    if (this.audio) this.audio.currentTime = at;
  }

  play(from?: number) {
    if (from !== undefined) this.seek(from);
    this.audio?.play().catch((error: Error) => { if (error.name !== "AbortError") showError(new Error("The recording cannot be played in this browser.")); });
  }

  toggle() {
    if (this.playing.value) this.audio?.pause();
    else this.play();
  }

  faster() {
    this.rate.value = rates[(rates.indexOf(this.rate.value) + 1) % rates.length]!;
    if (this.audio) this.audio.playbackRate = this.rate.value;
  }

  /** attach follows an audio element, smoothly while it plays. */
  attach(audio: HTMLAudioElement) {
    this.audio = audio;
    let frame = 0;
    const tick = () => { this.time.value = audio.currentTime; frame = requestAnimationFrame(tick); };
    const on: Record<string, () => void> = {
      play: () => { this.playing.value = true; cancelAnimationFrame(frame); tick(); },
      pause: () => { this.playing.value = false; cancelAnimationFrame(frame); this.time.value = audio.currentTime; },
      ended: () => { this.playing.value = false; },
      durationchange: () => { if (Number.isFinite(audio.duration)) this.duration.value = audio.duration; },
      seeked: () => { this.time.value = audio.currentTime; },
      error: () => { this.problem.value = true; },
    };
    for (const [name, run] of Object.entries(on)) audio.addEventListener(name, run);
    return () => { cancelAnimationFrame(frame); for (const [name, run] of Object.entries(on)) audio.removeEventListener(name, run); };
  }
}

interface Props { player: Player; call: Call; peaks?: Schema<"CallWaveform">; roleAt: (time: number) => Role | undefined; flags: Flag[] }

export function PlayerBar({ player, call, peaks, roleAt, flags }: Props) {
  const audio = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    player.duration.value ||= call.duration_seconds ?? 0;
    return player.attach(audio.current!);
  }, [player]);
  const playing = player.playing.value;
  return (
    <div class="player" role="group" aria-label="Player">
      <audio ref={audio} src={call.audio_url!} preload="metadata" />
      <Button kind="primary" class="play" icon={playing ? "pause" : "play"} aria-label={playing ? "Pause" : "Play"} onClick={() => player.toggle()} disabled={player.problem.value} />
      <Button kind="quiet" class="skip-back" icon="rotate-ccw" aria-label="10 seconds back" onClick={() => player.seek(player.time.value - 10)} />
      <Waveform player={player} peaks={peaks} roleAt={roleAt} flags={flags} />
      <Button kind="quiet" class="skip-on" icon="rotate-cw" aria-label="10 seconds on" onClick={() => player.seek(player.time.value + 10)} />
      <span class="tabular time"><Time player={player} /> / {clock(player.duration.value)}</span>
      <Button kind="quiet" class="rate tabular" title="Speed" onClick={() => player.faster()}>{player.rate.value}×</Button>
      {player.problem.value && <p class="bad-text" role="alert">The recording cannot be played: it may have been removed, or this browser does not know its format.</p>}
    </div>
  );
}

/** Time is rendered once a second, and not with every frame. */
function Time({ player }: { player: Player }) {
  const text = useComputed(() => clock(player.time.value));
  return <>{text.value}</>;
}

function Waveform({ player, peaks, roleAt, flags }: Omit<Props, "call">) {
  const canvas = useRef<HTMLCanvasElement>(null), slider = useRef<HTMLDivElement>(null);
  const columns = useMemo(() => loudest(peaks), [peaks]);
  useEffect(() => {
    let last = -1;
    const surface = canvas.current!, element = slider.current!; // the refs are empty when the last event comes
    let picture = prepare(surface, columns, player.duration.peek(), roleAt), drawn = -1;
    const draw = () => {
      const at = picture.at(player.time.value);
      if (at === drawn) return; // most frames move nothing by a pixel
      drawn = at;
      picture.paint(at);
    };
    const again = () => { picture = prepare(surface, columns, player.duration.peek(), roleAt); drawn = -1; draw(); };
    const stop = effect(() => {
      const { value } = player.time, total = player.duration.value;
      if (Math.floor(value) !== last) { // a screen reader needs whole seconds
        last = Math.floor(value);
        element.setAttribute("aria-valuenow", String(last));
        element.setAttribute("aria-valuetext", `${spoken(value)} of ${spoken(total)}`);
        element.setAttribute("aria-valuemax", String(Math.floor(total)));
      }
      if (total === picture.total) draw();
      else again();
    });
    const resized = new ResizeObserver(again);
    resized.observe(surface);
    const scheme = matchMedia("(prefers-color-scheme: dark)"), themed = new MutationObserver(again);
    scheme.addEventListener("change", again);
    themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => { stop(); resized.disconnect(); themed.disconnect(); scheme.removeEventListener("change", again); };
  }, [columns, player, roleAt]);
  const at = (event: PointerEvent) => {
    const box = slider.current!.getBoundingClientRect();
    player.seek(((event.clientX - box.left) / box.width) * player.duration.value);
  };
  const keys: Record<string, () => number> = {
    ArrowLeft: () => player.time.value - 5, ArrowRight: () => player.time.value + 5, ArrowDown: () => player.time.value - 5, ArrowUp: () => player.time.value + 5,
    PageDown: () => player.time.value - 30, PageUp: () => player.time.value + 30, Home: () => 0, End: () => player.duration.value,
  };
  const total = player.duration.value;
  return (
    <div class="wave">
      <div ref={slider} class="wave-slider" role="slider" tabIndex={0} aria-label="Position in the recording" aria-valuemin={0} aria-valuenow={0} aria-valuemax={0}
        onPointerDown={(e) => { slider.current!.setPointerCapture(e.pointerId); at(e); }}
        onPointerMove={(e) => { if (e.buttons & 1) at(e); }}
        onKeyDown={(e) => { const to = keys[e.key]; if (to) { e.preventDefault(); player.seek(to()); } }}>
        <canvas ref={canvas} aria-hidden="true" />
      </div>
      {total > 0 && flags.map((flag, i) => (
        <button key={i} type="button" class={`flag ${flag.kind}`} ref={place(flag.start / total)} title={`${words(flag.kind)}: ${flag.text}`} aria-label={`${words(flag.kind)} at ${clock(flag.start)}: ${flag.text}`} onClick={() => player.play(flag.start)} />
      ))}
    </div>
  );
}

// The policy allows no style attribute in markup; properties set by a script are no markup.
const place = (share: number) => (element: HTMLElement | null) => { element?.style.setProperty("inset-inline-start", `${Math.min(100, share * 100)}%`); };

/** loudest joins the channels: who speaks is known from the transcript. */
function loudest(peaks?: Schema<"CallWaveform">): number[] {
  if (!peaks) return [];
  const all = peaks.peaks as number[], columns: number[] = [];
  for (let i = 0; i < all.length; i += peaks.channels) columns.push(Math.max(...all.slice(i, i + peaks.channels)));
  const most = Math.max(1, ...columns);
  return columns.map((peak) => peak / most);
}

const bar = 3, gap = 1; // CSS pixels

interface Bar { x: number; y: number; height: number; color: string; time: number }

/** prepare measures the canvas and finds what its bars are, which is too much for every frame of a playback. */
function prepare(canvas: HTMLCanvasElement, columns: number[], total: number, roleAt: (time: number) => Role | undefined) {
  const { clientWidth: width, clientHeight: height } = canvas, scale = devicePixelRatio || 1;
  const style = getComputedStyle(canvas), color = (name: string) => style.getPropertyValue(name);
  const colors = { agent: color("--agent"), client: color("--client"), nobody: color("--muted"), track: color("--line"), now: color("--text") };
  const middle = height / 2, count = Math.max(1, Math.floor(width / (bar + gap))), bars: Bar[] = [];
  for (let i = 0; i < count; i++) {
    const from = Math.floor((i / count) * columns.length), to = Math.max(from + 1, Math.floor(((i + 1) / count) * columns.length));
    const peak = columns.length ? Math.max(...columns.slice(from, to)) : 0.04, length = Math.max(1, peak * (middle - 2));
    const time = ((i + 0.5) / count) * total, role = roleAt(time);
    bars.push({ x: i * (bar + gap), y: role === "client" ? middle : middle - length, height: role ? length : 2 * length, color: colors[role ?? "nobody"], time });
  }
  if (width && height) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  return {
    total,
    /** at is the device pixel of a time. */
    at: (time: number) => (total ? Math.round(Math.min(1, time / total) * width * scale) : 0),
    paint(at: number) {
      if (!width || !height) return;
      const g = canvas.getContext("2d")!, now = (at / scale / width) * total;
      g.setTransform(scale, 0, 0, scale, 0, 0);
      g.clearRect(0, 0, width, height);
      g.fillStyle = colors.track;
      g.fillRect(0, middle - 0.5, width, 1);
      for (const b of bars) {
        g.globalAlpha = b.time <= now ? 1 : 0.42;
        g.fillStyle = b.color;
        g.fillRect(b.x, b.y, bar, b.height);
      }
      g.globalAlpha = 1;
      g.fillStyle = colors.now;
      if (total) g.fillRect(Math.min(width - 2, at / scale), 0, 2, height);
    },
  };
}
