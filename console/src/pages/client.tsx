import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso/router";
import { api, ok, paged, type Client } from "../api";
import { invalidate, useList, useQuery } from "../query";
import { record, recording } from "../recorder";
import { choose } from "../uploads";
import { ClientForm } from "../ui/client";
import { Timeline } from "../ui/timeline";
import { Button, Card, Confirm, Empty, Icon, Loaded, More, PageHead, toast, useTitle } from "../ui/ui";

export default function ClientPage() {
  const { id } = useRoute().params as { id: string };
  const query = useQuery(`client/${id}`, () => ok(api.GET("/clients/{id}", { params: { path: { id } } })));
  useTitle(query.data?.name ?? "Client");
  return <Loaded page="Client" back={{ href: "/console/clients", text: "Clients" }} query={query} rows={6}>{(client) => <OneClient key={client.id} client={client} />}</Loaded>;
}

function OneClient({ client }: { client: Client }) {
  const { route } = useLocation();
  const [dialog, setDialog] = useState<"edit" | "delete" | null>(null);
  const list = useList(`timeline/client/${client.id}`, (cursor) => paged(api.GET("/clients/{id}/timeline", { params: { path: { id: client.id }, query: { limit: 50, cursor } as never } })));
  const remove = async () => {
    await ok(api.DELETE("/clients/{id}", { params: { path: { id: client.id } } }));
    invalidate("clients");
    route("/console/clients");
    toast("Client deleted");
  };
  return (
    <>
      <PageHead back={{ href: "/console/clients", text: "Clients" }} title={<span dir="auto">{client.name}</span>}>
        <div class="row wrap-row">
          <Button kind="primary" icon="upload" onClick={() => choose({ client_id: client.id })}>Upload a call</Button>
          <Button icon="mic" disabled={Boolean(recording.value)} onClick={() => record({ client_id: client.id })}>Record</Button>
          <Button icon="pencil" onClick={() => setDialog("edit")}>Change</Button>
          <Button icon="trash-2" aria-label="Delete this client" onClick={() => setDialog("delete")} />
        </div>
      </PageHead>
      <div class="columns">
        <Card title="Timeline" icon="clock">
          <Loaded query={list}>{() => (list.items.length ? <><Timeline items={list.items} /><More more={list.more} /></> : <Empty icon="clock" title="Nothing has happened yet">Upload the first call with this client.</Empty>)}</Loaded>
        </Card>
        <Card title="Details" icon="user">
          <dl class="facts-list">
            {client.phone && <div><dt><Icon name="phone" /> Phone</dt><dd><a href={`tel:${client.phone}`}>{client.phone}</a></dd></div>}
            {client.email && <div><dt><Icon name="mail" /> E-mail</dt><dd class="wrap"><a href={`mailto:${client.email}`}>{client.email}</a></dd></div>}
            {client.company && <div><dt><Icon name="building-2" /> Company</dt><dd class="wrap" dir="auto">{client.company}</dd></div>}
          </dl>
          {client.notes && <p class="reading" dir="auto">{client.notes}</p>}
          {!client.phone && !client.email && !client.company && !client.notes && <p class="quiet">No details yet.</p>}
        </Card>
      </div>
      {dialog === "edit" && <ClientForm client={client} onClose={() => setDialog(null)} />}
      {dialog === "delete" && <Confirm title={`Delete ${client.name}?`} text="Their personal data is erased in the whole platform. The calls stay, without the client. This cannot be undone." action="Delete the client" run={remove} onClose={() => setDialog(null)} />}
    </>
  );
}
