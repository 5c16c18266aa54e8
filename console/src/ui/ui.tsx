// The parts that pages are made of.
import type { ButtonHTMLAttributes, ComponentChildren, InputHTMLAttributes } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { Problem } from "../api";
import { initials } from "../text/text";

export function Icon({ name, label }: { name: string; label?: string }) {
  return (
    <svg class="icon" aria-hidden={label ? undefined : "true"} role={label ? "img" : undefined} aria-label={label}>
      <use href={`${SPRITE}#${name}`} />
    </svg>
  );
}

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & { kind?: "primary" | "plain" | "danger" | "quiet"; icon?: string; busy?: boolean };

export function Button({ kind = "plain", icon, busy, children, class: extra, type = "button", ...rest }: ButtonProps) {
  return (
    <button {...rest} type={type} class={`button ${kind} ${children ? "" : "only-icon"} ${extra ?? ""}`} disabled={rest.disabled || busy} aria-busy={busy}>
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

type Tone = "neutral" | "good" | "bad" | "warn" | "accent";

export function Badge({ tone = "neutral", icon, children }: { tone?: Tone; icon?: string; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{icon && <Icon name={icon} />}{children}</span>;
}

export function Card({ title, actions, children, class: extra, icon }: { title?: ComponentChildren; icon?: string; actions?: ComponentChildren; children: ComponentChildren; class?: string }) {
  const id = useId();
  return (
    <section class={`card ${extra ?? ""}`} aria-labelledby={title ? id : undefined}>
      {title && <header class="card-head"><h2 id={id}>{icon && <Icon name={icon} />}{title}</h2>{actions}</header>}
      {children}
    </section>
  );
}

export function Avatar({ name }: { name: string }) {
  return <span class="avatar" aria-hidden="true">{initials(name)}</span>;
}

export function PageHead({ title, children, back }: { title: ComponentChildren; children?: ComponentChildren; back?: { href: string; text: string } }) {
  return (
    <header class="page-head">
      <div class="grow">
        {back && <a class="back" href={back.href}><Icon name="chevron-left" />{back.text}</a>}
        <h1>{title}</h1>
      </div>
      {children}
    </header>
  );
}

/** useTitle names the page in the tab and for screen readers. */
export function useTitle(title: string | undefined) {
  useEffect(() => { if (title) document.title = `${title} · Convoflow`; }, [title]);
}

export function Empty({ icon, title, children }: { icon: string; title: string; children?: ComponentChildren }) {
  return <div class="empty"><span class="empty-icon"><Icon name={icon} /></span><h2>{title}</h2>{children && <div class="empty-text">{children}</div>}</div>;
}

const advice: Record<number, string> = {
  0: "", 401: "Log in again; what you typed is still here.", 403: "Ask an admin if you need it.", 404: "It may have been deleted.", 429: "Wait a moment, then try again.", 503: "It is usually back within seconds.", 504: "Try again.",
};

const sentence = (text: string) => (/[.!?:]$/.test(text) ? text : text + ".");

/** Failure says what went wrong and what to do about it. */
export function Failure({ error, retry }: { error: Problem; retry?: () => void }) {
  const canRetry = retry && error.status !== 403 && error.status !== 404;
  useEffect(() => { // an overloaded platform says when to come back
    if (!canRetry || ![429, 503].includes(error.status)) return;
    const timer = setTimeout(retry, Math.max(2, error.retryAfter) * 1000);
    return () => clearTimeout(timer);
  }, [error]);
  return (
    <div class="failure" role="alert">
      <Icon name="circle-alert" />
      <div class="grow"><strong>{sentence(error.message)}</strong> {advice[error.status]}</div>
      {canRetry && <Button icon="refresh-cw" onClick={retry}>Try again</Button>}
    </div>
  );
}

export function Loading({ rows = 3 }: { rows?: number }) {
  return <div class="loading" role="status" aria-label="Loading">{Array.from({ length: rows }, (_, i) => <span key={i} class="bone" />)}</div>;
}

/** Loaded shows one of the states of a query: loading, failed, or its data. Old data stays while an error shows above it. page is the heading of a page that has none before its data, and back the list that it belongs to. */
export function Loaded<T>({ query, rows, page, back, children }: { page?: string; back?: { href: string; text: string }; query: { data?: T; error?: Problem; reload: () => void }; rows?: number; children: (data: T) => ComponentChildren }) {
  return (
    <>
      {page && query.data === undefined && <PageHead title={page} back={back} />}
      {query.error && <Failure error={query.error} retry={query.reload} />}
      {query.data !== undefined ? children(query.data) : !query.error && <Loading rows={rows} />}
    </>
  );
}

export function More({ more }: { more?: () => Promise<void> }) {
  const [busy, setBusy] = useState(false);
  if (!more) return null;
  const load = () => { setBusy(true); more().catch(showError).finally(() => setBusy(false)); };
  return <div class="more"><Button busy={busy} onClick={load}>{busy ? "Loading…" : "Load more"}</Button></div>;
}

type FieldProps = { label: string; name: string; error?: string; hint?: ComponentChildren; children?: ComponentChildren } & Omit<InputHTMLAttributes<HTMLInputElement>, "label" | "name">;

// A value that is rendered again would replace what was typed, so only fields with onInput are controlled.

/** Field is a labelled control with the server's error of that name below it. */
export function Field({ label, name, error, hint, children, ...input }: FieldProps) {
  const id = useId(), note = `${id}-note`;
  return (
    <div class="field">
      <label for={id}>{label}{input.required ? "" : <span class="optional"> optional</span>}</label>
      <input id={id} name={name} {...(input as object)} {...(input.onInput ? {} : { value: undefined, defaultValue: input.value })} aria-invalid={error ? "true" : undefined} aria-describedby={error || hint ? note : undefined} />
      {children}
      {(error || hint) && <p id={note} class={error ? "field-error" : "hint"}>{error ?? hint}</p>}
    </div>
  );
}

export function Select({ label, value, options, onChange, name, hidden }: { label: string; value: string; name?: string; options: [string, string][]; onChange?: (value: string) => void; hidden?: boolean }) {
  const id = useId();
  return (
    <div class={hidden ? "field inline" : "field"}>
      <label for={id} class={hidden ? "unseen" : ""}>{label}</label>
      <select id={id} name={name} value={onChange ? value : undefined} onChange={(e) => onChange?.(e.currentTarget.value)}>
        {options.map(([v, text]) => <option key={v} value={v} selected={v === value}>{text}</option>)}
      </select>
    </div>
  );
}

/** Check is a checkbox with its label. */
export function Check({ label, ...input }: { label: ComponentChildren } & Omit<InputHTMLAttributes<HTMLInputElement>, "label">) {
  return <label class="check"><input type="checkbox" {...(input as object)} /> {label}</label>;
}

export function TextArea({ label, name, value, error, rows = 3, maxLength }: { label: string; name: string; value?: string; error?: string; rows?: number; maxLength?: number }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}<span class="optional"> optional</span></label>
      <textarea id={id} name={name} rows={rows} maxLength={maxLength} defaultValue={value} aria-invalid={error ? "true" : undefined} />
      {error && <p class="field-error">{error}</p>}
    </div>
  );
}

/** values returns what a form has, trimmed. */
export function values(form: HTMLFormElement): Record<string, string> {
  return Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
}

/** changed returns the fields of a form that differ from what they were, so that a change of the others, from another tab, stays. */
export function changed<T extends object>(now: T, was: object): Partial<T> {
  return Object.fromEntries(Object.entries(now).filter(([name, value]) => value !== ((was as Record<string, unknown>)[name] ?? null))) as Partial<T>;
}

/** useForm sends a form, and has the errors of the server by field. What was typed stays. */
export function useForm(send: (values: Record<string, string>, form: HTMLFormElement) => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const onSubmit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    setBusy(true);
    setProblem(undefined);
    try {
      await send(values(form), form);
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(0, "unexpected", String((error as Error).message)));
    } finally {
      setBusy(false);
    }
  };
  const fields = problem?.fields ?? {};
  const general = problem && Object.keys(fields).length === 0 ? <Failure error={problem} /> : null;
  return { onSubmit, busy, fields, general, problem };
}

