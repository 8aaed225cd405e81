// What the scheduler wants known about what was done. It stays until it is closed,
// wherever the page has gone meanwhile: what was done may end the page it was done on.

import { useEffect, useId, useRef, useSyncExternalStore } from "react";

let warnings: readonly string[] = [];
let listener = () => {};

function show(those: readonly string[]): void {
  warnings = those;
  listener();
}

/** Shows the warnings of an answer, if it has any. */
export function tell(answer: { warnings?: string[] }): void {
  if (answer.warnings?.length) show([...warnings, ...answer.warnings]);
}

function subscribe(changed: () => void): () => void {
  listener = changed;
  return () => {
    listener = () => {};
  };
}

export function Notices() {
  const shown = useSyncExternalStore(subscribe, () => warnings);
  return shown.length > 0 ? <Notice warnings={shown} /> : null;
}

function Notice({ warnings }: { warnings: readonly string[] }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  const close = () => show([]);
  return (
    <dialog ref={dialog} aria-labelledby={heading} onClose={close} onCancel={close}>
      <form method="dialog">
        <h2 id={heading}>Done. Something you should know:</h2>
        <ul className="plain">
          {[...new Set(warnings)].map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
        <div className="dialog-end">
          <button type="submit" className="button primary">
            Close
          </button>
        </div>
      </form>
    </dialog>
  );
}
