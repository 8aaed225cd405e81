// What can be done to workloads and nodes: each deed says what it will do, shows
// the command that does the same, and asks before anything is lost.

import { useState } from "react";
import { ctl } from "../lib/ctl.ts";
import { count } from "../lib/format.ts";
import { go, link } from "../lib/router.ts";
import { ask } from "../state/http.ts";
import { type Role, useMay } from "../state/session.ts";
import type { ClusterNode, Workload } from "../state/types.ts";
import { type Deed, Dialog, type Done } from "./dialog.tsx";

const send = (method: string, path: string, body?: unknown) => ask<Done>(method, path, body);

const at = (name: string, rest = "") => `/workloads/${encodeURIComponent(name)}${rest}`;

/** A button for those whose role may do what it does; others see that there is such a thing. */
function Able({
  needs,
  className,
  onClick,
  children,
}: {
  needs: Role;
  className: string;
  onClick: () => void;
  children: React.ReactNode;
}) {
  const may = useMay(needs);
  return (
    <button
      type="button"
      className={className}
      disabled={!may}
      title={may ? undefined : `This takes the role ${needs}`}
      onClick={onClick}
    >
      {children}
    </button>
  );
}

/** A button that asks first. */
export function DeedButton({
  deed,
  children,
  className = "button",
  needs = "operator",
}: {
  deed: () => Deed;
  children: React.ReactNode;
  className?: string;
  needs?: Role;
}) {
  const [open, setOpen] = useState<Deed>();
  return (
    <>
      <Able needs={needs} className={className} onClick={() => setOpen(deed())}>
        {children}
      </Able>
      {open && <Dialog {...open} onClose={() => setOpen(undefined)} />}
    </>
  );
}

export const restart = ({ spec: { name }, desired }: Workload): Deed => ({
  title: `Restart ${name}?`,
  text: `Its ${count(desired, "instance")} are replaced a few at a time by new ones of the same image; what is ready stays until its replacement is.`,
  verb: "Restart",
  command: ctl("rollout", "restart", name),
  act: () => send("POST", at(name, "/restart")),
});

export const undo = ({ spec: { name } }: Workload, to?: number): Deed => ({
  title:
    to === undefined ? `Take ${name} one revision back?` : `Take ${name} back to revision ${to}?`,
  text: "Its instances are replaced a few at a time; what is ready stays until its replacement is.",
  verb: "Roll back",
  command: ctl("rollout", "undo", name, ...(to === undefined ? [] : ["--to", to])),
  act: () => send("POST", at(name, "/rollout/undo"), to === undefined ? undefined : { to }),
});

export const remove = ({ spec: { name }, running, pending }: Workload): Deed => ({
  title: `Delete ${name}?`,
  text: `Its ${count(running + pending, "container")} are stopped and removed, and its history is forgotten. This cannot be undone.`,
  verb: `Delete ${name}`,
  destroys: true,
  command: ctl("delete", name),
  act: async () => {
    const done = await send("DELETE", at(name));
    go(link(""));
    return done;
  },
});

const STEPS = {
  pause: "Freeze it where it is; what crashes is still replaced.",
  resume: "Let it go on.",
  abort: "The new instances go, and everything is as before.",
};

export const rolloutStep = ({ spec: { name } }: Workload, step: keyof typeof STEPS): Deed => ({
  title: `${step[0]?.toUpperCase()}${step.slice(1)} the rollout of ${name}?`,
  text: STEPS[step],
  verb: `${step[0]?.toUpperCase()}${step.slice(1)}`,
  destroys: step === "abort",
  command: ctl("rollout", step, name),
  act: () => send("POST", at(name, `/rollout/${step}`)),
});

const onNode = (id: string, rest = "") => `/nodes/${encodeURIComponent(id)}${rest}`;

export const drain = ({ id, instances }: ClusterNode): Deed => ({
  title: `Drain ${id}?`,
  text: `Its ${count(instances, "instance")} move elsewhere first and then go here; it gets no new ones until it is uncordoned.`,
  verb: "Drain",
  command: ctl("drain", id),
  act: () => send("POST", onNode(id, "/drain")),
});

export const cordon = ({ id }: ClusterNode): Deed => ({
  title: `Cordon ${id}?`,
  text: "It gets no new instances; those it has stay.",
  verb: "Cordon",
  command: ctl("cordon", id),
  act: () => send("POST", onNode(id, "/cordon")),
});

export const uncordon = ({ id }: ClusterNode): Deed => ({
  title: `Let ${id} work again?`,
  text: "It may get new instances again.",
  verb: "Uncordon",
  command: ctl("uncordon", id),
  act: () => send("POST", onNode(id, "/uncordon")),
});

