// What leads have in common wherever they are shown.
import { useState } from "preact/hooks";
import { useLocation } from "preact-iso/router";
import { api, ok, type Lead } from "../api";
import { invalidate } from "../query";
import { words } from "../text/text";
import { Badge, Button, changed, Dialog, Field, Select, TextArea, useForm } from "./ui";

export const statuses = ["new", "contacted", "in_progress", "qualified", "payment_sent", "converted", "lost", "deferred"];
export const intents = ["new", "no_answer", "not_interested", "callback_requested", "interested", "payment_pending", "future_planning", "converted", "wrong_number", "undecided"];
export const options = (values: string[]): [string, string][] => values.map((value) => [value, words(value)]);

const tones: Record<string, "good" | "bad" | "accent" | "neutral" | "warn"> = { new: "accent", qualified: "good", payment_sent: "good", converted: "good", lost: "bad", deferred: "warn" };
export const LeadStatus = ({ value }: { value: string }) => <Badge tone={tones[value] ?? "neutral"}>{words(value)}</Badge>;

/** LeadLink is a lead in a list, with what the list says about it. */
export function LeadLink({ lead, note }: { lead: Lead; note: (string | null | undefined | false)[] }) {
  return (
    <a class="row-link grow" href={`/console/leads/${lead.id}`}>
      <span class="grow clip">
        <span class="row-title clip" dir="auto">{lead.name}</span>
        <span class="row-note clip" dir="auto">{note.filter(Boolean).join(" · ")}</span>
      </span>
      <span class="row-badges">{lead.intent_category !== "new" && lead.intent_category !== lead.status && <span class="muted">{words(lead.intent_category)}</span>}<LeadStatus value={lead.status} /></span>
    </a>
  );
}

export async function changeLead(id: string, body: object) {
  await ok(api.PATCH("/leads/{id}", { params: { path: { id } }, body: body as never }));
  invalidate("lead");
  invalidate("timeline");
}

export async function bulk(ids: string[], change: object): Promise<{ updated: number; deleted: number; failed: number; errors: string[] }> {
  const result = await ok(api.POST("/leads/bulk", { body: { lead_ids: ids, ...change } as never }));
  invalidate("lead");
  return result as never;
}

export function LeadForm({ lead, onClose }: { lead?: Lead; onClose: () => void }) {
  const { route } = useLocation();
  const [existing, setExisting] = useState<string>();
  const form = useForm(async (v) => {
    const body = { name: v.name, phone: v.phone, email: v.email || null, source_campaign: v.source_campaign || null, notes: v.notes || null };
    setExisting(undefined);
    try {
      if (lead) {
        const change = changed({ ...body, intent_category: v.intent_category }, lead);
        if (Object.keys(change).length) await changeLead(lead.id, change);
        onClose();
      } else {
        const made = await ok(api.POST("/leads", { body: body as never }));
        invalidate("lead");
        onClose();
        route(`/console/leads/${made.id}`);
      }
    } catch (error) {
      setExisting((error as { body?: { lead_id?: string } }).body?.lead_id);
      throw error;
    }
  });
  return (
    <Dialog title={lead ? "Change the lead" : "Add a lead"} onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {existing ? <div class="note" role="alert"><p class="grow">{form.problem?.message}</p><a class="button primary" href={`/console/leads/${existing}`} onClick={onClose}>Open that lead</a></div> : form.general}
        <Field label="Name" name="name" required maxLength={200} value={lead?.name ?? ""} error={form.fields.name} />
        <Field label="Phone" name="phone" type="tel" required maxLength={50} value={lead?.phone ?? ""} error={form.fields.phone} />
        <Field label="E-mail" name="email" type="email" maxLength={254} value={lead?.email ?? ""} error={form.fields.email} />
        <Field label="Campaign" name="source_campaign" maxLength={200} value={lead?.source_campaign ?? ""} error={form.fields.source_campaign} />
        {lead && <Select label="Intent" name="intent_category" value={lead.intent_category} options={options(intents)} />}
        <TextArea label="Notes" name="notes" value={lead?.notes ?? ""} error={form.fields.notes} maxLength={5000} />
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy}>{lead ? "Save" : "Add lead"}</Button></div>
      </form>
    </Dialog>
  );
}
