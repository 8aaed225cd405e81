// The one connection of the page: server-sent events that fill the store. It
// notices when nothing is heard any more, says so, and comes back by itself.

import { api } from "./http.ts";
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
  let failures = 0;

  const close = () => {
    source?.close();
    source = undefined;
    clearTimeout(timer);
    clearTimeout(silence);
  };

  const lost = () => {
    close();
    // One that is back at once (networks change) is no news.
    if (failures > 0) store.setConnection("stale");
    timer = setTimeout(open, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
    failures += 1;
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
    opened.addEventListener("state", (message) => {
      store.replace(JSON.parse(message.data) as ClusterState);
      heard();
    });
    opened.addEventListener("changes", (message) => {
      store.apply(JSON.parse(message.data) as Changes);
      heard();
    });
    opened.addEventListener("error", lost);
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
