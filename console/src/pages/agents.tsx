import { useState } from "preact/hooks";
import { api, newKey, ok, paged, type Agent } from "../api";
import { invalidate, useList } from "../query";
import { me } from "../session";
import { fullTime, when } from "../text/text";
import { Avatar, Badge, Button, Card, Confirm, Dialog, Field, Loaded, More, PageHead, Secret, Select, showError, toast, useForm, useTitle } from "../ui/ui";

export default function Agents() {
  useTitle("Agents");
  const [inviting, setInviting] = useState(false);
  const [leaving, setLeaving] = useState<Agent>();
  const list = useList("agents/list", (cursor) => paged(api.GET("/agents", { params: { query: { limit: 100, cursor } } })));
  const change = async (agent: Agent, body: { role?: Agent["role"]; is_active?: boolean }) => {
    await ok(api.PATCH("/agents/{id}", { params: { path: { id: agent.id } }, body }));
    invalidate("agents");
    toast("Saved");
  };
  return (
    <>
      <PageHead title="Agents"><Button kind="primary" icon="user-plus" onClick={() => setInviting(true)}>Invite</Button></PageHead>
      <Loaded query={list} rows={4}>
        {() => (
          <Card>
            <ul class="list" aria-label="Agents">
              {list.items.map((a) => (
                <li key={a.id} class="row agent-row">
                  <Avatar name={a.full_name} />
                  <div class="grow clip">
                    <div class="row-title clip" dir="auto">{a.full_name}{a.id === me().id && <span class="muted"> (you)</span>}</div>
                    <div class="row-note clip" title={fullTime(a.created_at)}>{a.email} · since {when(a.created_at)}</div>
                  </div>
                  {!a.is_active && <Badge tone="warn">Deactivated</Badge>}
                  <Select hidden label={`Role of ${a.full_name}`} value={a.role} options={[["agent", "Agent"], ["admin", "Admin"]]} onChange={(role) => change(a, { role: role as Agent["role"] }).catch((error) => { showError(error); list.reload(); })} />
                  {a.is_active ? <Button onClick={() => setLeaving(a)}>Deactivate</Button> : <Button onClick={() => change(a, { is_active: true }).catch(showError)}>Activate</Button>}
                </li>
              ))}
            </ul>
            <More more={list.more} />
          </Card>
        )}
      </Loaded>
      {inviting && <Invite onClose={() => setInviting(false)} />}
      {leaving && <Confirm title={`Deactivate ${leaving.full_name}?`} text="They are logged out everywhere at once and cannot log in. Their calls, clients and leads stay. You can activate them again." action="Deactivate" run={() => change(leaving, { is_active: false })} onClose={() => setLeaving(undefined)} />}
    </>
  );
}

function Invite({ onClose }: { onClose: () => void }) {
  const [made, setMade] = useState<{ email: string; password?: string }>();
  const [key] = useState(newKey);
  const form = useForm(async (v) => {
    setMade(await ok(api.POST("/agents", { params: { header: { "Idempotency-Key": key } }, body: { email: v.email!, full_name: v.full_name!, role: v.role as "agent" } as never })) as never);
    invalidate("agents");
  });
  if (made) {
    return (
      <Dialog title="The account is made" onClose={onClose}>
        <p>Give this password to {made.email}. It is shown only now; they can change it in their settings.</p>
        {made.password && <Secret value={made.password} />}
        <div class="row end"><Button kind="primary" onClick={onClose}>Done</Button></div>
      </Dialog>
    );
  }
  return (
    <Dialog title="Invite an agent" onClose={onClose}>
      <form onSubmit={form.onSubmit}>
        {form.general}
        <Field label="Name" name="full_name" required maxLength={200} error={form.fields.full_name} />
        <Field label="E-mail" name="email" type="email" required maxLength={254} error={form.fields.email} />
        <Select label="Role" name="role" value="agent" options={[["agent", "Agent: own calls, clients and leads"], ["admin", "Admin: the whole team's"]]} />
        <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="primary" type="submit" busy={form.busy}>Make the account</Button></div>
      </form>
    </Dialog>
  );
}
