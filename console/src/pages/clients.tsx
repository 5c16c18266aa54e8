import { useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso/router";
import { api, paged } from "../api";
import { useList } from "../query";
import { ClientForm } from "../ui/client";
import { Avatar, Button, Card, Empty, Field, Loaded, More, PageHead, useTitle } from "../ui/ui";

const pause = 250; // ms after the last key before a search

export default function Clients() {
  useTitle("Clients");
  const { query, route } = useLocation();
  const q = query.q ?? "";
  const [text, setText] = useState(q);
  const [adding, setAdding] = useState("new" in query);
  const timer = useRef(0);
  const search = (value: string) => route(`/console/clients${value ? "?" + new URLSearchParams({ q: value }) : ""}`, true);
  const list = useList(`clients/list?${q}`, (cursor) => paged(api.GET("/clients", { params: { query: { q: q || undefined, limit: 50, cursor } as never } })));
  return (
    <>
      <PageHead title="Clients"><Button kind="primary" icon="user-plus" onClick={() => setAdding(true)}>Add client</Button></PageHead>
      <form class="filters" role="search" onSubmit={(e) => { e.preventDefault(); search(text.trim()); }}>
        <Field label="Search clients" name="q" type="search" placeholder="Name, company, phone or e-mail" maxLength={200} required value={text}
          onInput={(e) => { const value = e.currentTarget.value; setText(value); clearTimeout(timer.current); timer.current = window.setTimeout(() => search(value.trim()), pause); }} />
      </form>
      <Loaded query={list} rows={8}>
        {() => list.items.length ? (
          <Card>
            <ul class="list" aria-label="Clients">
              {list.items.map((c) => (
                <li key={c.id}>
                  <a class="row-link" href={`/console/clients/${c.id}`}>
                    <Avatar name={c.name} />
                    <span class="grow clip"><span class="row-title clip" dir="auto">{c.name}</span><span class="row-note clip" dir="auto">{[c.company, c.phone, c.email].filter(Boolean).join(" · ") || "no details"}</span></span>
                  </a>
                </li>
              ))}
            </ul>
            <More more={list.more} />
          </Card>
        ) : q ? <Empty icon="search" title="No client matches"><Button onClick={() => { setText(""); search(""); }}>Show all clients</Button></Empty>
          : <Empty icon="users" title="No clients yet"><p>Calls of a client are linked by the phone number.</p><Button kind="primary" icon="user-plus" onClick={() => setAdding(true)}>Add the first client</Button></Empty>}
      </Loaded>
      {adding && <ClientForm onClose={() => setAdding(false)} />}
    </>
  );
}
