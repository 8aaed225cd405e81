// Who looks at this page, and what that allows. The scheduler judges; here it is
// only known, so that nothing is offered that it would refuse.

import { useSyncExternalStore } from "react";
import { ask } from "./http.ts";

export type Role = "viewer" | "operator" | "admin";

/** `GET /session`. */
export interface Session {
  /** Empty where nobody is asked who he is. */
  name: string;
  role: Role;
  /** By a code, and so one can sign out. */
  signedIn: boolean;
  expiresInSeconds?: number;
}

const RANK: Record<Role, number> = { viewer: 1, operator: 2, admin: 3 };

let session: Session | undefined;
const listeners = new Set<() => void>();

function know(known: Session | undefined): void {
  if (JSON.stringify(known) === JSON.stringify(session)) return;
  session = known;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const useSession = (): Session | undefined => useSyncExternalStore(subscribe, () => session);

/** Whether who looks may do what takes this role. */
export function useMay(needs: Role): boolean {
  const known = useSession();
  return known !== undefined && RANK[known.role] >= RANK[needs];
}

/** Asks who this is; throws what the scheduler says to that. */
export async function learn(): Promise<void> {
  know(await ask<Session>("GET", "/session"));
}

export const forgetSession = (): void => know(undefined);

/** A code of `ctl dashboard`, from what was pasted: the code, or the whole link. */
export const codeIn = (text: string): string => text.trim().replace(/^.*#\/?sign-in\//, "");

export async function signIn(code: string): Promise<void> {
  know(await ask<Session>("POST", "/session", { code: codeIn(code) }));
}

/** Ends the session, and with it all that this page still knows. */
export async function signOut(): Promise<void> {
  await ask("DELETE", "/session");
  location.hash = "";
  location.reload();
}
