// A cache of what the API answered: a signal for each key, shared by all components that show it, loaded again when it is invalidated.
import { signal, type Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Problem, type Page } from "./api";

export interface State<T> { data?: T; error?: Problem; loading: boolean }

interface Entry<T> { state: Signal<State<T>>; load: () => Promise<T>; users: number; turn: number }

const entries = new Map<string, Entry<any>>();

const asProblem = (error: unknown) => (error instanceof Problem ? error : new Problem(0, "unexpected", String((error as Error)?.message ?? error)));

async function run(entry: Entry<unknown>) {
  const turn = ++entry.turn; // a slow answer never replaces a newer one
  entry.state.value = { ...entry.state.value, loading: true };
  try {
    const data = await entry.load();
    if (turn === entry.turn) entry.state.value = { data, loading: false };
  } catch (error) {
    if (turn === entry.turn) entry.state.value = { data: entry.state.value.data, error: asProblem(error), loading: false };
  }
}

/** useQuery returns what load gives for a key. It is loaded when the first component shows it, and again after invalidate. */
export function useQuery<T>(key: string, load: () => Promise<T>): State<T> & { reload: () => void; set: (data: T) => void } {
  let entry = entries.get(key) as Entry<T> | undefined;
  if (!entry) entries.set(key, (entry = { state: signal<State<T>>({ loading: true }), load, users: 0, turn: 0 }));
  const mine = entry;
  mine.load = load;
  useEffect(() => {
    mine.users++;
    if (mine.users === 1) run(mine);
    return () => { mine.users--; };
  }, [mine]);
  return { ...mine.state.value, reload: () => run(mine), set: (data) => { mine.turn++; mine.state.value = { data, loading: false }; } };
}

/** invalidate loads all keys with that beginning again: those that are shown now, the others when they are. */
export function invalidate(prefix: string) {
  for (const [key, entry] of entries) {
    if (!key.startsWith(prefix)) continue;
    if (entry.users > 0) run(entry);
    else entries.delete(key);
  }
}

/** update changes what is cached without asking the API, for an event that has all that changed. */
export function update<T>(prefix: string, change: (data: T) => T) {
  for (const [key, entry] of entries) {
    if (key.startsWith(prefix) && entry.state.value.data) entry.state.value = { ...entry.state.value, data: change(entry.state.value.data) };
  }
}

export function clear() {
  entries.clear();
}

/** useList returns the pages of a list that were loaded so far. Loading again keeps their number. */
export function useList<T>(key: string, load: (cursor?: string) => Promise<Page<T>>) {
  const query = useQuery<Page<T> & { pages: number }>(key, async () => {
    const wanted = (entries.get(key)?.state.value.data as { pages: number } | undefined)?.pages ?? 1;
    const all: T[] = [];
    let next: string | undefined, pages = 0;
    do {
      const page = await load(next);
      all.push(...page.items);
      next = page.next;
    } while (++pages < wanted && next);
    return { items: all, next, pages };
  });
  const more = async () => {
    const data = query.data;
    if (!data?.next) return;
    const page = await load(data.next);
    query.set({ items: [...data.items, ...page.items], next: page.next, pages: data.pages + 1 });
  };
  return { ...query, items: query.data?.items ?? [], more: query.data?.next ? more : undefined };
}
