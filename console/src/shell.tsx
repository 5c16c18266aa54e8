// The frame around all pages: navigation, uploads, shortcuts, and files that are dropped anywhere.
import { useEffect, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { useLocation } from "preact-iso/router";
import { recover, record, recording, RecordingBar } from "./recorder";
import { isAdmin, logout, me } from "./session";
import { choose, resume, upload, UploadList } from "./uploads";
import { useKeys, Shortcuts } from "./ui/keys";
import { Avatar, Button, Icon, showError, Toasts } from "./ui/ui";

interface Place { href: string; text: string; icon: string; key?: string; admin?: boolean; phone?: boolean }

const places: Place[] = [
  { href: "/console/", text: "Today", icon: "house", key: "g h", phone: true },
  { href: "/console/calls", text: "Calls", icon: "phone", key: "g c", phone: true },
  { href: "/console/followups", text: "Follow-ups", icon: "list-checks", key: "g f", phone: true },
  { href: "/console/clients", text: "Clients", icon: "users", key: "g k", phone: true },
  { href: "/console/leads", text: "Leads", icon: "target", key: "g l" },
  { href: "/console/team", text: "Team", icon: "chart-column", key: "g t", admin: true },
  { href: "/console/admin/agents", text: "Agents", icon: "shield", admin: true },
  { href: "/console/admin/webhooks", text: "Webhooks", icon: "webhook", admin: true },
  { href: "/console/admin/deliveries", text: "Deliveries", icon: "send", admin: true },
  { href: "/console/admin/usage", text: "Usage", icon: "gauge", admin: true },
];

const visible = () => places.filter((place) => !place.admin || isAdmin());
const isAt = (path: string, href: string) => (href === "/console/" ? path === "/console" || path === href : path.startsWith(href));

function Links({ path, of, onGo }: { path: string; of: Place[]; onGo?: () => void }) {
  return of.map((place) => (
    <a key={place.href} href={place.href} onClick={onGo} class="place" aria-current={isAt(path, place.href) ? "page" : undefined}>
      <Icon name={place.icon} /><span>{place.text}</span>
    </a>
  ));
}

export function Shell({ children }: { children: ComponentChildren }) {
  const { path, route } = useLocation();
  const [menu, setMenu] = useState(false);
  const [help, setHelp] = useState(false);
  const [dragging, setDragging] = useState(false);
  const keys: Record<string, () => void> = { "?": () => setHelp(true), u: () => choose(), "/": () => search(route) };
  for (const place of visible()) if (place.key) keys[place.key] = () => route(place.href);
  useKeys(keys);
  useEffect(() => { resume(); recover(); }, []);
  useEffect(() => dropFiles(setDragging), []);
  useEffect(() => { setMenu(false); }, [path]);
  const phone = visible().filter((place) => place.phone), rest = visible().filter((place) => !place.phone);
  return (
    <div class="shell">
      <a class="skip" href="#main">Skip to the page</a>
      <nav class="side" aria-label="Pages">
        <a class="brand" href="/console/"><img src="/console/icon.svg" width="28" height="28" alt="" />Convoflow</a>
        <Links path={path} of={visible()} />
        <div class="grow" />
        <Button icon="mic" disabled={Boolean(recording.value)} onClick={() => record()}>Record</Button>
        <Button kind="primary" icon="upload" onClick={() => choose()}>Upload</Button>
        <a class="place" href="/console/settings" aria-current={isAt(path, "/console/settings") ? "page" : undefined}><Avatar name={me().full_name} /><span class="clip">{me().full_name}</span></a>
      </nav>
      <main id="main" tabIndex={-1}>{children}</main>
      <div class="corner"><RecordingBar /><UploadList /></div>
      <nav class="tabs" aria-label="Pages on a phone">
        <Links path={path} of={phone} />
        <button class="place" type="button" aria-expanded={menu} onClick={() => setMenu(!menu)}><Icon name="menu" /><span>More</span></button>
      </nav>
      {menu && (
        <div class="sheet" onClick={() => setMenu(false)}>
          <div class="sheet-body" onClick={(e) => e.stopPropagation()}>
            <Links path={path} of={[...rest, { href: "/console/settings", text: "Settings", icon: "settings" }]} onGo={() => setMenu(false)} />
            <button class="place" type="button" onClick={() => { setMenu(false); choose(); }}><Icon name="upload" /><span>Upload</span></button>
            <button class="place" type="button" onClick={() => { setMenu(false); record(); }}><Icon name="mic" /><span>Record</span></button>
            <button class="place" type="button" onClick={() => logout().catch(showError)}><Icon name="log-out" /><span>Log out</span></button>
          </div>
        </div>
      )}
      {dragging && <div class="drop" aria-hidden="true"><Icon name="upload" />Drop recordings to upload them</div>}
      {help && <Shortcuts onClose={() => setHelp(false)} shown={(key) => !key.startsWith("g ") || visible().some((place) => place.key === key)} />}
      <Toasts />
    </div>
  );
}

function search(route: (url: string) => void) {
  const field = document.querySelector<HTMLInputElement>("main input[type=search]");
  if (field) field.focus();
  else route("/console/calls?search");
}

/** dropFiles uploads files that are dropped anywhere. Where a page takes files of another kind, it handles the event itself. */
function dropFiles(setDragging: (on: boolean) => void) {
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const on: [string, (event: DragEvent) => void][] = [
    ["dragenter", (e) => { if (hasFiles(e)) setDragging(++depth > 0); }],
    ["dragleave", (e) => { if (hasFiles(e)) setDragging(--depth > 0); }],
    ["dragover", (e) => { if (hasFiles(e)) e.preventDefault(); }],
    ["drop", (e) => {
      if (!hasFiles(e)) return;
      e.preventDefault();
      depth = 0;
      setDragging(false);
      for (const file of e.dataTransfer!.files) upload(file, file.name);
    }],
  ];
  for (const [name, run] of on) addEventListener(name as "drop", run);
  return () => { for (const [name, run] of on) removeEventListener(name as "drop", run); };
}
