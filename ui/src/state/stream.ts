// The one connection of the page: server-sent events that fill the store. It
// notices when nothing is heard any more, says so, and comes back by itself.

import { api, type Refusal, refusalOf } from "./http.ts";
import type { Store } from "./store.ts";
import type { Changes, ClusterState } from "./types.ts";

/** The scheduler speaks every 3 s at least; silence for so long is a lost connection. */
const SILENCE_MS = 8_000;
const RETRY_MS = [500, 1_000, 2_000, 3_000];
/** A page that nobody sees gives its connection back: a browser has six per server. */
const HIDDEN_MS = 60_000;

export function follow(store: Store): () => void {
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let silence: ReturnType<typeof setTimeout> | undefined;
  let hidden: ReturnType<typeof setTimeout> | undefined;
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

  const lost = (why?: string) => {
    close();
    // One that is back at once (networks change) is no news.
    if (failures > 0 || why) store.setConnection("stale", why);
    timer = setTimeout(open, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
    failures += 1;
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
      store.setConnection("refused", refusal.message);
    } else {
      lost(refusal?.message);
    }
  };

  const heard = () => {
    failures = 0;
    clearTimeout(silence);
    silence = setTimeout(lost, SILENCE_MS);
    store.setConnection("live");
  };

  const open = () => {
    close();
    const since = store.lastEvent;
    const opened = new EventSource(api(`/stream${since === undefined ? "" : `?since=${since}`}`));
    source = opened;
    silence = setTimeout(lost, SILENCE_MS);
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
  };

  const seen = () => {
    clearTimeout(hidden);
    if (document.visibilityState === "hidden") {
      hidden = setTimeout(() => {
        close();
        store.setConnection("connecting");
      }, HIDDEN_MS);
    } else if (source === undefined && timer !== undefined) {
      failures = 0;
      open();
    } else if (source === undefined) {
      open();
    }
  };

  document.addEventListener("visibilitychange", seen);
  open();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    clearTimeout(hidden);
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
