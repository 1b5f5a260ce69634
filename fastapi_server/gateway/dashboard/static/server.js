// The page of one server.

import { ask, server as path } from "./api.js";
import { EntryDialog } from "./entry.js";
import { html, useEffect, useState } from "./html.js";
import { Log } from "./log.js";
import { count, rate, seconds } from "./numbers.js";
import { Confirm, Fault, State, Tag } from "./parts.js";
import { Plot } from "./plot.js";
import { Prompts } from "./prompts.js";
import { Resources } from "./resources.js";
import { Tools } from "./tools.js";

const TABS = { tools: ["Tools", Tools], resources: ["Resources", Resources], prompts: ["Prompts", Prompts] };

export function ServerPage({ name, tab, summary, known, admin, watch }) {
  const [detail, setDetail] = useState(null);
  const [held, setHeld] = useState(null); // its entry, for those who may change it
  const [error, setError] = useState(null);
  useEffect(() => {
    let here = true;
    const load = async () => {
      try {
        const loaded = await Promise.all([ask("GET", path(name)), admin ? ask("GET", path(name, "/entry")) : null]);
        if (!here) return;
        setDetail(loaded[0]);
        setHeld(loaded[1]);
        setError(null);
      } catch (problem) {
        if (here) setError(problem);
      }
    };
    load();
    const unwatch = watch((kind, data) => {
      if (data.server !== name || kind === "log") return;
      if (kind === "server" && data.change === "removed") location.hash = "#/";
      else load();
    });
    return () => { here = false; unwatch(); };
  }, [name]);
  if (known && !summary) return html`<${Back} /><div class="panel empty"><h1>There is no server ${name}</h1></div>`;
  if (!summary || !detail) return html`<${Back} />${error ? html`<${Fault} error=${error} />` : html`<p class="muted" role="status">Loading…</p>`}`;
  const Listing = TABS[tab][1];
  return html`
    <${Back} />
    <${Head} one=${{ ...detail, ...summary }} held=${held} admin=${admin} />
    <${Numbers} one=${summary} />
    <div class="columns">
      <section aria-label=${TABS[tab][0]}>
        <nav class="tabs" aria-label="What it offers">
          ${Object.entries(TABS).map(([key, [title]]) => html`
            <a href=${`#/servers/${encodeURIComponent(name)}/${key}`} aria-current=${key === tab ? "page" : undefined}>${title} <span class="muted">${detail[key]}</span></a>`)}
        </nav>
        <${Listing} key=${tab} server=${name} watch=${watch} />
      </section>
      <div>
        <section aria-labelledby="latency"><h2 id="latency">Latency</h2><${Plot} name=${name} /></section>
        ${admin && html`<${Log} name=${name} watch=${watch} state=${summary.state} />`}
        <section aria-labelledby="settings">
          <h2 id="settings">Configuration</h2>
          <pre class="panel code" tabindex="0">${JSON.stringify(detail.settings, null, 2)}</pre>
          ${held?.fixed && html`<p class="muted note">This server comes from the config file, or is one of the demo servers: it is changed there, not here.</p>`}
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

function Head({ one, held, admin }) {
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
  const said = error ?? (one.error && { message: one.error });
  const close = () => setAsked(null);
  const button = (action, kind) => html`<button disabled=${busy} class=${kind} onClick=${() => setAsked(action)}>${ACTIONS[action][0]}</button>`;
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
      ${admin && html`
        <div class="actions" aria-busy=${busy}>
          ${button("reconnect")}
          ${button("drain")}
          ${held?.entry && html`<button disabled=${busy} onClick=${() => setAsked("edit")}>Edit</button>`}
          ${held?.entry && button("remove", "danger")}
        </div>`}
    </div>
    ${said && html`<${Fault} error=${said} />`}
    ${asked === "edit" && html`<${EntryDialog} name=${one.name} entry=${held.entry} onClose=${close} />`}
    ${asked && asked !== "edit" && html`
      <${Confirm} title=${`${ACTIONS[asked][0]} ${one.name}?`} text=${ACTIONS[asked][1]} action=${ACTIONS[asked][0]}
        danger=${asked === "remove"} onDo=${() => act(asked)} onClose=${close} />`}`;
}

function Numbers({ one }) {
  const cards = [
    ["Calls", count(one.calls)], ["Calls/s", rate(one.calls_per_second)], ["p50", seconds(one.latency.p50)],
    ["p95", seconds(one.latency.p95)], ["p99", seconds(one.latency.p99)], ["Errors", count(one.errors)],
    ["Restarts", count(one.restarts)], ["Breaker", one.breaker.replace("_", " ")],
  ];
  return html`<dl class="cards">${cards.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}
