// The page: what is shown for which address, the live table, and the key where one is asked for.

import { follow, keepKey, onKeyNeeded } from "./api.js";
import { html, render, useEffect, useState } from "./html.js";
import { Dialog } from "./parts.js";
import { ServerPage } from "./server.js";
import { ServersPage } from "./servers.js";

const EVENTS = "/api/events?kind=servers&kind=server&kind=state&kind=lists&kind=log";

const watchers = new Set();
const watch = (told) => (watchers.add(told), () => watchers.delete(told));
const opened = () => decodeURIComponent(location.hash.match(/^#\/servers\/(.+)$/)?.[1] ?? "");

function App() {
  const [servers, setServers] = useState(null);
  const [live, setLive] = useState(false);
  const [name, setName] = useState(opened());
  const [keyNeeded, setKeyNeeded] = useState(false);
  const [key, setKey] = useState(0);
  useEffect(() => {
    onKeyNeeded(() => setKeyNeeded(true));
    const moved = () => { setName(opened()); scrollTo(0, 0); };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => follow(EVENTS, (kind, data) => {
    if (kind === "servers") setServers(data.servers);
    else watchers.forEach((told) => told(kind, data));
  }, setLive), [key]);
  const entered = (value) => { keepKey(value); setKeyNeeded(false); setKey(key + 1); };
  const server = servers?.find((one) => one.name === name);
  return html`
    <a class="skip" href="#content">Skip to the content</a>
    <${Bar} live=${live} servers=${servers} />
    <main id="content" tabindex="-1">
      ${name
        ? html`<${ServerPage} key=${`${name}-${key}`} name=${name} summary=${server} known=${servers !== null} watch=${watch} />`
        : html`<${ServersPage} servers=${servers} />`}
    </main>
    ${keyNeeded && html`<${KeyDialog} onKey=${entered} onClose=${() => setKeyNeeded(false)} />`}`;
}

function Bar({ live, servers }) {
  const up = servers?.filter((one) => one.state === "connected").length;
  return html`
    <header class="bar">
      <a class="brand" href="#/"><img src="dashboard/icon.svg" alt="" width="26" height="26" />MCP gateway</a>
      <span class="grow"></span>
      ${servers && html`<span class="muted wide">${up} of ${servers.length} connected</span>`}
      <span class="live" data-live=${live} role="status"><i aria-hidden="true"></i>${live ? "Live" : "Reconnecting"}</span>
      <a class="wide" href="openapi.json">OpenAPI</a>
    </header>`;
}

function KeyDialog({ onKey, onClose }) {
  const submit = (event) => { event.preventDefault(); onKey(new FormData(event.target).get("key").trim()); };
  return html`
    <${Dialog} title="API key" onClose=${onClose}>
      <form onSubmit=${submit}>
        <p class="muted">This gateway asks who you are. The key is kept until you close this tab.</p>
        <label class="field"><span>Key</span><input name="key" type="password" autocomplete="off" required autofocus /></label>
        <footer><button class="primary">Continue</button></footer>
      </form>
    </${Dialog}>`;
}

render(html`<${App} />`, document.body);
