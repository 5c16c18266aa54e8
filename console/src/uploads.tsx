// Uploads with progress. A recording is stored in the browser until the server has it, so that neither a reload nor a lost connection
// loses it; its Idempotency-Key makes the second try the same call.
import { signal } from "@preact/signals";
import { newKey, problemFrom, Problem, renew, type Call } from "./api";
import { invalidate } from "./query";
import { session } from "./session";
import { stored, uploadStore } from "./storage";
import { size } from "./text/text";
import { Button, Icon } from "./ui/ui";

export interface Upload { key: string; agent: string; name: string; file: Blob; fields: Record<string, string>; progress: number; problem?: Problem; call?: Call; duplicate?: boolean }

export const uploads = signal<Upload[]>([]);

const change = (key: string, patch: Partial<Upload>) => { uploads.value = uploads.value.map((u) => (u.key === key ? { ...u, ...patch } : u)); };
const drop = (key: string) => { uploads.value = uploads.value.filter((u) => u.key !== key); };

/** upload stores a recording and sends it. onStored runs when it is stored, which a private window has no room for: it is sent anyway. The key is its Idempotency-Key: the server stores one call for it. */
export async function upload(file: Blob, name: string, fields: Record<string, string> = {}, onStored: () => unknown = () => {}, key = newKey()): Promise<Call | undefined> {
  const one: Upload = { key, agent: session.value!.agent!.id, name, file, fields, progress: 0 };
  uploads.value = [...uploads.value, one];
  await stored(uploadStore, "readwrite", (objects) => objects.put({ key: one.key, agent: one.agent, name, file, fields })).then(onStored, () => {});
  return sendUpload(one);
}

// A lock per upload: another tab does not send what this one is sending.
const lockOf = (key: string) => `upload ${key}`;
async function sendUpload(one: Upload): Promise<Call | undefined> {
  return navigator.locks ? navigator.locks.request(lockOf(one.key), () => attempt(one)) : attempt(one);
}

async function attempt(one: Upload): Promise<Call | undefined> {
  change(one.key, { problem: undefined, progress: 0 });
  try {
    const call = await post(one);
    await forgetUpload(one.key);
    change(one.key, { call, progress: 1, duplicate: Boolean((call as { duplicate_of?: string }).duplicate_of) });
    invalidate("calls");
    setTimeout(() => drop(one.key), 8000);
    return call;
  } catch (error) {
    change(one.key, { problem: error as Problem });
    if (canRetry(error as Problem)) setTimeout(() => navigator.onLine && uploads.value.some((u) => u.key === one.key && u.problem) && sendUpload(one), Math.max(5, (error as Problem).retryAfter) * 1000);
    return undefined;
  }
}

const canRetry = (problem: Problem) => problem.status === 0 || problem.status === 408 || problem.status === 429 || problem.status >= 500;
const forgetUpload = (key: string) => stored(uploadStore, "readwrite", (objects) => objects.delete(key)).catch(() => {});

// fetch has no progress of uploads.
function post(one: Upload, retried = false): Promise<Call> {
  return new Promise((resolve, reject) => {
    const form = new FormData(), request = new XMLHttpRequest(), started = Date.now();
    for (const [name, value] of Object.entries(one.fields)) form.append(name, value);
    form.append("audio", one.file, one.name);
    request.open("POST", "/calls/upload");
    request.setRequestHeader("Idempotency-Key", one.key);
    request.responseType = "json";
    request.upload.onprogress = (event) => change(one.key, { progress: event.loaded / event.total });
    request.onerror = () => reject(new Problem(0, "offline", "The connection was lost. The recording stays here and is sent again when the platform can be reached."));
    request.onload = () => {
      if (request.status < 300) resolve(request.response);
      else if (request.status === 401 && !retried) renew(started).then((renewed) => (renewed ? post(one, true).then(resolve, reject) : reject(problemFrom(401, request.response, null))), reject);
      else reject(problemFrom(request.status, request.response, request.getResponseHeader("Retry-After")));
    };
    request.send(form);
  });
}

/** resume sends what an earlier page could not, of this agent. */
export async function resume() {
  const left = (await stored<Upload[]>(uploadStore, "readonly", (objects) => objects.getAll()).catch(() => [])).filter((one) => one.agent === session.value?.agent?.id);
  const known = new Set(uploads.value.map((u) => u.key)), busy = new Set((await navigator.locks?.query())?.held?.map((lock) => lock.name));
  for (const one of left.filter((one) => !known.has(one.key) && !busy.has(lockOf(one.key)))) {
    uploads.value = [...uploads.value, { ...one, progress: 0 }];
    sendUpload(one);
  }
}

addEventListener("online", () => { for (const one of uploads.value) if (one.problem && canRetry(one.problem)) sendUpload(one); });

/** choose opens the file dialog. */
export function choose(fields: Record<string, string> = {}) {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "audio/*,video/mp4,video/webm,.m4a,.amr,.opus,.flac,.aac,.3gp,.mpga";
  input.multiple = true;
  input.onchange = () => { for (const file of input.files ?? []) upload(file, file.name, fields); };
  input.click();
}

export const sampleName = "sales-call.ogg";

/** uploadSample sends the recording that comes with the console. */
export async function uploadSample(): Promise<Call | undefined> {
  const response = await fetch(`/console/${sampleName}`);
  if (!response.ok) throw new Problem(response.status, "no_sample", "The sample recording cannot be read. Reload the page.");
  return upload(await response.blob(), sampleName);
}

const advice: Record<string, string> = {
  audio_too_large: "Cut the recording, or send it as mp3 or ogg, which are smaller.",
  body_too_large: "Cut the recording, or send it as mp3 or ogg, which are smaller.",
  validation_error: "Choose an audio file: mp3, m4a, wav, ogg, webm, flac, aac, amr or 3gp.",
};

export function UploadList() {
  if (!uploads.value.length) return null;
  return (
    <section class="uploads" aria-label="Uploads">
      {uploads.value.map((u) => (
        <div key={u.key} class="upload" role="group" aria-label={u.name}>
          <Icon name={u.problem ? "circle-alert" : u.call ? "check" : "file-audio"} />
          <div class="grow clip">
            <div class="clip">{u.call ? <a href={`/console/calls/${u.call.id}`}>{u.name}</a> : u.name} <span class="muted">{size(u.file.size)}</span></div>
            {u.problem ? <div class="bad-text wrap" role="alert">{u.problem.message} {advice[u.problem.code]}</div>
              : u.call ? <div class="muted">{u.duplicate ? "You have uploaded this recording before" : "Uploaded"}</div>
              : <progress value={u.progress} max={1} aria-label={`Upload of ${u.name}`} />}
          </div>
          {u.problem && canRetry(u.problem) && <Button kind="quiet" icon="refresh-cw" aria-label="Send again" onClick={() => sendUpload(u)} />}
          {(u.problem || u.call) && <Button kind="quiet" icon="x" aria-label="Remove from the list" onClick={() => { forgetUpload(u.key); drop(u.key); }} />}
        </div>
      ))}
    </section>
  );
}
