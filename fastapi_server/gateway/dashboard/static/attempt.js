// A form made of a schema, what runs when it is sent, and what came of it.

import { Fields } from "./form.js";
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { Fault } from "./parts.js";
import { draftOf, isEmpty, isObject, nodeOf, parsed, valueOf } from "./schema.js";

// run(arguments, signal, progress) gives what `shown(result, seconds)` shows.
export function Attempt({ schema, action, run, shown }) {
  const node = useMemo(() => nodeOf(schema), [schema]);
  const hasForm = node.kind === "object" || isEmpty(node);
  const [draft, setDraft] = useState({});
  const [text, setText] = useState(hasForm ? null : "{}");
  const [progress, setProgress] = useState(null);
  const [outcome, setOutcome] = useState(null);
  const [running, setRunning] = useState(null);
  const last = useRef(null);
  useEffect(() => () => last.current?.abort(), []);

  const said = () => {
    if (text === null) return node.kind === "object" ? valueOf(node, draft) : {};
    const value = parsed(text, "The text");
    if (!isObject(value)) throw new Error("Arguments are a JSON object");
    return value;
  };
  const swap = () => {
    try {
      const value = said();
      if (text !== null) setDraft(drafted(node, value));
      setText(text === null ? JSON.stringify(value, null, 2) : null);
      setOutcome(null);
    } catch (error) {
      setOutcome({ error });
    }
  };
  const submit = async (event) => {
    event.preventDefault();
    const since = performance.now();
    const call = (last.current = new AbortController());
    setRunning(call);
    setProgress(null);
    setOutcome(null);
    try {
      const result = await run(said(), call.signal, setProgress);
      setOutcome({ result, seconds: (performance.now() - since) / 1000 });
    } catch (error) {
      setOutcome({ error: call.signal.aborted ? { message: "Cancelled" } : error });
    }
    setRunning(null);
  };
  return html`
    <form class="try" onSubmit=${submit}>
      ${text === null
        ? node.kind === "object" ? html`<${Fields} node=${node} draft=${draft} told=${setDraft} />` : html`<p class="muted">It takes no arguments.</p>`
        : html`<label class="field"><span>Arguments <small>a JSON object</small></span>
            <textarea class="code" rows="8" spellcheck="false" value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>`}
      <div class="actions">
        <button class="primary" disabled=${running !== null}>${action}</button>
        ${running && html`<button type="button" onClick=${() => running.abort()}>Cancel</button>`}
        <span class="grow"></span>
        ${hasForm && html`<button type="button" class="quiet" onClick=${swap}>${text === null ? "As JSON" : "As a form"}</button>`}
      </div>
      <div aria-live="polite">
        ${running && html`<${Progress} told=${progress} />`}
        ${outcome?.error && html`<${Fault} error=${outcome.error} />`}
        ${outcome?.result && shown(outcome.result, outcome.seconds)}
      </div>
    </form>`;
}

function drafted(node, value) {
  if (node.kind === "object") return draftOf(node, value);
  if (Object.keys(value).length) throw new Error("The form has no place for arguments");
  return {};
}

function Progress({ told }) {
  const far = told && (told.total ? `${told.progress} of ${told.total}` : `${told.progress}`);
  return html`
    <div class="progress">
      <progress max=${told?.total || 1} value=${told?.total ? told.progress : undefined} aria-label="Progress"></progress>
      <span class="muted">${told ? [told.message, far].filter(Boolean).join(" · ") : "Running…"}</span>
    </div>`;
}
