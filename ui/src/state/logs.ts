// The logs of a workload's instances, read as one stream: one connection,
// however many instances there are. Each line says whose it is.

import { api, refusalOf } from "./http.ts";

export interface LogLine {
  /** Grows by one with each line of this page. */
  number: number;
  instance: string;
  stream: "stdout" | "stderr" | "note";
  at: string;
  line: string;
}

interface Said {
  instance: string;
  stream?: "stdout" | "stderr";
  at?: string;
  line?: string;
  /** Instead of a line: why there are no more of this instance. */
  ended?: string;
  /** Instead of all that: so many instances are not read, as others are. */
  unread?: number;
  readAtOnce?: number;
}

const LINES_KEPT = 20_000;
const RETRY_MS = 1_500;

export type LogState = "reading" | "following" | "ended" | { refused: string };

/** What was read so far; a new value whenever there is more. */
export interface LogView {
  lines: readonly LogLine[];
  dropped: number;
  /** Instances that wait until others have been read. */
  unread: number;
  readAtOnce: number;
  state: LogState;
}

export interface LogQuery {
  workload: string;
  instance?: string | undefined;
  tail: number;
  follow: boolean;
}

/** Reads until it is told to stop. `tell` is called at most once per frame. */
export function readLogs(query: LogQuery, tell: (view: LogView) => void): () => void {
  const stop = new AbortController();
  const lastAt = new Map<string, string>();
  let lines: LogLine[] = [];
  let dropped = 0;
  let unread = 0;
  let readAtOnce = 0;
  let number = 0;
  let state: LogState = "reading";
  let frame = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const changed = () => {
    if (frame !== 0 || stop.signal.aborted) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      tell({ lines, dropped, unread, readAtOnce, state });
    });
  };

  const take = (text: string) => {
    let said: Said;
    try {
      said = JSON.parse(text) as Said;
    } catch {
      return; // cut off in the middle, by the end of the connection
    }
    if (said.unread !== undefined) {
      unread = said.unread;
      readAtOnce = said.readAtOnce ?? 0;
      return;
    }
    const { instance } = said;
    const stream = said.ended === undefined ? (said.stream ?? "stdout") : "note";
    const at = said.at ?? lines.at(-1)?.at ?? "";
    // Taken up again after a break, the tail repeats what is known.
    const key = `${instance} ${stream}`;
    if (stream !== "note") {
      if (at !== "" && at <= (lastAt.get(key) ?? "")) return;
      lastAt.set(key, at);
    }
    number += 1;
    lines.push({ number, instance, stream, at, line: plain(said.ended ?? said.line ?? "") });
  };

  const read = async (): Promise<void> => {
    const { workload, instance, tail, follow } = query;
    const params = new URLSearchParams({ tail: String(tail), follow: String(follow) });
    if (instance) params.set("instance", instance);
    const path = `/workloads/${encodeURIComponent(workload)}/logs?${params}`;
    const response = await fetch(api(path), { signal: stop.signal, cache: "no-store" });
    if (!response.ok || !response.body) {
      state = { refused: (await refusalOf(response)).message };
      return;
    }
    state = follow ? "following" : "reading";
    unread = 0;
    changed();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const pieces = (rest + value).split("\n");
      rest = pieces.pop() ?? "";
      lines = lines.slice();
      for (const piece of pieces) if (piece) take(piece);
      sort(lines);
      if (lines.length > LINES_KEPT) {
        dropped += lines.length - LINES_KEPT;
        lines = lines.slice(-LINES_KEPT);
      }
      changed();
    }
    state = "ended";
  };

  const go = () => {
    read()
      .catch(() => {
        state = { refused: "The scheduler does not answer; trying again." };
      })
      .finally(() => {
        changed();
        if (query.follow && !stop.signal.aborted) timer = setTimeout(go, RETRY_MS);
      });
  };
  go();
  return () => {
    stop.abort();
    clearTimeout(timer);
    cancelAnimationFrame(frame);
  };
}

/** By time: several instances are read at once. Usually nothing is to be done. */
function sort(lines: LogLine[]): void {
  const late = lines.some((line, index) => index > 0 && line.at < (lines[index - 1]?.at ?? ""));
  if (late) lines.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : a.number - b.number));
}

/** Without what steers terminals: colours, cursor movements, other control characters. */
export function plain(text: string): string {
  return (
    text
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
      .replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])/g, "")
      .replace(/\t/g, "    ")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
      .replace(/[\x00-\x1f\x7f]/g, "")
  );
}
