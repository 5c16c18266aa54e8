import { useLocation } from "preact-iso/router";
import { api, ok, Problem, type Client } from "../api";
import { invalidate } from "../query";
import { Button, changed, Dialog, Field, TextArea, useForm } from "./ui";

/** ClientForm makes a client, or changes one. A duplicate leads to the first. */
export function ClientForm({ client, onClose }: { client?: Client; onClose: () => void }) {
  const { route } = useLocation();
  const form = useForm(async (v) => {
    const body = { name: v.name!, phone: v.phone || null, email: v.email || null, company: v.company || null, notes: v.notes || null };
    if (client && !Object.keys(changed(body, client)).length) return onClose();
    const saved = client ? await ok(api.PATCH("/clients/{id}", { params: { path: { id: client.id } }, body: changed(body, client) as never })) : await ok(api.POST("/clients", { body: body as never }));
    invalidate("client");
    invalidate("timeline");
    onClose();
    if (!client) route(`/console/clients/${saved.id}`);
  });
  const existing = form.problem instanceof Problem ? (form.problem.body.client_id as string | undefined) : undefined;
  return (
    <Dialog title={client ? "Change the client" : "Add a client"} onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {existing ? <div class="note" role="alert"><p class="grow">{form.problem!.message}</p><a class="button primary" href={`/console/clients/${existing}`} onClick={onClose}>Open that client</a></div> : form.general}
        <Field label="Name" name="name" required maxLength={200} value={client?.name ?? ""} error={form.fields.name} />
        <Field label="Phone" name="phone" type="tel" maxLength={50} value={client?.phone ?? ""} error={form.fields.phone} hint="Recordings with this number are linked to the client." />
        <Field label="E-mail" name="email" type="email" maxLength={254} value={client?.email ?? ""} error={form.fields.email} />
        <Field label="Company" name="company" maxLength={200} value={client?.company ?? ""} error={form.fields.company} />
        <TextArea label="Notes" name="notes" value={client?.notes ?? ""} error={form.fields.notes} maxLength={10000} />
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy}>{client ? "Save" : "Add client"}</Button></div>
      </form>
    </Dialog>
  );
}
