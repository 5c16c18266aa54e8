// Who is logged in. The tokens are in cookies; this only knows the agent.
import { signal } from "@preact/signals";
import { forget, problemOf, renew, whenLoggedOut, type Schema } from "./api";
import { clear } from "./query";

export type Session = Schema<"ConsoleSession">;

/** session is undefined until it is known. */
export const session = signal<Session | undefined>(undefined);
export const me = () => session.value!.agent!;
export const isAdmin = () => session.value?.agent?.role === "admin";

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
  session.value = found;
}

export async function login(email: string, password: string) {
  const response = await fetch("/console/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ email, password }) });
  if (!response.ok) throw await problemOf(response);
  session.value = await response.json();
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
  session.value = was && { ...was, agent: null, renewable: false, first_run: false };
}

whenLoggedOut(left);
tabs.onmessage = (message) => (message.data === "logout" ? left() : open());
