// The typed client of the HTTP API. Tokens are in cookies that no script can read; an expired one is renewed unseen.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.gen";

export type Schema<Name extends keyof components["schemas"]> = components["schemas"][Name];
export type Agent = Schema<"Agent">;
export type Call = Schema<"Call">;
export type CallSummary = Schema<"CallSummary">;
export type Client = Schema<"Client">;
export type FollowUp = Schema<"FollowUp">;
export type Lead = Schema<"Lead">;
export type TimelineItem = Schema<"TimelineItem">;
export type Delivery = Schema<"Delivery">;
export type Webhook = Schema<"Webhook">;

/** An error of the API. Its message is a text for people. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly fields: Record<string, string> = {},
    readonly retryAfter = 0,
    readonly body: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

export const offline = () => new Problem(0, "offline", "The platform cannot be reached. Check your connection; what you typed is still here.");

/** problemOf makes the error of a response. */
export async function problemOf(response: Response): Promise<Problem> {
  const body = await response.json().catch(() => ({}));
  return problemFrom(response.status, body, response.headers.get("Retry-After"));
}

export function problemFrom(status: number, body: any, retryAfter: string | null): Problem {
  const fields: Record<string, string> = {};
  for (const field of body?.errors ?? []) fields[String(field.loc?.at(-1))] = field.msg;
  return new Problem(status, body?.code ?? "unknown", body?.detail ?? `The platform answered ${status}.`, fields, Number(retryAfter ?? 0), body ?? {});
}

/** onLoggedOut runs when a session cannot be renewed. */
export let onLoggedOut = () => {};
export const whenLoggedOut = (run: () => void) => { onLoggedOut = run; };

const renewedAt = "renewed"; // in localStorage: when a tab last renewed the session, which all tabs share

/** renew renews the session once for all tabs. It returns false when there is none any more. */
export async function renew(since = Date.now()): Promise<boolean> {
  const once = async () => {
    if (Number(localStorage.getItem(renewedAt)) > since) return true; // another tab did, while this one waited
    const response = await fetch("/console/session/refresh", { method: "POST" });
    if (response.ok) localStorage.setItem(renewedAt, String(Date.now()));
    if (response.status >= 500) throw await problemOf(response);
    return response.ok;
  };
  // Without https there are no locks, and auth gives both of two renewals the same new tokens.
  return navigator.locks ? navigator.locks.request("renew", once) : once();
}

interface Stored { etag: string; body: string; headers: Headers }
const stored = new Map<string, Stored>();
const mostStored = 60;

export const forget = () => stored.clear();

/** send is fetch with the renewal of the session and with stored answers, which are asked for again by their ETag. */
export async function send(request: Request): Promise<Response> {
  const started = Date.now(), again = request.clone();
  const known = request.method === "GET" ? stored.get(request.url) : undefined;
  if (known) request.headers.set("If-None-Match", known.etag);
  let response: Response;
  try {
    response = await fetch(request);
    if (response.status === 401) {
      if (!(await renew(started))) {
        onLoggedOut();
        return response;
      }
      response = await fetch(again);
      if (response.status === 401) onLoggedOut();
    }
  } catch (error) {
    if (error instanceof Problem || (error as Error).name === "AbortError") throw error;
    throw offline();
  }
  if (response.status === 304 && known) return new Response(known.body, { status: 200, headers: known.headers });
  const etag = response.headers.get("ETag");
  if (request.method === "GET" && response.ok && etag && response.headers.get("Content-Type")?.includes("json")) {
    const body = await response.text();
    stored.delete(request.url);
    stored.set(request.url, { etag, body, headers: response.headers });
    if (stored.size > mostStored) stored.delete(stored.keys().next().value!);
    return new Response(body, { status: response.status, headers: response.headers });
  }
  return response;
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: send });

interface Answer<T> { data?: T; error?: unknown; response: Response }

/** ok returns the data of an answer, or throws its Problem. */
export async function ok<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answer;
  if (response.ok) return data as T;
  throw problemFrom(response.status, error, response.headers.get("Retry-After"));
}

/** A page of a list, and the cursor of the next one. */
export interface Page<T> { items: T[]; next?: string; total?: number }

export async function paged<T>(answer: Promise<Answer<T[]>>): Promise<Page<T>> {
  const { data, error, response } = await answer;
  if (!response.ok) throw problemFrom(response.status, error, response.headers.get("Retry-After"));
  const link = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get("Link") ?? "");
  return { items: data ?? [], next: link ? new URL(link[1]!, location.origin).searchParams.get("cursor") ?? undefined : undefined };
}

/** newKey returns a new Idempotency-Key. Without https there is no crypto.randomUUID. */
export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
