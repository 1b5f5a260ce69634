// The page of one server.

import { ask, server as path } from "./api.js";
import { html, useEffect, useState } from "./html.js";
import { clock, count, rate, seconds } from "./numbers.js";
import { Confirm, Fault, State, Tag } from "./parts.js";
import { Plot } from "./plot.js";
import { Tool } from "./tool.js";

export function ServerPage({ name, summary, known, watch }) {
  const [detail, setDetail] = useState(null);
  const [tools, setTools] = useState(null);
  const [error, setError] = useState(null);
  const load = async () => {
    try {
      setDetail(await ask("GET", path(name)));
      setTools((await ask("GET", `/api/tools?server=${encodeURIComponent(name)}`)).tools);
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  };
  useEffect(() => {
    load();
    let gone = false;
    return watch((kind, data) => {
      if (data.server !== name || kind === "log" || gone) return;
      gone = kind === "server" && data.change === "removed";
      if (gone) location.hash = "#/";
      else load();
    });
  }, [name]);
  if (known && !summary) return html`<${Back} /><div class="panel empty"><h2>There is no server ${name}</h2></div>`;
  if (!summary || !detail) return html`<${Back} />${error ? html`<${Fault} error=${error} />` : html`<p class="muted" role="status">Loading…</p>`}`;
  return html`
    <${Back} />
    <${Head} one=${{ ...detail, ...summary }} />
    <${Numbers} one=${summary} />
    <div class="columns">
      <section aria-labelledby="tools">
        <h2 id="tools">Tools</h2>
        ${tools?.length === 0 && html`<p class="muted">It lists none.</p>`}
        ${tools?.map((tool) => html`<${Tool} key=${tool.name} tool=${tool} server=${name} />`)}
      </section>
      <div>
        <section aria-labelledby="latency"><h2 id="latency">Latency</h2><${Plot} name=${name} /></section>
        <${Logs} name=${name} watch=${watch} state=${summary.state} />
        <section aria-labelledby="settings">
          <h2 id="settings">Configuration</h2><pre class="panel code">${JSON.stringify(detail.settings, null, 2)}</pre>
        </section>
      </div>
    </div>`;
}

const Back = () => html`<a class="back" href="#/">← Servers</a>`;

const ACTIONS = {
  reconnect: ["Reconnect", "Calls in flight end first; then every connection is closed and opened again."],
  drain: ["Drain", "Calls in flight end first; then every connection is closed. The next call opens one."],
  remove: ["Remove", "Calls in flight end first. The server and its configuration are gone from the gateway."],
};

function Head({ one }) {
  const [asked, setAsked] = useState(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const act = async (action) => {
    setBusy(true);
    setError(null);
    try {
      await (action === "remove" ? ask("DELETE", path(one.name)) : ask("POST", path(one.name, `/${action}`)));
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  return html`
    <div class="head">
      <div>
        <h1>${one.name} <${State} state=${one.state} /></h1>
        <p class="muted">
          <${Tag}>${one.transport}</${Tag}> ${one.era && html`<${Tag}>${one.era} · ${one.protocol_version}</${Tag}>`}
          ${" "}${[one.title, one.version].filter(Boolean).join(" ")}
        </p>
        ${one.instructions && html`<p class="instructions">${one.instructions}</p>`}
      </div>
      <div class="actions" aria-busy=${busy}>
        ${Object.entries(ACTIONS).map(([action, [title]]) => html`
          <button disabled=${busy} class=${action === "remove" ? "danger" : ""} onClick=${() => setAsked(action)}>${title}</button>`)}
      </div>
    </div>
    ${(error ?? (one.error && { message: one.error })) && html`<${Fault} error=${error ?? { message: one.error }} />`}
    ${asked && html`
      <${Confirm} title=${`${ACTIONS[asked][0]} ${one.name}?`} text=${ACTIONS[asked][1]} action=${ACTIONS[asked][0]}
        danger=${asked === "remove"} onDo=${() => act(asked)} onClose=${() => setAsked(null)} />`}`;
}

function Numbers({ one }) {
  const cards = [
    ["Calls", count(one.calls)], ["Calls/s", rate(one.calls_per_second)], ["p50", seconds(one.latency.p50)],
    ["p95", seconds(one.latency.p95)], ["p99", seconds(one.latency.p99)], ["Errors", count(one.errors)],
    ["Restarts", count(one.restarts)], ["Breaker", one.breaker.replace("_", " ")],
  ];
  return html`<dl class="cards">${cards.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Logs({ name, watch, state }) {
  const [log, setLog] = useState(null);
  const load = () => ask("GET", path(name, "/logs")).then(setLog, () => {});
  useEffect(() => {
    load();
    const timer = setInterval(load, 5000);
    const unwatch = watch((kind, data) => kind === "log" && data.server === name && load());
    return () => { clearInterval(timer); unwatch(); };
  }, [name, state]);
  const written = log?.processes.filter((one) => one.stderr) ?? [];
  return html`
    <section aria-labelledby="log">
      <h2 id="log">Log</h2>
      ${log && !log.lines.length && !written.length && html`<p class="panel muted">It has written nothing.</p>`}
      ${written.map((one) => html`<pre class="panel code log" tabindex="0" aria-label="Standard error">${one.stderr}</pre>`)}
      ${log?.lines.length > 0 && html`
        <ol class="panel code log" tabindex="0" aria-label="Messages">
          ${log.lines.slice(-100).map((line) => html`
            <li data-level=${line.level}><time>${clock(line.at)}</time> <b>${line.level}</b> ${line.text}</li>`)}
        </ol>`}
    </section>`;
}
