import { useEffect, useRef, useState } from "react";
import { age } from "./lib/format.ts";
import { link, usePlace } from "./lib/router.ts";
import { chooseTheme, chosenTheme, type Theme } from "./lib/theme.ts";
import { Account } from "./parts/account.tsx";
import { Mark } from "./parts/mark.tsx";
import { Notices } from "./parts/notice.tsx";
import { store, useConnection, useConnectionWhy, useLoaded, useSecond } from "./state/hooks.ts";
import { useMay, useSession } from "./state/session.ts";
import { ClusterPage } from "./views/cluster.tsx";
import { DeployPage } from "./views/deploy.tsx";
import { InstancePage } from "./views/instance.tsx";
import { LogsPage } from "./views/logs.tsx";
import { NodePage } from "./views/node.tsx";
import { SignInPage } from "./views/signin.tsx";
import { TimelinePage } from "./views/timeline.tsx";
import { WorkloadPage } from "./views/workload.tsx";

const TABS = [
  { view: "", name: "Cluster", owns: ["", "workloads", "nodes", "instances"] },
  { view: "timeline", name: "Timeline", owns: ["timeline"] },
  { view: "logs", name: "Logs", owns: ["logs"] },
];

export function App() {
  const { view, arg } = usePlace();
  const connection = useConnection();
  const why = useConnectionWhy();
  const signingIn = view === "sign-in" || connection === "signed-out";
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  // A new place is announced and read from its top, as a page of its own would be.
  useEffect(() => {
    const title = signingIn
      ? "Sign in"
      : arg || TABS.find((tab) => tab.view === view)?.name || view;
    document.title = `${title} · kube-lite`;
    if (first.current) first.current = false;
    else main.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [view, arg, signingIn]);
  if (signingIn) {
    return (
      <main id="main" ref={main} tabIndex={-1}>
        <SignInPage
          code={view === "sign-in" ? arg : ""}
          why={connection === "signed-out" ? why : undefined}
          byLink={view === "sign-in"}
        />
      </main>
    );
  }
  return (
    <>
      <a className="skip" href="#main" onClick={(event) => skip(event, main.current)}>
        Skip to what it is about
      </a>
      <header className="top">
        <a className="brand" href={link("")} aria-label="kube-lite, the cluster">
          <Mark />
          <span>kube-lite</span>
        </a>
        <nav aria-label="Views">
          {TABS.map((tab) => (
            <a
              key={tab.view}
              href={link(tab.view)}
              aria-current={tab.owns.includes(view) ? "page" : undefined}
            >
              {tab.name}
            </a>
          ))}
        </nav>
        <div className="top-end">
          <ConnectionState />
          <ThemeSwitch />
          <Account />
          <DeployLink />
        </div>
      </header>
      <StaleBanner />
      <main id="main" ref={main} tabIndex={-1}>
        <Page />
      </main>
      <Notices />
    </>
  );
}

/** Only for those who may. */
function DeployLink() {
  if (!useMay("operator")) return null;
  return (
    <a className="button primary" href={link("deploy")}>
      <span aria-hidden="true">+</span> Deploy
    </a>
  );
}

function skip(event: React.MouseEvent, main: HTMLElement | null) {
  event.preventDefault();
  main?.focus();
}

function Page() {
  const { view, arg, params } = usePlace();
  const loaded = useLoaded();
  const known = useSession() !== undefined;
  if (!loaded || !known) return <FirstMoment />;
  switch (view) {
    case "":
      return <ClusterPage />;
    case "workloads":
      return <WorkloadPage key={arg} name={arg} />;
    case "nodes":
      return <NodePage key={arg} id={arg} />;
    case "instances":
      return <InstancePage key={arg} id={arg} />;
    case "timeline":
      return <TimelinePage />;
    case "logs":
      return <LogsPage key={`${arg}?${params}`} of={arg} />;
    case "deploy":
      return <DeployPage key={`${arg}?${params}`} name={arg} />;
    default:
      return (
        <div className="empty">
          <h1>There is nothing here</h1>
          <p>
            <a href={link("")}>To the cluster</a>
          </p>
        </div>
      );
  }
}

/** Between the page and its first news. Nothing flashes up if they come at once. */
function FirstMoment() {
  const refused = useConnection() === "refused";
  return (
    <div className="empty first-moment" role="status">
      <p>{refused ? "There is nothing to show." : "Asking the scheduler…"}</p>
    </div>
  );
}

function ConnectionState() {
  const connection = useConnection();
  const words = {
    live: "live",
    connecting: "connecting",
    stale: "not connected",
    "signed-out": "signed out",
    refused: "refused",
  }[connection];
  const title = {
    live: "Everything here is shown as it happens",
    connecting: "Connecting to the scheduler",
    stale: "The scheduler is not heard; what is shown is old",
    "signed-out": "The scheduler wants to know who looks",
    refused: "The scheduler does not let this page see anything",
  }[connection];
  return (
    <span className={`connection ${connection}`} role="status" title={title}>
      <span className="dot" aria-hidden="true" />
      <span className="words">{words}</span>
    </span>
  );
}

function StaleBanner() {
  const connection = useConnection();
  const why = useConnectionWhy();
  if (connection === "refused") return <Refused why={why} />;
  if (connection !== "stale") return null;
  return why ? <TurnedAway why={why} /> : <Stale />;
}

function Refused({ why }: { why: string | undefined }) {
  return (
    <div className="banner stale" role="alert">
      <strong>The scheduler does not let this page see anything.</strong> {why} Use{" "}
      <code>kube-lite ctl</code>; see docs/security.md.
    </div>
  );
}

function TurnedAway({ why }: { why: string }) {
  return (
    <div className="banner stale" role="alert">
      <strong>The scheduler does not take this page on.</strong> {why} This page tries again by
      itself.
    </div>
  );
}

function Stale() {
  useSecond();
  const forMs = performance.now() - store.knownUntil();
  return (
    <div className="banner stale" role="alert">
      <strong>The scheduler is not heard.</strong> What you see is {age(forMs)} old; containers run
      on. This page connects again by itself.
    </div>
  );
}

const THEMES: Record<Theme, { next: Theme; glyph: string; name: string }> = {
  auto: { next: "light", glyph: "◐", name: "as the system has it" },
  light: { next: "dark", glyph: "☀", name: "light" },
  dark: { next: "auto", glyph: "☾", name: "dark" },
};

function ThemeSwitch() {
  const [theme, setTheme] = useState(chosenTheme);
  const { next, glyph, name } = THEMES[theme];
  return (
    <button
      type="button"
      className="button quiet icon"
      title={`Colours: ${name}. Change to: ${THEMES[next].name}`}
      aria-label={`Colours: ${name}. Change to: ${THEMES[next].name}`}
      onClick={() => {
        chooseTheme(next);
        setTheme(next);
      }}
    >
      <span aria-hidden="true">{glyph}</span>
    </button>
  );
}
