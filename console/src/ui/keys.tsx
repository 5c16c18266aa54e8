// Keyboard shortcuts, off while somebody types.
import { useLayoutEffect, useRef } from "preact/hooks";
import { Dialog } from "./ui";

type Keys = Record<string, () => void>;

const isTyping = (target: EventTarget | null) => target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

const pause = 1200; // ms between the keys of a sequence
let sequence = "", before = "", beforeAt = -pause; // "g c", and the last key

// Before the keys of a page look at it, also while the page is busy and they come late.
addEventListener("keydown", (event) => {
  sequence = event.timeStamp - beforeAt < pause ? `${before} ${event.key}` : "";
  before = event.key;
  beforeAt = event.timeStamp;
}, true);

/** useKeys binds keys, such as "k" or "g c", while the component is shown. What they do is that of its last rendering. */
export function useKeys(keys: Keys) {
  const now = useRef(keys);
  now.current = keys;
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
      const run = now.current[sequence.startsWith("g ") ? sequence : event.key];
      if (run) {
        event.preventDefault();
        run();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

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
