// Where the page is: `#/workloads/web?tab=logs`. The path itself belongs to the API.

import { useSyncExternalStore } from "react";

export interface Place {
  view: string;
  arg: string;
  params: URLSearchParams;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function placeOf(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view = "", arg = ""] = path.split("/", 2);
  return { view: decoded(view), arg: decoded(arg), params: new URLSearchParams(query) };
}

export function link(view: string, arg?: string, params?: Record<string, string>): string {
  const query = params ? `?${new URLSearchParams(params)}` : "";
  return `#/${view}${arg === undefined ? "" : `/${encodeURIComponent(arg)}`}${query}`;
}

export const go = (to: string): void => {
  location.hash = to;
};

let known = { hash: location.hash, place: placeOf(location.hash) };

function read(): Place {
  if (known.hash !== location.hash) {
    known = { hash: location.hash, place: placeOf(location.hash) };
  }
  return known.place;
}

function subscribe(listener: () => void): () => void {
  addEventListener("hashchange", listener);
  return () => removeEventListener("hashchange", listener);
}

export const usePlace = (): Place => useSyncExternalStore(subscribe, read);
