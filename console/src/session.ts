// Who is logged in. The tokens are in cookies; this only knows the agent.
import { signal } from "@preact/signals";
import { forget, problemOf, renew, whenLoggedOut, type Schema } from "./api";
import { clear } from "./query";

export type Session = Schema<"ConsoleSession">;

/** session is undefined until it is known. */
export const session = signal<Session | undefined>(undefined);
export const me = () => session.value!.agent!;
export const isAdmin = () => session.value?.agent?.role === "admin";

/** expired is true while the session of the agent has ended by itself. What is open stays, so that nothing that was typed is lost. */
export const expired = signal(false);

const tabs = new BroadcastChannel("session");

async function load(): Promise<Session> {
  const response = await fetch("/console/session");
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** open finds out who is logged in, and renews an expired session. */
export async function open() {
  let found = await load();
  if (!found.agent && found.renewable && (await renew())) found = await load();
  enter(found);
}

/** enter shows the agent of a session. Nothing of another agent stays. */
function enter(found: Session) {
  if (found.agent?.id !== session.value?.agent?.id) { clear(); forget(); }
  session.value = found;
  expired.value = false;
}

export async function login(email: string, password: string) {
  const response = await fetch("/console/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ email, password }) });
  if (!response.ok) throw await problemOf(response);
  enter(await response.json());
  tabs.postMessage("login");
}

export async function register(full_name: string, email: string, password: string) {
  const response = await fetch("/auth/register", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ full_name, email, password }) });
  if (!response.ok) throw await problemOf(response);
  await login(email, password);
}

export async function logout() {
  const response = await fetch("/console/session", { method: "DELETE" });
  if (!response.ok) throw await problemOf(response);
  tabs.postMessage("logout");
  left();
}

/** left forgets everything of the agent who was here. */
export function left() {
  clear();
  forget();
  const was = session.value;
  expired.value = false;
  session.value = was && { ...was, agent: null, renewable: false, first_run: false };
}

whenLoggedOut(() => { if (session.value?.agent) expired.value = true; });
tabs.onmessage = (message) => (message.data === "logout" ? left() : open());
