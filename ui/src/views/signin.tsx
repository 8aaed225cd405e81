// Before anything is shown, where one has to say who one is.

import { useEffect, useId, useRef, useState } from "react";
import { go, link } from "../lib/router.ts";
import { Command } from "../parts/copy.tsx";
import { Mark } from "../parts/mark.tsx";
import { Refusal } from "../state/http.ts";
import { codeIn, signIn, useSession } from "../state/session.ts";
import { reconnect } from "../state/stream.ts";

interface Props {
  /** From a link; empty when there is none. */
  code: string;
  /** What the scheduler says to who is not signed in. */
  why?: string | undefined;
  /** The link was followed to come here: then the cluster is what comes next. */
  byLink: boolean;
}

export function SignInPage({ code, why, byLink }: Props) {
  const [text, setText] = useState(code);
  const [followed, setFollowed] = useState(code);
  const [refusal, setRefusal] = useState<string>();
  const [busy, setBusy] = useState(false);
  const session = useSession();
  const field = useRef<HTMLInputElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();
  useEffect(() => {
    if (code) {
      setText(code);
      setFollowed(code);
      setRefusal(undefined);
      // It is good once, and is left neither in the history nor for who looks over a shoulder.
      history.replaceState(null, "", link("sign-in"));
    }
  }, [code]);
  const isFollowed = text !== "" && text === followed;
  useEffect(() => (isFollowed ? button : field).current?.focus(), [isFollowed]);
  const submit = async (event: React.FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setRefusal(undefined);
    try {
      await signIn(text);
      reconnect();
      if (byLink) go(link(""));
    } catch (error) {
      setText("");
      setRefusal(error instanceof Refusal ? error.message : String(error));
      setBusy(false);
      field.current?.focus();
    }
  };
  return (
    <div className="sign-in">
      <form onSubmit={submit} noValidate className="panel">
        <Mark />
        <h1>Sign in</h1>
        {session?.signedIn ? (
          <p className="page-sub">
            You are signed in as {session.name || "somebody"} ({session.role}). This signs you in
            anew. <a href={link("")}>Leave it as it is</a>
          </p>
        ) : (
          <p className="page-sub">
            {isFollowed
              ? "The link you have followed signs you in, once."
              : "This cluster shows itself to those it knows. Where you use kube-lite ctl, run:"}
          </p>
        )}
        {!isFollowed && <Command text="kube-lite ctl dashboard" />}
        <div className="field">
          <label htmlFor={id}>The link that it prints, or the code in it</label>
          <input
            ref={field}
            id={id}
            type="password"
            autoComplete="off"
            spellCheck={false}
            autoCapitalize="none"
            value={text}
            aria-invalid={refusal !== undefined}
            onChange={(event) => setText(event.target.value)}
          />
        </div>
        {(refusal ?? why) && (
          <p className={refusal ? "refusal" : "sign-in-why"} role={refusal ? "alert" : undefined}>
            {refusal ?? why}
          </p>
        )}
        <button
          ref={button}
          type="submit"
          className="button primary"
          disabled={busy || codeIn(text) === ""}
        >
          Sign in
        </button>
        <p className="sign-in-foot">
          You may do here what you may do there, for twelve hours at most.
        </p>
      </form>
    </div>
  );
}
