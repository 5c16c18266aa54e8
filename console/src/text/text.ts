// How values are written for people, in the zone and language of the browser.

const day = 24 * 60 * 60 * 1000;

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dateYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });

export const midnight = (at = new Date()) => new Date(at.getFullYear(), at.getMonth(), at.getDate());
/** daysAgo is the beginning of a day in the zone of the browser. */
export const daysAgo = (n: number, now = new Date()) => new Date(now.getFullYear(), now.getMonth(), now.getDate() - n);
const daysFrom = (at: Date) => Math.round((midnight(at).getTime() - midnight().getTime()) / day);

/** when writes a moment as short as it is clear: today 14:05, tomorrow 09:00, 3 Nov. */
export function when(iso: string | null | undefined): string {
  if (!iso) return "no date";
  const at = new Date(iso), days = daysFrom(at);
  if (days === 0) return `today ${time.format(at)}`;
  if (days === 1) return `tomorrow ${time.format(at)}`;
  if (days === -1) return `yesterday ${time.format(at)}`;
  if (Math.abs(days) < 7) return `${weekday.format(at)}, ${time.format(at)}`;
  return (at.getFullYear() === new Date().getFullYear() ? date : dateYear).format(at);
}

export const fullTime = (iso: string) => full.format(new Date(iso));

/** clock writes seconds as 1:05 or 1:02:03. */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds)), pad = (n: number) => String(n).padStart(2, "0");
  return s >= 3600 ? `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60)}:${pad(s % 60)}` : `${Math.floor(s / 60)}:${pad(s % 60)}`;
}

/** spoken writes seconds for a screen reader. */
export function spoken(seconds: number): string {
  const m = Math.floor(seconds / 60), s = Math.floor(seconds % 60);
  return [m && `${m} minute${m === 1 ? "" : "s"}`, `${s} second${s === 1 ? "" : "s"}`].filter(Boolean).join(" ");
}

/** words writes a value of an enumeration: callback_requested is "Callback requested". */
export function words(value: string | null | undefined): string {
  if (!value) return "–";
  const text = value.replaceAll("_", " ").replace("followup", "follow-up");
  return text[0]!.toUpperCase() + text.slice(1);
}

export const count = (n: number, one: string, many = one + "s") => `${n.toLocaleString()} ${n === 1 ? one : many}`;
export const plain = (n: number) => n.toLocaleString();

const tenths = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const decimal = (n: number) => tenths.format(n);

const cents = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 4 });
export const usd = (n: number) => cents.format(n);

export const percent = (share: number) => `${Math.round(share * 100)} %`;
export const size = (bytes: number) => (bytes < 1 << 20 ? `${Math.max(1, Math.round(bytes / 1024))} kB` : `${(bytes / (1 << 20)).toFixed(1)} MB`);

/** marks splits the HTML of a search highlight, escaped text with mark elements, into text that is marked or not. */
export function marks(snippet: string): { text: string; marked: boolean }[] {
  return snippet.split(/<mark>(.*?)<\/mark>/s).map((part, i) => ({ text: unescape(part), marked: i % 2 === 1 })).filter((part) => part.text);
}

const entities: Record<string, string> = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#34;": '"', "&#39;": "'", "&amp;": "&" };
const unescape = (text: string) => text.replace(/&(lt|gt|quot|#34|#39|amp);/g, (entity) => entities[entity]!);

export const initials = (name: string) => name.split(/\s+/).filter(Boolean).slice(0, 2).map((part) => [...part][0]).join("").toUpperCase();
