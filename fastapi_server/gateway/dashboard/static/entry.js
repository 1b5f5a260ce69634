// How a server is reached: a dialog to add one, or to change what it says of one. `***` stands for a secret that is kept.

import { ask, server as path } from "./api.js";
import { html, useState } from "./html.js";
import { Dialog, Fault } from "./parts.js";
import { isObject, parsed } from "./schema.js";

const URLS = ["url", "serverUrl", "httpUrl", "endpoint", "server_url", "http_url"];
const OF_A_PROGRAM = ["command", "args", "env"];

// With a name and its entry it changes that server; without, it adds one.
export function EntryDialog({ name, entry = { command: "" }, onClose }) {
  const address = URLS.find((key) => key in entry) ?? "url";
  const [kind, setKind] = useState("command" in entry ? "command" : "url");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const taken = [address, "headers", ...OF_A_PROGRAM];
  const others = Object.fromEntries(Object.entries(entry).filter(([key]) => !taken.includes(key)));
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const form = new FormData(event.target);
      const said = { ...furtherOf(form), ...(kind === "url" ? urlOf(form, address) : programOf(form)) };
      await (name === undefined
        ? ask("POST", "/api/servers", { name: form.get("name").trim(), entry: said })
        : ask("PUT", path(name), said));
      onClose();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  return html`
    <${Dialog} title=${name === undefined ? "Add a server" : `Change ${name}`} onClose=${onClose}>
      <form onSubmit=${submit}>
        ${name === undefined
          ? html`<label class="field"><span>Name</span><input name="name" required autofocus autocomplete="off" placeholder="weather" /></label>`
          : html`<p class="muted"><code>***</code> stands for a secret: leave it to keep the one that is there. Calls in flight end as they began.</p>`}
        <fieldset class="choice">
          <legend>How it is reached</legend>
          ${[["command", "A program"], ["url", "A URL"]].map(([value, text]) => html`
            <label><input type="radio" name="kind" checked=${kind === value} onChange=${() => setKind(value)} />${text}</label>`)}
        </fieldset>
        ${kind === "command" ? html`<${ProgramFields} entry=${entry} />` : html`<${URLFields} entry=${entry} address=${address} />`}
        <label class="field"><span>Further settings <small>as in an mcp.json: timeout, tools, auth, …</small></span>
          <textarea name="further" class="code" rows="3" spellcheck="false" defaultValue=${Object.keys(others).length ? JSON.stringify(others, null, 2) : ""} placeholder="{}"></textarea>
        </label>
        ${error && html`<${Fault} error=${error} />`}
        <footer>
          <button type="button" onClick=${onClose}>Cancel</button>
          <button class="primary" disabled=${busy}>${name === undefined ? "Add" : "Save"}</button>
        </footer>
      </form>
    </${Dialog}>`;
}

const ProgramFields = ({ entry }) => html`
  <label class="field"><span>Command</span><input name="command" required autocomplete="off" placeholder="npx" defaultValue=${entry.command ?? ""} /></label>
  <label class="field"><span>Arguments <small>one a line, or a JSON list</small></span>
    <textarea name="args" class="code" rows="3" spellcheck="false" defaultValue=${argsText(entry.args ?? [])}></textarea></label>
  <label class="field"><span>Environment <small>NAME=value, one a line</small></span>
    <textarea name="env" class="code" rows="2" spellcheck="false" defaultValue=${pairsText(entry.env, "=")}></textarea></label>`;

const URLFields = ({ entry, address }) => html`
  <label class="field"><span>URL</span><input name="url" required autocomplete="off" placeholder="https://example.com/mcp" defaultValue=${entry[address] ?? ""} /></label>
  <label class="field"><span>Headers <small>Name: value, one a line</small></span>
    <textarea name="headers" class="code" rows="2" spellcheck="false" defaultValue=${pairsText(entry.headers, ": ")}></textarea></label>`;

const isPlain = (one) => one !== "" && one === one.trim() && !one.includes("\n") && !one.startsWith("[");
const argsText = (args) => (args.every(isPlain) ? args.join("\n") : JSON.stringify(args, null, 2));
const pairsText = (pairs, mark) => Object.entries(pairs ?? {}).map(([name, value]) => `${name}${mark}${value}`).join("\n");

const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const argsOf = (text) => (text.trimStart().startsWith("[") ? parsed(text, "Arguments") : linesOf(text));

function pairsOf(text, mark, what) {
  const pair = (line) => {
    const at = line.indexOf(mark);
    if (at < 1) throw new Error(`${what}: ${line.split(" ")[0]} has no “${mark}” after its name`);
    return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  };
  return Object.fromEntries(linesOf(text).map(pair));
}

function furtherOf(form) {
  const further = form.get("further").trim() ? parsed(form.get("further"), "Further settings") : {};
  if (!isObject(further)) throw new Error("Further settings are a JSON object");
  return further;
}

const unlessEmpty = (entry) => Object.fromEntries(Object.entries(entry).filter(([, value]) => Object.keys(value).length));
const urlOf = (form, address) => ({ [address]: form.get("url").trim(), ...unlessEmpty({ headers: pairsOf(form.get("headers"), ":", "Headers") }) });
const programOf = (form) => ({
  command: form.get("command").trim(),
  ...unlessEmpty({ args: argsOf(form.get("args")), env: pairsOf(form.get("env"), "=", "Environment") }),
});
