// The table of servers, and how to add more.

import { ask } from "./api.js";
import { html, useState } from "./html.js";
import { count, rate, seconds } from "./numbers.js";
import { Dialog, Fault, State, Tag } from "./parts.js";

export function ServersPage({ servers }) {
  const [adding, setAdding] = useState(null);
  const close = () => setAdding(null);
  return html`
    <div class="head">
      <div><h1>Servers</h1><p class="muted">Everything that this gateway reaches, as it fares now.</p></div>
      <div class="actions">
        <button onClick=${() => setAdding("import")}>Import mcp.json</button>
        <button class="primary" onClick=${() => setAdding("add")}>Add server</button>
      </div>
    </div>
    ${servers === null ? html`<p class="muted" role="status">Loading…</p>` : html`<${Totals} servers=${servers} />`}
    ${servers && (servers.length ? html`<${Table} servers=${servers} />` : html`<${Nothing} />`)}
    ${adding === "add" && html`<${AddDialog} onClose=${close} />`}
    ${adding === "import" && html`<${ImportDialog} onClose=${close} />`}`;
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

const Nothing = () => html`
  <div class="panel empty"><h2>No servers yet</h2><p class="muted">Add one, or paste the mcp.json of another program.</p></div>`;

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

function AddDialog({ onClose }) {
  const [kind, setKind] = useState("command");
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    try {
      await ask("POST", "/api/servers", { name: form.get("name").trim(), entry: entryOf(kind, form) });
      onClose();
    } catch (problem) {
      setError(problem);
    }
  };
  return html`
    <${Dialog} title="Add a server" onClose=${onClose}>
      <form onSubmit=${submit}>
        <label class="field"><span>Name</span><input name="name" required autofocus autocomplete="off" placeholder="weather" /></label>
        <fieldset class="choice">
          <legend>How it is reached</legend>
          ${[["command", "A program"], ["url", "A URL"]].map(([value, text]) => html`
            <label><input type="radio" name="kind" checked=${kind === value} onChange=${() => setKind(value)} />${text}</label>`)}
        </fieldset>
        ${kind === "command" ? html`<${CommandFields} />` : html`<${URLFields} />`}
        ${error && html`<${Fault} error=${error} />`}
        <footer><button type="button" onClick=${onClose}>Cancel</button><button class="primary">Add</button></footer>
      </form>
    </${Dialog}>`;
}

const CommandFields = () => html`
  <label class="field"><span>Command</span><input name="command" required autocomplete="off" placeholder="npx" /></label>
  <label class="field"><span>Arguments <small>one a line</small></span><textarea name="args" rows="3"></textarea></label>
  <label class="field"><span>Environment <small>NAME=value, one a line</small></span><textarea name="env" rows="2"></textarea></label>`;

const URLFields = () => html`
  <label class="field"><span>URL</span><input name="url" type="url" required placeholder="https://example.com/mcp" /></label>
  <label class="field"><span>Headers <small>Name=value, one a line</small></span><textarea name="headers" rows="2"></textarea></label>`;

const lines = (text) => (text ?? "").split("\n").map((line) => line.trim()).filter(Boolean);
const pairs = (text) => Object.fromEntries(lines(text).map((line) => [line.split("=")[0], line.split("=").slice(1).join("=")]));

function entryOf(kind, form) {
  if (kind === "url") return { url: form.get("url").trim(), headers: pairs(form.get("headers")) };
  return { command: form.get("command").trim(), args: lines(form.get("args")), env: pairs(form.get("env")) };
}

function ImportDialog({ onClose }) {
  const [error, setError] = useState(null);
  const [outcome, setOutcome] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    try {
      setOutcome(await ask("POST", "/api/servers/import", JSON.parse(new FormData(event.target).get("document"))));
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  };
  if (outcome) return html`<${Dialog} title="Imported" onClose=${onClose}><${Outcome} outcome=${outcome} onClose=${onClose} /></${Dialog}>`;
  return html`
    <${Dialog} title="Import an mcp.json" onClose=${onClose}>
      <form onSubmit=${submit}>
        <p class="muted">Servers of the same name are replaced; all others stay.</p>
        <label class="field"><span>Content of the file</span>
          <textarea name="document" class="code" rows="12" required autofocus spellcheck="false" placeholder='{"mcpServers": {…}}'></textarea>
        </label>
        ${error && html`<${Fault} error=${error} />`}
        <footer><button type="button" onClick=${onClose}>Cancel</button><button class="primary">Import</button></footer>
      </form>
    </${Dialog}>`;
}

const Outcome = ({ outcome, onClose }) => html`
  ${["added", "changed", "unchanged"].filter((kind) => outcome[kind].length).map((kind) => html`
    <p><b>${kind}</b> ${outcome[kind].join(", ")}</p>`)}
  ${outcome.problems.map((text) => html`<p class="fault">${text}</p>`)}
  <footer><button class="primary" onClick=${onClose}>Done</button></footer>`;
