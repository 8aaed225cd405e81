// A question before something is done, with the same as a command.

import { type ReactNode, useEffect, useId, useRef, useState } from "react";
import { Refusal } from "../state/http.ts";
import { Command } from "./copy.tsx";
import { tell } from "./notice.tsx";

/** The scheduler's answer to what was done. */
export interface Done {
  warnings?: string[];
}

export interface Deed {
  title: string;
  /** What will happen. */
  text?: ReactNode;
  /** The button's word. */
  verb: string;
  /** What is lost cannot be had back. */
  destroys?: boolean;
  /** The same on the command line. */
  command: string;
  act: () => Promise<Done>;
}

interface Props extends Deed {
  children?: ReactNode;
  onClose: () => void;
}

export function Dialog({ title, text, verb, destroys, command, act, children, onClose }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal>();
  const heading = useId();
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  const submit = async (event: React.FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setRefusal(undefined);
    try {
      tell(await act());
      onClose();
    } catch (error) {
      setRefusal(error instanceof Refusal ? error : new Refusal(0, "", String(error)));
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} aria-labelledby={heading} onClose={onClose} onCancel={onClose}>
      <form onSubmit={submit} noValidate>
        <h2 id={heading}>{title}</h2>
        {text && <div className="dialog-text">{text}</div>}
        {children}
        {refusal && (
          <p className="refusal" role="alert">
            {refusal.message}
          </p>
        )}
        <Command text={command} label="the same in a terminal" />
        <div className="dialog-end">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button
            type="submit"
            className={destroys ? "button danger" : "button primary"}
            disabled={busy}
          >
            {verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}
