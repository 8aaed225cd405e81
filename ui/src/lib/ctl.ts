// The same on the command line: what is clicked here can be typed there.

import { serverUrl } from "../state/http.ts";

const USUAL = ["http://127.0.0.1:8080", "http://localhost:8080"];

/** A word as a shell takes it. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

export function ctl(...words: (string | number | undefined)[]): string {
  const server = serverUrl();
  const given = words.filter((word) => word !== undefined).map((word) => quoted(String(word)));
  const where = USUAL.includes(server) ? [] : ["--server", quoted(server)];
  return ["kube-lite", "ctl", ...where, ...given].join(" ");
}

/** Deploying a spec that is in no file. */
export function ctlDeploy(json: string): string {
  return `${ctl("deploy", "-f", "-")} <<'END'\n${json.trimEnd()}\nEND`;
}
