import { invalidate } from "../query";
import { left, login, me, register, session } from "../session";
import { Button, Dialog, Field, useForm, useTitle } from "../ui/ui";

function Entrance({ title, text, children }: { title: string; text: string; children: preact.ComponentChildren }) {
  useTitle(title);
  return (
    <main class="entrance" id="main">
      <div class="entrance-card">
        <img src="/console/icon.svg" width="44" height="44" alt="Convoflow" />
        <h1>{title}</h1>
        <p class="muted">{text}</p>
        {children}
      </div>
    </main>
  );
}

const shortest = 8; // characters of a password, as the API wants

export function Login() {
  const form = useForm((v) => login(v.email!, v.password!));
  return (
    <Entrance title="Log in" text="Your calls, what was promised in them, and what to do next.">
      <form onSubmit={form.onSubmit}>
        {form.general}
        <Field label="E-mail" name="email" type="email" autocomplete="username" required error={form.fields.email ?? form.fields.username} />
        <Field label="Password" name="password" type="password" autocomplete="current-password" required error={form.fields.password} />
        <Button kind="primary" type="submit" busy={form.busy}>{form.busy ? "Logging in…" : "Log in"}</Button>
      </form>
      {session.value?.registration === "open" ? <p>No account yet? <a href="/console/register">Make one</a></p> : <p class="muted">Accounts are made by an admin of your team.</p>}
    </Entrance>
  );
}

export function Register() {
  const form = useForm((v) => register(v.full_name!, v.email!, v.password!));
  const first = session.value?.first_run;
  return (
    <Entrance title={first ? "Create the first account" : "Create an account"} text={first ? "It will be the admin of this platform, and can make the others." : "You see your own calls, clients and leads."}>
      <form onSubmit={form.onSubmit}>
        {form.general}
        <Field label="Your name" name="full_name" autocomplete="name" maxLength={200} required error={form.fields.full_name} />
        <Field label="E-mail" name="email" type="email" autocomplete="username" maxLength={254} required error={form.fields.email} />
        <Field label="Password" name="password" type="password" autocomplete="new-password" minLength={shortest} maxLength={128} required error={form.fields.password} hint={`At least ${shortest} characters, and none that everybody uses.`} />
        <Button kind="primary" type="submit" busy={form.busy}>{form.busy ? "Creating…" : "Create account"}</Button>
      </form>
      {!first && <p>You have one? <a href="/console/login">Log in</a></p>}
    </Entrance>
  );
}

/** LoginAgain asks for the password over the page that is open, which stays as it is. */
export function LoginAgain() {
  const form = useForm(async (v) => {
    await login(me().email, v.password!);
    invalidate(""); // what failed meanwhile
  });
  return (
    <Dialog title="Your session has ended" class="veil">
      <p>Log in again to go on. What you typed is still here.</p>
      <form onSubmit={form.onSubmit}>
        {form.general}
        <input type="email" name="username" autocomplete="username" value={me().email} readOnly hidden />
        <Field label={`Password of ${me().email}`} name="password" type="password" autocomplete="current-password" required error={form.fields.password} />
        <div class="row end"><Button onClick={left}>I am somebody else</Button><Button kind="primary" type="submit" busy={form.busy}>Log in</Button></div>
      </form>
    </Dialog>
  );
}
