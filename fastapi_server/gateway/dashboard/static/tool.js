// One tool: a form made of its schema, the call while it runs, and its result.

import { stream } from "./api.js";
import { argumentsOf, Fields } from "./form.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Fault, Tag } from "./parts.js";
import { Result } from "./result.js";

export function Tool({ tool, server }) {
  const hints = Object.entries({ readOnlyHint: "read only", destructiveHint: "destructive", idempotentHint: "idempotent" });
  return html`
    <details class="panel tool">
      <summary>
        <code>${tool.name.slice(server.length + 2)}</code>
        ${hints.filter(([hint]) => tool.annotations?.[hint]).map(([, text]) => html`<${Tag}>${text}</${Tag}>`)}
        <span class="muted">${tool.title ?? tool.description}</span>
      </summary>
      <${Try} tool=${tool} server=${server} />
    </details>`;
}

function Try({ tool, server }) {
  const [progress, setProgress] = useState(null);
  const [outcome, setOutcome] = useState(null);
  const running = useRef(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => () => running.current?.abort(), []);
  const told = (kind, data, since) => {
    if (kind === "progress") setProgress(data);
    else if (kind === "result") setOutcome({ result: data, seconds: (performance.now() - since) / 1000 });
    else setOutcome({ error: { message: data.detail || data.title } });
  };
  const submit = async (event) => {
    event.preventDefault();
    const since = performance.now();
    running.current = new AbortController();
    setBusy(true);
    setProgress(null);
    setOutcome(null);
    try {
      const body = { arguments: argumentsOf(tool.inputSchema, event.target) };
      const path = `/api/tools/${encodeURIComponent(tool.name)}/call`;
      await stream("POST", path, body, running.current.signal, (kind, data) => told(kind, data, since));
    } catch (error) {
      setOutcome(error.name === "AbortError" ? { error: { message: "Cancelled" } } : { error });
    }
    setBusy(false);
  };
  return html`
    <form class="try" onSubmit=${submit}>
      ${tool.description && html`<p>${tool.description}</p>`}
      <${Fields} schema=${tool.inputSchema} prefix=${tool.name} />
      <div class="actions">
        <button class="primary" disabled=${busy}>Call</button>
        ${busy && html`<button type="button" onClick=${() => running.current.abort()}>Cancel</button>`}
      </div>
      <div aria-live="polite">
        ${busy && html`<${Progress} told=${progress} />`}
        ${outcome?.error && html`<${Fault} error=${outcome.error} />`}
        ${outcome?.result && html`<${Result} result=${outcome.result} seconds=${outcome.seconds} server=${server} />`}
      </div>
    </form>`;
}

const Progress = ({ told }) => html`
  <div class="progress">
    <progress max=${told?.total ?? 1} value=${told?.total ? told.progress : undefined} aria-label="Progress"></progress>
    <span class="muted">${told ? [told.message, told.total && `${told.progress} of ${told.total}`].filter(Boolean).join(" · ") : "Running…"}</span>
  </div>`;
