// A follow-up in a list, with what can be done about it.
import { useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { api, ok, type FollowUp } from "../api";
import { invalidate } from "../query";
import { fullTime, midnight, when } from "../text/text";
import { Badge, Button, changed, Dialog, Failure, Field, Icon, showError, soon, TextArea, useForm } from "./ui";

type Status = FollowUp["status"];

// What a person has just decided and may still undo, by id. It is sent to the API when that time is over.
const decided = signal<Record<string, Status>>({});

const decide = (id: string, status?: Status) => {
  const { [id]: _, ...rest } = decided.value;
  decided.value = status ? { ...rest, [id]: status } : rest;
};

export const statusOf = (f: FollowUp): Status => decided.value[f.id] ?? f.status;

async function patch(f: FollowUp, status: "pending" | "completed" | "dismissed") {
  await ok(api.PATCH("/followups/{id}", { params: { path: { id: f.id } }, body: { status }, keepalive: true })); // also while the page is being closed
  invalidate("followups");
  invalidate("timeline");
  setTimeout(() => { if (decided.value[f.id] === status) decide(f.id); }, 1500); // the list is loaded again meanwhile
}

function change(f: FollowUp, status: "pending" | "completed" | "dismissed", text: string) {
  decide(f.id, status);
  soon(text, () => patch(f, status), () => decide(f.id));
}

export const accept = (f: FollowUp) => change(f, "pending", "Follow-up accepted");
export const dismiss = (f: FollowUp) => change(f, "dismissed", "Suggestion dismissed");
export const complete = (f: FollowUp) => change(f, "completed", "Follow-up done");
export const reopen = (f: FollowUp) => { decide(f.id, "pending"); patch(f, "pending").catch((error) => { decide(f.id); showError(error); }); };

export const isOverdue = (f: FollowUp) => statusOf(f) === "pending" && !!f.due_date && new Date(f.due_date) < new Date();
export const isDueToday = (f: FollowUp) => statusOf(f) === "pending" && !!f.due_date && midnight(new Date(f.due_date)).getTime() === midnight().getTime();

export function FollowUpRow({ followUp: f, call, onPlay }: { followUp: FollowUp; call?: boolean; onPlay?: () => void }) {
  const [editing, setEditing] = useState(false);
  const status = statusOf(f), overdue = isOverdue(f);
  return (
    <li class={`followup ${status}`} data-id={f.id}>
      {status === "pending" && <Button kind="quiet" icon="square" class="tick" aria-label={`Done: ${f.task ?? "follow-up"}`} onClick={() => complete(f)} />}
      {status === "completed" && <Button kind="quiet" icon="check-check" class="tick" aria-label={`Reopen: ${f.task ?? "follow-up"}`} onClick={() => reopen(f)} />}
      {status === "suggested" && <span class="tick"><Icon name="sparkles" label="Suggested" /></span>}
      {status === "dismissed" && <span class="tick"><Icon name="x" label="Dismissed" /></span>}
      <div class="grow">
        <div class="row-title wrap" dir="auto">{f.task ?? "Follow up"}</div>
        {f.notes && <div class="row-note wrap" dir="auto">{f.notes}</div>}
        <div class="row-note">
          {overdue && <Badge tone="bad" icon="clock">Overdue</Badge>}
          <span title={f.due_date ? fullTime(f.due_date) : undefined}>{f.due_date ? `due ${when(f.due_date)}` : "no date"}</span>
          {f.source === "ai" && <span>from the call</span>}
          {f.pabbly_triggered && <span>sent to your automations</span>}
          {call && <a href={`/console/calls/${f.call_id}`}>Open the call</a>}
          {onPlay && <button type="button" class="link" onClick={onPlay}>Play</button>}
        </div>
      </div>
      {status === "suggested" && <div class="row"><Button kind="primary" icon="check" onClick={() => accept(f)}>Accept</Button><Button icon="x" aria-label={`Dismiss: ${f.task ?? "suggestion"}`} onClick={() => dismiss(f)} /></div>}
      {status === "pending" && <Button kind="quiet" icon="pencil" aria-label={`Change: ${f.task ?? "follow-up"}`} onClick={() => setEditing(true)} />}
      {editing && <Edit followUp={f} onClose={() => setEditing(false)} />}
    </li>
  );
}

const local = (iso: string | null) => {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};

export function Edit({ followUp: f, callId, onClose }: { followUp?: FollowUp; callId?: string; onClose: () => void }) {
  const was = local(f?.due_date ?? null);
  const form = useForm(async (v) => {
    const body = { task: v.task!, notes: v.notes || null, due_date: v.due_date === was ? f?.due_date ?? null : v.due_date ? new Date(v.due_date).toISOString() : null };
    const change = f && changed(body, f);
    if (change) { if (Object.keys(change).length) await ok(api.PATCH("/followups/{id}", { params: { path: { id: f.id } }, body: change })); }
    else await ok(api.POST("/followups/{id}", { params: { path: { id: callId! } }, body: body as never }));
    invalidate("followups");
    invalidate("timeline");
    onClose();
  });
  return (
    <Dialog title={f ? "Change the follow-up" : "Add a follow-up"} onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {form.problem && !Object.keys(form.fields).length && <Failure error={form.problem} />}
        <Field label="What to do" name="task" required maxLength={500} value={f?.task ?? ""} error={form.fields.task} />
        <Field label="Due" name="due_date" type="datetime-local" value={was} error={form.fields.due_date} />
        <TextArea label="Notes" name="notes" value={f?.notes ?? ""} error={form.fields.notes} maxLength={5000} />
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy}>Save</Button></div>
      </form>
    </Dialog>
  );
}
