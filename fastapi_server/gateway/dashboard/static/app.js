// The page: who looks at it, what is shown for which address, and the live table.

import { ask, follow, forgetKey, hasKey, keepKey, onRefused } from "./api.js";
import { html, render, useEffect, useRef, useState } from "./html.js";
import { Fault, Guarded } from "./parts.js";
import { ServerPage } from "./server.js";
import { ServersPage } from "./servers.js";

const EVENTS = "/api/events?kind=servers&kind=server&kind=state&kind=lists&kind=log&kind=config";

const watchers = new Set();
const watch = (told) => (watchers.add(told), () => watchers.delete(told));

// What the address asks for; `null` where it is none of ours.
function asked() {
  if (["", "#", "#/"].includes(location.hash)) return {};
  const [, name, tab = "tools"] = location.hash.match(/^#\/servers\/([^/]+)(?:\/(tools|resources|prompts))?$/) ?? [];
  try {
    return name ? { name: decodeURIComponent(name), tab } : null;
  } catch {
    return null; // a stray percent sign
  }
}

function App() {
  const [caller, setCaller] = useState(undefined); // `null`: nobody, and the gateway wants to know
  const [refusal, setRefusal] = useState(null);
  const [servers, setServers] = useState(null);
  const [live, setLive] = useState(false);
  const [place, setPlace] = useState(asked());

  const enter = async () => {
    setRefusal(null);
    try {
      setCaller(await ask("GET", "/api/caller"));
    } catch (problem) {
      if (problem.status !== 401) setRefusal(problem);
    }
  };
  const leave = () => {
    forgetKey();
    setServers(null);
    setCaller(undefined);
    enter();
  };
  useEffect(() => {
    onRefused((wrongKey) => {
      setServers(null);
      setCaller(null);
      if (wrongKey) setRefusal({ message: "The gateway does not accept this key: it is wrong, was revoked, or has expired." });
    });
    enter();
    const moved = () => setPlace(asked());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    if (!caller) return undefined;
    return follow(EVENTS, (kind, data) => {
      if (kind === "servers") setServers(data.servers);
      else watchers.forEach((told) => told(kind, data));
    }, setLive);
  }, [caller]);
  const moving = useRef(false);
  useEffect(() => {
    if (moving.current) {
      scrollTo(0, 0);
      document.getElementById("content").focus();
    }
    moving.current = true;
  }, [place === null ? null : place.name]);
  useEffect(() => { document.title = place?.name ? `${place.name} · MCP gateway` : "MCP gateway"; }, [place]);

  const page = () => {
    if (caller === undefined) return refusal ? html`<${Fault} error=${refusal} />` : html`<p class="muted" role="status">Loading…</p>`;
    if (caller === null) return html`<${SignIn} refusal=${refusal} onKey=${(key) => { keepKey(key); enter(); }} />`;
    if (place === null) return html`<${Nowhere} />`;
    if (!place.name) return html`<${ServersPage} servers=${servers} admin=${caller.admin} watch=${watch} />`;
    const server = servers?.find((one) => one.name === place.name);
    return html`<${ServerPage} key=${place.name} name=${place.name} tab=${place.tab} summary=${server} known=${servers !== null}
      admin=${caller.admin} watch=${watch} />`;
  };
  return html`
    <a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
    <${Bar} caller=${caller} live=${live} servers=${servers} onLeave=${leave} />
    <main id="content" tabindex="-1"><${Guarded} key=${place?.name}>${page()}</${Guarded}></main>`;
}

const skip = (event) => {
  event.preventDefault();
  document.getElementById("content").focus();
};

function Bar({ caller, live, servers, onLeave }) {
  const up = servers?.filter((one) => one.state === "connected").length;
  return html`
    <header class="bar">
      <a class="brand" href="#/"><img src="dashboard/icon.svg" alt="" width="26" height="26" />MCP gateway</a>
      <span class="grow"></span>
      ${servers && html`<span class="muted wide">${up} of ${servers.length} connected</span>`}
      ${caller && html`<span class="live" data-live=${live} role="status"><i aria-hidden="true"></i>${live ? "Live" : "Reconnecting"}</span>`}
      <a class="wide" href="openapi.json">OpenAPI</a>
      ${caller && hasKey() && html`<button title=${`Signed in as ${caller.name}`} onClick=${onLeave}>Sign out</button>`}
    </header>`;
}

const Nowhere = () => html`
  <div class="panel empty"><h1>There is no such page</h1><p><a href="#/">All servers</a></p></div>`;

function SignIn({ refusal, onKey }) {
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    onKey(new FormData(event.target).get("key").trim());
  };
  return html`
    <form class="panel sign-in" onSubmit=${submit}>
      <h1>Sign in</h1>
      <p class="muted">This gateway asks who you are. The key is kept until you sign out or close this tab.</p>
      <label class="field"><span>API key</span><input name="key" type="password" autocomplete="off" required ref=${field} /></label>
      ${refusal && html`<${Fault} error=${refusal} />`}
      <footer><button class="primary">Sign in</button></footer>
    </form>`;
}

render(html`<${App} />`, document.body);
