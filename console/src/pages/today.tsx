import { useState } from "preact/hooks";
import { useLocation } from "preact-iso/router";
import { api, paged } from "../api";
import { useQuery } from "../query";
import { isAdmin, me, session } from "../session";
import { count } from "../text/text";
import { choose, uploadSample } from "../uploads";
import { CallRow, isWorking, useClients } from "../ui/call";
import { accept, complete, FollowUpRow, isDueToday, isOverdue, statusOf } from "../ui/followup";
import { useKeys } from "../ui/keys";
import { Button, Card, Icon, Loaded, PageHead, showError, useTitle } from "../ui/ui";

const shown = 5; // latest calls

const greeting = () => { const h = new Date().getHours(); return h < 12 ? "Good morning" : h < 18 ? "Good afternoon" : "Good evening"; };

export function Today() {
  useTitle("Today");
  const calls = useQuery("calls/today", () => paged(api.GET("/calls", { params: { query: { limit: 20 } } })));
  const todo = useQuery("followups/today", () => paged(api.GET("/followups", { params: { query: { completed: false, limit: 100 } } })));
  const { byId } = useClients();
  const open = todo.data?.items ?? [];
  const due = open.filter((f) => isOverdue(f) || isDueToday(f));
  const suggested = open.filter((f) => statusOf(f) === "suggested");
  const working = calls.data?.items.filter(isWorking) ?? [];
  useKeys({ a: () => suggested[0] && accept(suggested[0]), e: () => due[0] && complete(due[0]) });
  const clientOf = (id: string | null) => (id ? byId.get(id)?.name : undefined);
  return (
    <>
      <PageHead title={`${greeting()}, ${me().full_name.split(" ")[0]}`} />
      <Loaded query={calls} rows={4}>
        {(page) => <>{page.items.length === 0 ? <FirstSteps /> : (
          <div class="columns">
            <div class="stack">
              {working.length > 0 && (
                <Card title={`${count(working.length, "call")} in progress`} icon="sparkles"><ul class="list">{working.map((call) => <CallRow key={call.id} call={call} client={clientOf(call.client_id)} />)}</ul></Card>
              )}
              <Card title="Due" icon="calendar-check" actions={due.length > 0 && <a href="/console/followups">All follow-ups</a>}>
                <Loaded query={todo}>
                  {() => due.length ? <ul class="list">{due.map((f) => <FollowUpRow key={f.id} followUp={f} call />)}</ul> : <p class="quiet">Nothing is due. {suggested.length > 0 ? "Have a look at the suggestions." : ""}</p>}
                </Loaded>
              </Card>
              {suggested.length > 0 && (
                <Card title={`Suggested from your calls`} icon="sparkles"><ul class="list">{suggested.slice(0, 8).map((f) => <FollowUpRow key={f.id} followUp={f} call />)}</ul></Card>
              )}
            </div>
            <Card title="Latest calls" icon="phone" actions={<a href="/console/calls">All calls</a>}>
              <ul class="list">{page.items.filter((call) => !isWorking(call)).slice(0, shown).map((call) => <CallRow key={call.id} call={call} client={clientOf(call.client_id)} />)}</ul>
            </Card>
          </div>
        )}{session.value?.demo && isAdmin() && <DemoNote />}</>}
      </Loaded>
    </>
  );
}

function FirstSteps() {
  const { route } = useLocation();
  const [busy, setBusy] = useState(false);
  const trySample = () => {
    setBusy(true);
    uploadSample().then((call) => call && route(`/console/calls/${call.id}`)).catch(showError).finally(() => setBusy(false));
  };
  return (
    <ol class="steps" aria-label="First steps">
      <li class="card step first">
        <span class="step-icon"><Icon name="play" /></span>
        <div class="grow"><h2>Try the sample call</h2><p>A sales call of 39 seconds comes with the platform. See what is made of it: transcript, promises, next step.</p></div>
        <Button kind="primary" icon="sparkles" busy={busy} onClick={trySample}>{busy ? "Uploading…" : "Run the sample call"}</Button>
      </li>
      <li class="card step">
        <span class="step-icon"><Icon name="upload" /></span>
        <div class="grow"><h2>Upload your own</h2><p>Any recording of a call up to two hours: mp3, m4a, wav, ogg and more. You can drop it anywhere on this page.</p></div>
        <Button icon="upload" onClick={() => choose()}>Choose a file</Button>
      </li>
      <li class="card step">
        <span class="step-icon"><Icon name="webhook" /></span>
        <div class="grow"><h2>Connect your automations</h2><p>Pabbly Connect, or any other receiver, gets every call and follow-up as it happens.{!isAdmin() && " An admin of your team can connect it."}</p></div>
        {isAdmin() && <a class="button plain" href="/console/admin/webhooks">Connect Pabbly</a>}
      </li>
    </ol>
  );
}

function DemoNote() {
  return (
    <div class="note" role="note">
      <Icon name="info" />
      <p>The AI is the offline one: its transcripts have demo quality. For real ones set <code>OPENAI_API_KEY</code> (and <code>OPENAI_BASE_URL</code> for another provider) and start the platform again.</p>
    </div>
  );
}
