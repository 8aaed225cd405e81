// Asking the scheduler, and its refusals as they are.

/** Where the scheduler is: where the page came from; while developing, see `npm run dev`. */
const BASE: string = import.meta.env.DEV
  ? (import.meta.env.VITE_SERVER ?? "http://127.0.0.1:8080")
  : "";

export const api = (path: string): string => `${BASE}${path}`;

/** The server's address, as `kube-lite ctl --server` takes it. */
export const serverUrl = (): string => BASE || location.origin;

/** What the scheduler says when it does not do what was asked. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  /** A path such as `ports[0].hostPort`. */
  readonly field: string | undefined;

  constructor(status: number, reason: string, message: string, field?: string) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.field = field;
  }
}

export async function refusalOf(response: Response): Promise<Refusal> {
  const text = await response.text();
  try {
    const said = JSON.parse(text) as { error?: string; reason?: string; field?: string };
    if (typeof said.error === "string") {
      return new Refusal(response.status, said.reason ?? "", said.error, said.field);
    }
  } catch {
    // Not from the scheduler itself, then; what was said is still worth showing.
  }
  return new Refusal(response.status, "", text.slice(0, 500) || `HTTP ${response.status}`);
}

export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method, cache: "no-store", credentials: "same-origin" };
  if (body !== undefined) {
    init.headers = { "content-type": "application/json" };
    init.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  const response = await sent(method, path, init);
  if (!response.ok) throw await refusalOf(response);
  return (await response.json()) as T;
}

/** Asking for these twice is the same as asking once. */
const repeatable = (method: string, path: string): boolean =>
  method !== "POST" || /^\/(deploy|nodes\/)/.test(path) || /\/(pause|resume|abort)$/.test(path);

const RETRY_MS = 300;

async function sent(method: string, path: string, init: RequestInit): Promise<Response> {
  for (let left = repeatable(method, path) ? 2 : 0; ; left -= 1) {
    try {
      return await fetch(api(path), init);
    } catch {
      // A browser breaks requests off when a network interface comes or goes.
      if (left <= 0) {
        throw new Refusal(0, "Unreachable", "The scheduler does not answer; is it running?");
      }
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}
