// Keyboard shortcuts, off while somebody types.
import { useEffect } from "preact/hooks";
import { Dialog } from "./ui";

type Keys = Record<string, () => void>;

const isTyping = (target: EventTarget | null) => target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

let first = ""; // of a sequence such as "g c"
let firstAt = 0;

/** useKeys binds keys, such as "k" or "g c", while the component is shown. */
export function useKeys(keys: Keys) {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
      const sequence = event.timeStamp - firstAt < 1200 ? `${first} ${event.key}` : "";
      const run = keys[sequence] ?? keys[event.key];
      if (run) {
        event.preventDefault();
        run();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
}

addEventListener("keydown", (event) => setTimeout(() => { first = event.key; firstAt = event.timeStamp; }));

const help: [string, string][] = [
  ["?", "This list"], ["g h", "Today"], ["g c", "Calls"], ["g l", "Leads"], ["g k", "Clients"], ["g f", "Follow-ups"], ["g t", "Team"], ["u", "Upload a recording"], ["/", "Search"],
  ["k", "Play or pause"], ["j  l", "10 s back, 10 s on"], ["n  p", "Next, previous quote"], ["a", "Accept the first suggestion"], ["e", "Complete the first follow-up"],
];

export function Shortcuts({ onClose, shown }: { onClose: () => void; shown: (key: string) => boolean }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl class="keys">{help.filter(([key]) => shown(key)).map(([key, text]) => <div key={key}><dt>{key.split(" ").filter(Boolean).map((k) => <kbd key={k}>{k}</kbd>)}</dt><dd>{text}</dd></div>)}</dl>
    </Dialog>
  );
}
