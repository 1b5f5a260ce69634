// The table of servers, and how to add more.

import { ask, server as path } from "./api.js";
import { EntryDialog } from "./entry.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { ImportDialog } from "./import.js";
import { count, rate, seconds } from "./numbers.js";
import { Confirm, Fault, State, Tag } from "./parts.js";

export function ServersPage({ servers, admin, watch }) {
  const [adding, setAdding] = useState(null);
  const close = () => setAdding(null);
  return html`
    <div class="head">
      <div><h1>Servers</h1><p class="muted">Everything that this gateway reaches, as it fares now.</p></div>
      ${admin && html`
        <div class="actions">
          <button onClick=${() => setAdding("import")}>Import mcp.json</button>
          <button class="primary" onClick=${() => setAdding("add")}>Add server</button>
        </div>`}
    </div>
    ${admin && html`<${Problems} watch=${watch} />`}
    ${servers === null ? html`<p class="muted" role="status">Loading…</p>` : html`<${Totals} servers=${servers} />`}
    ${servers && (servers.length ? html`<${Table} servers=${servers} />` : html`<${Nothing} admin=${admin} />`)}
    ${adding === "add" && html`<${EntryDialog} onClose=${close} />`}
    ${adding === "import" && html`<${ImportDialog} onClose=${close} />`}`;
}

// What is wrong in the config file, and with servers that are therefore not served.
function Problems({ watch }) {
  const [{ problems, unserved }, setFound] = useState({ problems: [], unserved: [] });
  const here = useRef(true);
  const load = () => ask("GET", "/api/servers").then((all) => here.current && setFound(all), () => {});
  useEffect(() => {
    load();
    const unwatch = watch((kind) => ["config", "server"].includes(kind) && load());
    return () => { here.current = false; unwatch(); };
  }, []);
  return html`
    ${problems.map((text) => html`<${Fault} error=${{ message: text }} />`)}
    ${unserved.map((one) => html`<${Unserved} key=${one.name} one=${one} told=${load} />`)}`;
}

// A stored server that cannot be served. Its entry is null where it cannot be opened.
function Unserved({ one, told }) {
  const [entry, setEntry] = useState(undefined);
  const [removing, setRemoving] = useState(false);
  const [error, setError] = useState(null);
  const act = (action) => { setError(null); action.catch(setError); };
  const replace = () => act(ask("GET", path(one.name, "/entry")).then((held) => setEntry(held.entry ?? { command: "" })));
  const remove = () => act(ask("DELETE", path(one.name)).then(told));
  return html`
    <div class="unserved">
      <${Fault} error=${error ?? { message: one.problem }} />
      <div class="actions">
        <button aria-label=${`Replace ${one.name}`} onClick=${replace}>Replace</button>
        <button aria-label=${`Remove ${one.name}`} class="danger" onClick=${() => setRemoving(true)}>Remove</button>
      </div>
    </div>
    ${entry && html`<${EntryDialog} name=${one.name} entry=${entry} onClose=${() => { setEntry(undefined); told(); }} />`}
    ${removing && html`
      <${Confirm} title=${`Remove ${one.name}?`} text="Its configuration is gone from the gateway." action="Remove" danger
        onDo=${remove} onClose=${() => setRemoving(false)} />`}`;
}

function Totals({ servers }) {
  const sum = (read) => servers.reduce((total, one) => total + read(one), 0);
  const up = servers.filter((one) => one.state === "connected").length;
  const cards = [
    ["Connected", `${up} / ${servers.length}`],
    ["Tools", count(sum((one) => one.tools))],
    ["Calls/s", rate(sum((one) => one.calls_per_second))],
    ["In flight", count(sum((one) => one.in_flight))],
    ["Errors", count(sum((one) => one.errors))],
  ];
  return html`<dl class="cards">${cards.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const Nothing = ({ admin }) => html`
  <div class="panel empty">
    <h2>No servers yet</h2>
    <p class="muted">${admin ? "Add one, or paste the mcp.json of another program." : "None that you may use. An administrator can add some."}</p>
  </div>`;

const COLUMNS = ["Server", "State", "Era", "Transport", "Calls/s", "p50", "p95", "p99", "Errors", "Restarts", "Breaker"];

const Table = ({ servers }) => html`
  <div class="panel table">
    <table>
      <thead><tr>${COLUMNS.map((name, at) => html`<th scope="col" class=${at > 3 && at < 10 ? "number" : ""}>${name}</th>`)}</tr></thead>
      <tbody>${servers.map((one) => html`<${Row} key=${one.name} one=${one} />`)}</tbody>
    </table>
  </div>`;

const Row = ({ one }) => html`
  <tr>
    <th scope="row">
      <a href=${`#/servers/${encodeURIComponent(one.name)}`}>${one.name}</a>
      <small>${one.error ?? `${one.tools} ${one.tools === 1 ? "tool" : "tools"}`}</small>
    </th>
    <td data-label="State"><${State} state=${one.state} /></td>
    <td data-label="Era" class="muted" title=${one.protocol_version}>${one.era ?? "–"}</td>
    <td data-label="Transport"><${Tag}>${one.transport}</${Tag}></td>
    <td data-label="Calls/s" class="number">${rate(one.calls_per_second)}</td>
    <td data-label="p50" class="number">${seconds(one.latency.p50)}</td>
    <td data-label="p95" class="number">${seconds(one.latency.p95)}</td>
    <td data-label="p99" class="number">${seconds(one.latency.p99)}</td>
    <td data-label="Errors" class=${one.errors ? "number bad" : "number"}>${count(one.errors)}</td>
    <td data-label="Restarts" class="number">${count(one.restarts)}</td>
    <td data-label="Breaker"><${Tag} tone=${one.breaker === "closed" ? "" : "bad"}>${one.breaker.replace("_", " ")}</${Tag}></td>
  </tr>`;
