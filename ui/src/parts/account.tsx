// Who is signed in, and the way out.

import { useId, useState } from "react";
import { age } from "../lib/format.ts";
import { Refusal } from "../state/http.ts";
import { type Role, signOut, useSession } from "../state/session.ts";
import { tell } from "./notice.tsx";

const MAY: Record<Role, string> = {
  viewer: "You may look at everything.",
  operator: "You may look, and change workloads.",
  admin: "You may look, and change workloads and nodes.",
};

export function Account() {
  const session = useSession();
  const id = useId();
  const [busy, setBusy] = useState(false);
  // Where nobody is asked who he is, there is nothing to be said about it.
  if (!session?.signedIn) return null;
  const { role, expiresInSeconds } = session;
  const name = session.name || "somebody";
  const leave = async () => {
    setBusy(true);
    try {
      await signOut();
    } catch (error) {
      setBusy(false);
      tell({ warnings: [error instanceof Refusal ? error.message : String(error)] });
    }
  };
  return (
    <>
      <button
        type="button"
        className="button quiet account"
        popoverTarget={id}
        aria-label={`Signed in as ${name}, ${role}`}
      >
        <span className="account-name">{name}</span> <span className="badge">{role}</span>
      </button>
      <div id={id} popover="auto" className="account-menu">
        <p>
          Signed in as <strong>{name}</strong>, {role}.
        </p>
        <p className="page-sub">
          {MAY[role]}
          {expiresInSeconds !== undefined &&
            ` It ends by itself after ${age(expiresInSeconds * 1000)}.`}
        </p>
        <button type="button" className="button" onClick={leave} disabled={busy}>
          Sign out
        </button>
      </div>
    </>
  );
}
