// An instance as a tile: colour and shape say how it is, the rest is in words.

import { memo, useRef } from "react";
import { age, shortId } from "../lib/format.ts";
import { lookOf, sentenceOf, stateOf } from "../lib/look.ts";
import { link } from "../lib/router.ts";
import { store, useSecond } from "../state/hooks.ts";
import type { Instance } from "../state/types.ts";

/** A small square. */
export const Tile = memo(function Tile({ instance, tab }: { instance: Instance; tab: boolean }) {
  const words = sentenceOf(instance);
  return (
    <a
      className={`tile look-${lookOf(instance)}`}
      href={link("instances", instance.id)}
      title={words}
      aria-label={words}
      data-instance={instance.id}
      tabIndex={tab ? 0 : -1}
    />
  );
});

/** A tile with room for its name. */
export const Chip = memo(function Chip({ instance, tab }: { instance: Instance; tab: boolean }) {
  const look = lookOf(instance);
  return (
    <a
      className={`chip look-${look}`}
      href={link("instances", instance.id)}
      title={sentenceOf(instance)}
      data-instance={instance.id}
      tabIndex={tab ? 0 : -1}
    >
      <span className={`tile look-${look}`} aria-hidden="true" />
      <span className="chip-name">{instance.workloadId}</span>
      <span className="chip-id">
        r{instance.revision}·{shortId(instance.id)}
      </span>
      <span className="chip-state">
        {look === "ready" ? <Uptime instance={instance} /> : stateOf(instance)}
      </span>
    </a>
  );
});

export function Uptime({ instance }: { instance: Instance }) {
  useSecond();
  const ms = store.runningFor(instance);
  return <>{ms === undefined ? "–" : age(ms)}</>;
}

/** With more than this many, tiles are squares. */
const CHIPS_AT_MOST = 12;

/** Tiles as one stop of the Tab key; the arrow keys go from one to the next. */
export function Tiles({
  instances,
  label,
  dense = false,
}: {
  instances: readonly Instance[];
  label: string;
  /** Squares, however few. */
  dense?: boolean;
}) {
  const group = useRef<HTMLDivElement>(null);
  const Each = dense || instances.length > CHIPS_AT_MOST ? Tile : Chip;
  return (
    // biome-ignore lint/a11y/useSemanticElements: a group of links is no fieldset
    <div
      ref={group}
      className={Each === Tile ? "tiles dense" : "tiles"}
      role="group"
      aria-label={label}
      onKeyDown={(event) => move(event, group.current)}
    >
      {instances.map((instance, index) => (
        <Each key={instance.id} instance={instance} tab={index === 0} />
      ))}
    </div>
  );
}

const STEPS: Record<string, number> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

function move(event: React.KeyboardEvent, group: HTMLElement | null) {
  const step = STEPS[event.key];
  if (step === undefined || !group) return;
  const all = [...group.querySelectorAll<HTMLElement>("a")];
  const here = all.indexOf(document.activeElement as HTMLElement);
  const next = all[here + step];
  if (next) {
    event.preventDefault();
    next.focus();
  }
}
