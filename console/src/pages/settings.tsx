import { signal } from "@preact/signals";
import { api, ok, paged } from "../api";
import { invalidate, useList } from "../query";
import { logout, me, session } from "../session";
import { fullTime, when } from "../text/text";
import { Badge, Button, Card, Field, Loaded, More, PageHead, showError, toast, useForm, useTitle } from "../ui/ui";

const theme = signal(localStorage.getItem("theme") ?? "system");
const themes: [string, string, string][] = [["system", "System", "monitor"], ["light", "Light", "sun"], ["dark", "Dark", "moon"]];

function choose(name: string) {
  theme.value = name;
  localStorage.setItem("theme", name);
  document.documentElement.dataset.theme = name;
}

export default function Settings() {
  useTitle("Settings");
  return (
    <>
      <PageHead title="Settings"><Button icon="log-out" onClick={() => logout().catch(showError)}>Log out</Button></PageHead>
      <div class="columns">
        <div class="stack"><Name /><Password /></div>
        <div class="stack"><Look /><Sessions /></div>
      </div>
    </>
  );
}

function Name() {
  const form = useForm(async (v) => {
    const agent = await ok(api.PATCH("/auth/me", { body: { full_name: v.full_name! } }));
    session.value = { ...session.value!, agent };
    invalidate("agents");
    toast("Name saved");
  });
  return (
    <Card title="You" icon="user">
      <form onSubmit={form.onSubmit}>
        {form.general}
        <Field label="Name" name="full_name" required maxLength={200} value={me().full_name} autocomplete="name" error={form.fields.full_name} />
        <p class="row-note"><span class="wrap">{me().email}</span> <Badge>{me().role === "admin" ? "Admin" : "Agent"}</Badge></p>
        <div class="row end"><Button kind="primary" type="submit" busy={form.busy}>Save</Button></div>
      </form>
    </Card>
  );
}

function Password() {
  const form = useForm(async (v, element) => {
    await ok(api.POST("/auth/me/password", { body: { current_password: v.current_password!, new_password: v.new_password! } }));
    element.reset();
    invalidate("sessions");
    toast("Password changed. Your other sessions have ended.");
  });
  const wrong = form.problem?.code === "wrong_password" ? form.problem.message : undefined;
  return (
    <Card title="Password" icon="key-round">
      <form onSubmit={form.onSubmit}>
        {!wrong && form.general}
        <input type="email" name="username" autocomplete="username" value={me().email} readOnly hidden />
        <Field label="Current password" name="current_password" type="password" autocomplete="current-password" required error={wrong ?? form.fields.current_password} />
        <Field label="New password" name="new_password" type="password" autocomplete="new-password" minLength={8} maxLength={128} required error={form.fields.new_password} hint="At least 8 characters. All your other sessions end." />
        <div class="row end"><Button kind="primary" type="submit" busy={form.busy}>Change password</Button></div>
      </form>
    </Card>
  );
}

function Look() {
  return (
    <Card title="Appearance" icon="sun">
      <div class="segments" role="radiogroup" aria-label="Theme">
        {themes.map(([name, text]) => (
          <label key={name}><input type="radio" name="theme" class="unseen" checked={theme.value === name} onChange={() => choose(name)} /><span>{text}</span></label>
        ))}
      </div>
      <p class="hint">Press <kbd>?</kbd> anywhere for the keyboard shortcuts.</p>
    </Card>
  );
}

function Sessions() {
  const list = useList("sessions", (cursor) => paged(api.GET("/auth/sessions", { params: { query: { limit: 20, cursor } } })));
  const end = (id: string) => ok(api.DELETE("/auth/sessions/{id}", { params: { path: { id } } })).then(() => { invalidate("sessions"); toast("Session ended"); }, showError);
  return (
    <Card title="Where you are logged in" icon="monitor">
      <Loaded query={list} rows={2}>
        {() => (
          <>
            <ul class="list">
              {list.items.map((s) => (
                <li key={s.id} class="row session">
                  <div class="grow clip">
                    <div class="clip">{deviceOf(s.user_agent)}</div>
                    <div class="row-note" title={fullTime(s.last_used_at)}>{s.current ? "this one" : `last used ${when(s.last_used_at)}`} · {s.ip || "unknown address"}</div>
                  </div>
                  {s.current ? <Badge tone="good">Current</Badge> : <Button onClick={() => end(s.id)}>End</Button>}
                </li>
              ))}
            </ul>
            <More more={list.more} />
          </>
        )}
      </Loaded>
    </Card>
  );
}

const browsers: [RegExp, string][] = [[/Edg\//, "Edge"], [/Firefox\//, "Firefox"], [/Chrome\//, "Chrome"], [/Safari\//, "Safari"]];
const systems: [RegExp, string][] = [[/Android/, "Android"], [/iPhone|iPad/, "iOS"], [/Windows/, "Windows"], [/Mac OS X/, "macOS"], [/Linux/, "Linux"]];

function deviceOf(agent: string): string {
  const browser = browsers.find(([is]) => is.test(agent))?.[1], system = systems.find(([is]) => is.test(agent))?.[1];
  return browser ? `${browser}${system ? ` on ${system}` : ""}` : agent || "Unknown app";
}
