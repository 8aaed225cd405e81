// A command to take to a terminal.

import { useState } from "react";

export function Command({ text, label }: { text: string; label?: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await put(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <div className="command">
      {label && <span className="command-label">{label}</span>}
      <code>{text}</code>
      <button
        type="button"
        className="button quiet small"
        onClick={copy}
        aria-label="Copy the command"
      >
        {copied ? "copied" : "copy"}
      </button>
      <span className="sr" role="status">
        {copied ? "copied" : ""}
      </span>
    </div>
  );
}

/** Pages over plain HTTP from another machine have no clipboard of the new kind. */
async function put(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    // Beside an open dialog nothing can be selected.
    (document.activeElement?.closest("dialog") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
