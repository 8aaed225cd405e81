// What instances write: several at once, in colour, live.

import { useDeferredValue, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { ctl } from "../lib/ctl.ts";
import { clock, count, number, shortId } from "../lib/format.ts";
import { go, link, usePlace } from "../lib/router.ts";
import { Command } from "../parts/copy.tsx";
import { useWorkloadNames } from "../state/hooks.ts";
import { type LogLine, type LogView, readLogs } from "../state/logs.ts";

const TAILS = [100, 1_000, 10_000];
const HUES = 8;
const NO_LINES: LogView = { lines: [], dropped: 0, unread: 0, readAtOnce: 0, state: "reading" };

export function LogsPage({ of }: { of: string }) {
  return of ? <Logs of={of} /> : <Which />;
}

function Which() {
  const names = useWorkloadNames();
  return (
    <div className="page narrow">
      <h1>Logs</h1>
      {names.length === 0 ? (
        <p className="page-sub">Nothing runs yet, so nothing is written.</p>
      ) : (
        <>
          <p className="page-sub">Of which workload?</p>
          <ul className="which">
            {names.map((name) => (
              <li key={name}>
                <a className="button" href={link("logs", name)}>
                  {name}
                </a>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

function Logs({ of }: { of: string }) {
  const names = useWorkloadNames();
  const { params } = usePlace();
  const only = params.get("only") ?? undefined;
  const [tail, setTail] = useState(100);
  const [follow, setFollow] = useState(true);
  const [held, setHeld] = useState<LogView>();
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [stream, setStream] = useState("");
  const [text, setText] = useState("");
  const [times, setTimes] = useState(true);
  const [live, setLive] = useState<LogView>(NO_LINES);
  useEffect(() => {
    setLive(NO_LINES);
    return readLogs({ workload: of, instance: only, tail, follow }, setLive);
  }, [of, only, tail, follow]);
  const view = held ?? live;
  const wanted = useDeferredValue(text.trim().toLowerCase());
  const instances = useMemo(() => {
    const seen = new Set<string>();
    for (const { instance } of view.lines) seen.add(instance);
    return [...seen];
  }, [view.lines]);
  const hues = useMemo(
    () => new Map(instances.map((instance, index) => [instance, index % HUES])),
    [instances],
  );
  const shown = useMemo(
    () =>
      view.lines.filter(
        (line) =>
          !hidden.has(line.instance) &&
          (!stream || line.stream === stream || line.stream === "note") &&
          (!wanted || line.line.toLowerCase().includes(wanted)),
      ),
    [view.lines, hidden, stream, wanted],
  );
  const toggle = (instance: string) => {
    const next = new Set(hidden);
    if (!next.delete(instance)) next.add(instance);
    setHidden(next);
  };
  const newer = held ? live.lines.length + live.dropped - held.lines.length - held.dropped : 0;
  return (
    <div className="page logs-page">
      <header className="page-head">
        <div>
          <p className="crumbs">
            <a href={link("logs")}>Logs</a> / <a href={link("workloads", of)}>{of}</a>
          </p>
          <h1>{only ?? `All of ${of}`}</h1>
        </div>
        {only && (
          <a className="button" href={link("logs", of)}>
            All of {of}
          </a>
        )}
      </header>
      <search className="filters">
        <label>
          <span>Of</span>
          <select value={of} onChange={(event) => go(link("logs", event.target.value))}>
            {(names.includes(of) ? names : [of, ...names]).map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          <span>Last</span>
          <select value={tail} onChange={(event) => setTail(Number(event.target.value))}>
            {TAILS.map((lines) => (
              <option key={lines} value={lines}>
                {number(lines)} lines each
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>Stream</span>
          <select value={stream} onChange={(event) => setStream(event.target.value)}>
            <option value="">both</option>
            <option value="stdout">output</option>
            <option value="stderr">errors</option>
          </select>
        </label>
        <label className="grow">
          <span>With</span>
          <input
            type="search"
            placeholder="words in a line"
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        <button
          type="button"
          className="button"
          aria-pressed={follow}
          onClick={() => setFollow(!follow)}
        >
          Follow
        </button>
        <button
          type="button"
          className="button"
          aria-pressed={held !== undefined}
          onClick={() => setHeld(held ? undefined : live)}
        >
          {held ? `Go on${newer > 0 ? ` (${number(newer)} new)` : ""}` : "Pause"}
        </button>
        <button
          type="button"
          className="button"
          aria-pressed={times}
          onClick={() => setTimes(!times)}
        >
          Times
        </button>
      </search>
      {instances.length > 1 && (
        // biome-ignore lint/a11y/useSemanticElements: these are no form fields
        <div className="log-instances" role="group" aria-label="Instances shown">
          {instances.map((instance) => (
            <button
              key={instance}
              type="button"
              className={`log-instance hue-${hues.get(instance)}`}
              aria-pressed={!hidden.has(instance)}
              onClick={() => toggle(instance)}
            >
              {instance}
            </button>
          ))}
        </div>
      )}
      <Lines
        lines={shown}
        hues={hues}
        times={times}
        mark={wanted}
        stick={held === undefined}
        named={instances.length > 1}
      />
      <p className="log-foot" role="status">
        {typeof view.state === "object" ? view.state.refused : footOf(view, shown.length)}
      </p>
      {view.unread > 0 && (
        <p className="page-why">
          {count(view.unread, "more instance")} {view.unread === 1 ? "is" : "are"} not read: at most{" "}
          {view.readAtOnce} are at once{follow && ", as long as they are followed"}. The log of any
          one is on its own page.
        </p>
      )}
      <Command
        text={ctl("logs", only ?? of, "--tail", tail, follow ? "--follow" : undefined)}
        label="the same in a terminal"
      />
    </div>
  );
}

function footOf(view: LogView, shown: number): string {
  const parts = [count(view.lines.length, "line")];
  if (shown !== view.lines.length) parts.push(`${number(shown)} shown`);
  if (view.dropped > 0) parts.push(`${number(view.dropped)} older ones dropped`);
  parts.push(
    { reading: "reading", following: "following", ended: "to its end" }[view.state as string] ?? "",
  );
  return parts.join(" · ");
}

const ROW = 20;
const SPARE = 20;

interface LinesProps {
  lines: readonly LogLine[];
  hues: Map<string, number>;
  times: boolean;
  mark: string;
  /** Stay at the end while lines come, if it is in sight. */
  stick: boolean;
  named: boolean;
}

/** Only the lines in sight are there at all. */
function Lines({ lines, hues, times, mark, stick, named }: LinesProps) {
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  useEffect(() => {
    const observed = box.current;
    if (!observed) return;
    const observer = new ResizeObserver(() => setHeight(observed.clientHeight));
    observer.observe(observed);
    return () => observer.disconnect();
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: whenever lines come
  useLayoutEffect(() => {
    const scrolled = box.current;
    if (scrolled && stick && atEnd.current) scrolled.scrollTop = scrolled.scrollHeight;
  }, [lines, stick, height]);
  const scroll = () => {
    const scrolled = box.current;
    if (!scrolled) return;
    const left = scrolled.scrollHeight - scrolled.clientHeight - scrolled.scrollTop;
    atEnd.current = left < ROW * 1.5;
    setTop(scrolled.scrollTop);
  };
  const first = Math.max(0, Math.floor(top / ROW) - SPARE);
  const last = Math.min(lines.length, Math.ceil((top + height) / ROW) + SPARE);
  return (
    <section
      ref={box}
      className="log"
      aria-label="Log lines"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is reached by keyboard
      tabIndex={0}
      onScroll={scroll}
    >
      <div style={{ height: `${lines.length * ROW}px` }}>
        <div style={{ transform: `translateY(${first * ROW}px)` }}>
          {lines.slice(first, last).map((line) => (
            <div key={line.number} className={`log-line ${line.stream}`}>
              {times && line.at && <time dateTime={line.at}>{clock(line.at)}</time>}
              {named && (
                <span className={`log-who hue-${hues.get(line.instance)}`}>
                  {shortId(line.instance)}
                </span>
              )}
              <span className="log-text">
                <Marked text={line.line} mark={mark} />
              </span>
            </div>
          ))}
        </div>
      </div>
    </section>
  );
}

function Marked({ text, mark }: { text: string; mark: string }) {
  if (!mark) return text;
  const parts: React.ReactNode[] = [];
  const lower = text.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(mark); at >= 0; at = lower.indexOf(mark, from)) {
    parts.push(text.slice(from, at), <mark key={at}>{text.slice(at, at + mark.length)}</mark>);
    from = at + mark.length;
  }
  parts.push(text.slice(from));
  return parts;
}
