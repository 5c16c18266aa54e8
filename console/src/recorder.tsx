// Recording in the browser. Every few seconds what was recorded is stored, so that a tab that is closed or crashes loses nothing that
// is older; the next page that opens sends it. A finished recording is an upload like any other.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { newKey } from "./api";
import { session } from "./session";
import { chunks, stored } from "./storage";
import { clock } from "./text/text";
import { upload } from "./uploads";
import { Button, showError } from "./ui/ui";

interface Recording { key: string; agent: string; fields: Record<string, string>; recorder: MediaRecorder; stream: MediaStream; began: number; parts: number; release: () => void }
interface Chunk { key: string; recording: string; agent: string; fields: Record<string, string>; type: string; at: number; data: Blob }

export const recording = signal<Recording | undefined>(undefined);

const chunkTime = 3000; // ms
const types = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];
const bitsPerSecond = 32_000; // speech
const lockOf = (key: string) => `recording ${key}`;
const extension = (type: string) => (type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm");
const named = (at: number, type: string) => `Recorded ${new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }).replaceAll(/[/:\\]/g, ".")}.${extension(type)}`;

const refusals: Record<string, string> = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it beside the address, then record again.",
  NotFoundError: "There is no microphone. Connect one, then record again.",
  NotReadableError: "Another program uses the microphone. Close it, then record again.",
};

/** record begins a recording, of which there is one at a time. */
export async function record(fields: Record<string, string> = {}) {
  if (recording.value) return;
  if (!navigator.mediaDevices || !window.MediaRecorder) return showError(new Error("This browser records only over https. Record with your phone, and upload the file."));
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const mimeType = types.find((type) => MediaRecorder.isTypeSupported(type));
    const recorder = new MediaRecorder(stream, { mimeType, audioBitsPerSecond: bitsPerSecond });
    const one: Recording = { key: newKey(), agent: session.value!.agent!.id, fields, recorder, stream, began: Date.now(), parts: 0, release: () => {} };
    // Other tabs see by the lock that this one still records.
    navigator.locks?.request(lockOf(one.key), () => new Promise<void>((release) => { one.release = release; }));
    recorder.ondataavailable = ({ data }) => {
      const chunk: Chunk = { key: `${one.key}/${String(one.parts++).padStart(6, "0")}`, recording: one.key, agent: one.agent, fields, type: recorder.mimeType, at: one.began, data };
      if (data.size) stored(chunks, "readwrite", (objects) => objects.put(chunk)).catch(() => showError(new Error("The browser has no room left for the recording. Stop it, and what was recorded is sent.")));
    };
    for (const track of stream.getTracks()) track.onended = () => stop(); // the microphone was disconnected: what there is, is sent
    recorder.start(chunkTime);
    recording.value = one;
  } catch (error) {
    showError(new Error(refusals[(error as Error).name] ?? `The microphone cannot be used: ${(error as Error).message}`));
  }
}

async function end(): Promise<Recording | undefined> {
  const one = recording.value;
  if (!one) return undefined;
  recording.value = undefined;
  const stopped = new Promise((resolve) => { one.recorder.onstop = resolve; });
  if (one.recorder.state !== "inactive") { one.recorder.stop(); await stopped; }
  for (const track of one.stream.getTracks()) track.stop();
  return one;
}

/** stop ends the recording and sends it. */
export async function stop() {
  const one = await end();
  if (one) await deliver(one.key).finally(one.release);
}

/** discard ends the recording and forgets it. */
export async function discard() {
  const one = await end();
  if (one) await remove(await partsOf(one.key)).finally(one.release);
}

const partsOf = async (key: string) => (await stored<Chunk[]>(chunks, "readonly", (objects) => objects.getAll(IDBKeyRange.bound(`${key}/`, `${key}0`)))); // "0" comes after "/"
const remove = async (parts: Chunk[]) => { for (const part of parts) await stored(chunks, "readwrite", (objects) => objects.delete(part.key)); };

/** deliver makes an upload of a recording's parts, which are forgotten when it is stored or sent. */
async function deliver(key: string) {
  const parts = await partsOf(key), first = parts[0];
  if (!first) return showError(new Error("Nothing was recorded. Check the microphone, then record again."));
  const file = new Blob(parts.map((part) => part.data), { type: first.type.split(";")[0] });
  const sent = await upload(file, named(first.at, first.type), first.fields, () => remove(parts), key);
  if (sent) await remove(parts);
}

/** recover sends what an earlier page recorded and could not finish, and what another tab records, if that is closed before its end. */
export async function recover() {
  const all = await stored<Chunk[]>(chunks, "readonly", (objects) => objects.getAll()).catch(() => []);
  const mine = (part: Chunk) => part.agent === session.value?.agent?.id && part.recording !== recording.value?.key;
  for (const key of new Set(all.filter(mine).map((part) => part.recording))) navigator.locks?.request(lockOf(key), async () => {
    const [first] = await partsOf(key);
    if (first && mine(first)) await deliver(key);
  });
}

/** RecordingBar stays on every page while a call is recorded. */
export function RecordingBar() {
  const one = recording.value;
  const [{ seconds, level }, setNow] = useState({ seconds: 0, level: 0 });
  useEffect(() => {
    if (!one) return;
    const context = new AudioContext(), analyser = context.createAnalyser();
    analyser.fftSize = 16384; // 0.3 s: more than the time between two looks, so that no short sound is missed
    const samples = new Uint8Array(analyser.fftSize);
    context.createMediaStreamSource(one.stream).connect(analyser);
    const timer = setInterval(() => {
      analyser.getByteTimeDomainData(samples);
      const loudest = Math.max(...samples.map((sample) => Math.abs(sample - 128))) / 128;
      // The level falls slowly, so that short sounds are seen.
      setNow((before) => ({ seconds: (Date.now() - one.began) / 1000, level: Math.max(loudest, before.level * 0.8) }));
    }, 200);
    const stay = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener("beforeunload", stay);
    return () => { clearInterval(timer); removeEventListener("beforeunload", stay); context.close(); };
  }, [one]);
  if (!one) return null;
  return (
    <section class="recording" aria-label="Recording">
      <span class="recording-dot" aria-hidden="true" />
      <span class="tabular" role="timer">{clock(seconds)}</span>
      <meter min={0} max={1} value={level} aria-label="Level of the microphone" />
      <Button kind="quiet" icon="trash-2" aria-label="Discard the recording" onClick={() => discard().catch(showError)} />
      <Button kind="primary" icon="square" onClick={() => stop().catch(showError)}>Stop and send</Button>
    </section>
  );
}