export const forget = ({ id, instances }: ClusterNode): Deed => ({
  title: `Forget ${id} for good?`,
  text: `${
    instances > 0 ? `What its ${count(instances, "instance")} were for is started elsewhere. ` : ""
  }To come back, its agent has to register again.`,
  verb: `Forget ${id}`,
  destroys: true,
  command: ctl("node", "remove", id),
  act: async () => {
    const done = await send("DELETE", onNode(id));
    go(link(""));
    return done;
  },
});

/** How many are wanted. */
export function ScaleButton({ workload }: { workload: Workload }) {
  const [open, setOpen] = useState(false);
  const [text, setText] = useState("");
  const { name } = workload.spec;
  const show = () => {
    setText(String(workload.desired));
    setOpen(true);
  };
  const wanted = /^\d+$/.test(text.trim()) ? Number(text.trim()) : undefined;
  const step = (by: number) => setText(String(Math.max(0, (wanted ?? workload.desired) + by)));
  const change = (wanted ?? workload.desired) - workload.desired;
  return (
    <>
      <Able needs="operator" className="button" onClick={show}>
        Scale
      </Able>
      {open && (
        <Dialog
          title={`Scale ${name}`}
          verb="Scale"
          destroys={change < 0}
          command={ctl("scale", name, text.trim() || "N")}
          act={() => send("PUT", at(name, "/scale"), { replicas: wanted ?? text })}
          onClose={() => setOpen(false)}
        >
          <div className="stepper">
            <button
              type="button"
              className="button"
              onClick={() => step(-1)}
              aria-label="One fewer"
            >
              −
            </button>
            <label>
              <span className="sr">Replicas wanted</span>
              <input
                autoFocus
                inputMode="numeric"
                value={text}
                onChange={(event) => setText(event.target.value)}
                onFocus={(event) => event.target.select()}
              />
            </label>
            <button type="button" className="button" onClick={() => step(1)} aria-label="One more">
              +
            </button>
          </div>
          <p className="dialog-text" role="status">
            {change === 0 && `${workload.desired} are wanted now.`}
            {change > 0 && `${change} more will be started.`}
            {change < 0 && `${-change} will be stopped, those that are missed least.`}
          </p>
        </Dialog>
      )}
    </>
  );
}

/** Another image, a few instances at a time. */
export function RollButton({ workload }: { workload: Workload }) {
  const [open, setOpen] = useState(false);
  const [image, setImage] = useState("");
  const [surge, setSurge] = useState("");
  const [gap, setGap] = useState("");
  const { name } = workload.spec;
  const show = () => {
    setImage(workload.spec.image);
    setSurge("");
    setGap("");
    setOpen(true);
  };
  const extent = (text: string) => (/^\d+$/.test(text.trim()) ? Number(text) : text.trim());
  const body = {
    image: image.trim(),
    ...(surge.trim() ? { maxSurge: extent(surge) } : {}),
    ...(gap.trim() ? { maxUnavailable: extent(gap) } : {}),
  };
  const options = [
    ...(surge.trim() ? ["--max-surge", surge.trim()] : []),
    ...(gap.trim() ? ["--max-unavailable", gap.trim()] : []),
  ];
  const { strategy } = workload.spec;
  return (
    <>
      <Able needs="operator" className="button" onClick={show}>
        Roll
      </Able>
      {open && (
        <Dialog
          title={`Roll ${name} to another image`}
          text="New instances come a few at a time, and an old one goes when a new one is ready. If a new one fails, everything goes back by itself."
          verb="Roll"
          command={ctl("rollout", "start", name, "--image", image.trim() || "IMAGE", ...options)}
          act={() => send("POST", at(name, "/rollout"), body)}
          onClose={() => setOpen(false)}
        >
          <label className="field">
            <span>Image</span>
            <input
              autoFocus
              spellCheck={false}
              autoCapitalize="none"
              value={image}
              onChange={(event) => setImage(event.target.value)}
            />
          </label>
          <div className="pair">
            <label className="field">
              <span>More than wanted meanwhile</span>
              <input
                placeholder={String(strategy?.maxSurge ?? 1)}
                value={surge}
                onChange={(event) => setSurge(event.target.value)}
              />
            </label>
            <label className="field">
              <span>Fewer than wanted meanwhile</span>
              <input
                placeholder={String(strategy?.maxUnavailable ?? "0, if there is room")}
                value={gap}
                onChange={(event) => setGap(event.target.value)}
              />
            </label>
          </div>
        </Dialog>
      )}
    </>
  );
}