/** Dialog is modal; Escape and the backdrop close it, if it can be closed. */
export function Dialog({ title, onClose, children, class: extra }: { title: string; onClose?: () => void; children: ComponentChildren; class?: string }) {
  const ref = useRef<HTMLDialogElement>(null), id = useId();
  const pressed = useRef(false); // on the backdrop: text that is selected past the edge closes nothing
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    ref.current!.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog ref={ref} class={extra} aria-labelledby={id} onCancel={(e) => { e.preventDefault(); onClose?.(); }} onMouseDown={(e) => { pressed.current = e.target === ref.current; }} onClick={(e) => e.target === ref.current && pressed.current && onClose?.()}>
      <div class="dialog-body">
        <header class="card-head"><h2 id={id} class="wrap">{title}</h2>{onClose && <Button kind="quiet" icon="x" aria-label="Close" onClick={onClose} />}</header>
        {children}
      </div>
    </dialog>
  );
}

/** Confirm asks before something that cannot be undone. */
export function Confirm({ title, text, action, run, onClose }: { title: string; text: ComponentChildren; action: string; run: () => Promise<unknown>; onClose: () => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const go = async () => {
    setBusy(true);
    try {
      await run();
      onClose();
    } catch (error) {
      setProblem(error as Problem);
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <p>{text}</p>
      {problem && <Failure error={problem} />}
      <div class="row end"><Button onClick={onClose}>Cancel</Button><Button kind="danger" busy={busy} onClick={go}>{action}</Button></div>
    </Dialog>
  );
}

interface Toast { id: number; text: string; tone: "neutral" | "bad"; undo?: () => void }
const toasts = signal<Toast[]>([]);
let lastToast = 0;
const undoTime = 6000; // ms

const dismiss = (id: number) => { toasts.value = toasts.value.filter((t) => t.id !== id); };

export function toast(text: string, more: Partial<Pick<Toast, "tone" | "undo">> = {}) {
  const id = ++lastToast;
  toasts.value = [...toasts.value.slice(-3), { id, text, tone: "neutral", ...more }];
  setTimeout(() => dismiss(id), undoTime);
  return id;
}

export const showError = (error: unknown) => { toast((error as Error).message, { tone: "bad" }); };

export const copy = (text: string) => {
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => toast("Copied"), showError);
  else showError(new Error("This browser copies only over https: select the text instead."));
};

/** Secret shows what is shown once. */
export function Secret({ value }: { value: string }) {
  return <p class="secret"><code class="wrap">{value}</code> <Button icon="copy" onClick={() => copy(value)}>Copy</Button></p>;
}

const waiting = new Set<() => void>();
addEventListener("pagehide", () => { for (const commit of [...waiting]) commit(); });

/**
 * soon shows a change at once and sends it when it can no longer be undone: some changes tell other systems, which cannot be asked to
 * forget. A closed page sends it at once.
 */
export function soon(text: string, send: () => Promise<unknown>, revert: () => void) {
  let over = false;
  const commit = () => {
    if (over) return;
    over = true;
    waiting.delete(commit);
    clearTimeout(timer);
    send().catch((error) => { revert(); showError(error); });
  };
  const timer = setTimeout(commit, undoTime - 500);
  waiting.add(commit);
  const id = toast(text, { undo: () => { over = true; waiting.delete(commit); clearTimeout(timer); dismiss(id); revert(); } });
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((t) => (
        <div key={t.id} class={`toast ${t.tone}`}>
          <span class="grow">{t.text}</span>
          {t.undo && <Button kind="quiet" icon="undo-2" onClick={t.undo}>Undo</Button>}
          <Button kind="quiet" icon="x" aria-label="Close" onClick={() => dismiss(t.id)} />
        </div>
      ))}
    </div>
  );
}
