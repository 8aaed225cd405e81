// The one connection of the page: server-sent events that fill the store. It
// notices when nothing is heard any more, says so, and comes back by itself.

import { api, Refusal, refusalOf } from "./http.ts";
import { forgetSession, learn } from "./session.ts";
import type { Store } from "./store.ts";
import type { Changes, ClusterState } from "./types.ts";

/** The scheduler speaks every 3 s at least; after so long without a word, it is not heard. */
const SILENCE_MS = 5_000;
/** Then the connection gets so much longer to speak again, before another one is tried. */
const GRACE_MS = 3_000;
/** A connection that ended and is back so soon (networks change) is no news. */
const DOUBT_MS = 1_500;
const RETRY_MS = [500, 1_000, 2_000, 3_000];
/** A page that nobody sees gives its connection back: a browser has six per server. */
const HIDDEN_MS = 60_000;

let again = () => {};

/** Asks anew, as after signing in. */
export const reconnect = (): void => again();

type Timer = ReturnType<typeof setTimeout> | undefined;

export function follow(store: Store): () => void {
  let source: EventSource | undefined;
  let timer: Timer;
  let silence: Timer;
  let doubt: Timer;
  let hidden: Timer;
  let probe: AbortController | undefined;
  let failures = 0;

  const close = () => {
    source?.close();
    source = undefined;
    probe?.abort();
    probe = undefined;
    clearTimeout(timer);
    clearTimeout(silence);
  };

  const stale = (why?: string) => {
    clearTimeout(doubt);
    doubt = undefined;
    store.setConnection("stale", why);
  };

  /** However the page then tries to get back, from now on it has only so long to be silent. */
  const doubted = () => {
    doubt ??= setTimeout(stale, DOUBT_MS);
  };

  const lost = (why?: string) => {
    close();
    if (failures > 0 || why) stale(why);
    else doubted();
    timer = setTimeout(open, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
    failures += 1;
  };

  /** Nothing comes, and the connection has not ended either: its other end may be gone. */
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => {
      stale();
      silence = setTimeout(lost, GRACE_MS);
    }, SILENCE_MS);
  };

  /** It never began: perhaps the scheduler says why. */
  const failed = async () => {
    close();
    probe = new AbortController();
    const { signal } = probe;
    silence = setTimeout(lost, SILENCE_MS);
    const refusal = await refusalOfStream(signal);
    if (signal.aborted) return;
    if (refusal?.status === 401 || refusal?.status === 403) {
      close();
      clearTimeout(doubt);
      doubt = undefined;
      const needed = refusal.status === 401;
      if (needed) forgetSession();
      // That nothing was shown yet is no news to who is about to sign in.
      const why = refusal.reason === "NoCredentials" ? undefined : refusal.message;
      store.setConnection(needed ? "signed-out" : "refused", why);
    } else {
      lost(refusal?.message);
    }
  };

  const heard = () => {
    failures = 0;
    clearTimeout(doubt);
    doubt = undefined;
    listen();
    store.hear();
    store.setConnection("live");
  };

  const open = () => {
    close();
    const since = store.lastEvent;
    const opened = new EventSource(api(`/stream${since === undefined ? "" : `?since=${since}`}`));
    source = opened;
    silence = setTimeout(lost, SILENCE_MS + GRACE_MS);
    let begun = false;
    opened.addEventListener("state", (message) => {
      begun = true;
      store.replace(JSON.parse(message.data) as ClusterState);
      heard();
    });
    opened.addEventListener("changes", (message) => {
      store.apply(JSON.parse(message.data) as Changes);
      heard();
    });
    opened.addEventListener("error", () => {
      if (begun) lost();
      else void failed();
    });
    void who();
  };

  /** Another one may be signed in than before. */
  const who = async (): Promise<void> => {
    try {
      await learn();
    } catch (error) {
      // Who is not let in hears it from the stream; else it is asked again.
      const refused = error instanceof Refusal && error.status >= 400 && error.status < 500;
      if (!refused && source !== undefined) setTimeout(who, RETRY_MS.at(-1));
    }
  };

  const seen = () => {
    clearTimeout(hidden);
    if (document.visibilityState === "hidden") {
      hidden = setTimeout(() => {
        close();
        clearTimeout(doubt);
        doubt = undefined;
        store.setConnection("connecting");
      }, HIDDEN_MS);
    } else if (source === undefined) {
      failures = 0;
      open();
    }
  };

  document.addEventListener("visibilitychange", seen);
  again = open;
  open();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    clearTimeout(hidden);
    clearTimeout(doubt);
    close();
  };
}

/** Why the stream is refused: an EventSource does not say, the same asked for otherwise does. */
async function refusalOfStream(signal: AbortSignal): Promise<Refusal | undefined> {
  try {
    const response = await fetch(api("/stream"), { cache: "no-store", signal });
    if (!response.ok) return await refusalOf(response);
    await response.body?.cancel();
  } catch {
    // Not heard at all, then.
  }
  return undefined;
}
