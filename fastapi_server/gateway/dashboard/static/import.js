// Servers from an mcp.json by paste: first what would become of it, then the doing.

import { ask } from "./api.js";
import { html, useState } from "./html.js";
import { Dialog, Fault } from "./parts.js";
import { parsed } from "./schema.js";

const PATH = "/api/servers/import";

export function ImportDialog({ onClose }) {
  const [text, setText] = useState("");
  const [preview, setPreview] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const attempt = async (work) => {
    setBusy(true);
    setError(null);
    try {
      await work();
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  const look = (event) => {
    event.preventDefault();
    attempt(async () => setPreview(await ask("POST", `${PATH}?dry_run=true`, parsed(text, "The text"))));
  };
  const take = () => attempt(async () => {
    await ask("POST", PATH, parsed(text, "The text"));
    onClose();
  });
  const concerned = preview && preview.added.length + preview.changed.length;
  return html`
    <${Dialog} title="Import an mcp.json" onClose=${onClose}>
      <form onSubmit=${look} hidden=${preview !== null}>
        <p class="muted">Servers of the same name are replaced; all others stay. You see first what would change.</p>
        <label class="field"><span>Content of the file</span>
          <textarea class="code" rows="12" required autofocus spellcheck="false" placeholder='{"mcpServers": {…}}'
            value=${text} onInput=${(event) => setText(event.target.value)}></textarea>
        </label>
        ${error && html`<${Fault} error=${error} />`}
        <footer><button type="button" onClick=${onClose}>Cancel</button><button class="primary" disabled=${busy}>Preview</button></footer>
      </form>
      ${preview && html`
        <div class="preview" role="status"><${Preview} preview=${preview} /></div>
        ${error && html`<${Fault} error=${error} />`}
        <footer>
          <button type="button" onClick=${() => { setPreview(null); setError(null); }}>Back</button>
          <button type="button" class="primary" disabled=${busy || !concerned} onClick=${take}>
            ${concerned ? `Import ${concerned} ${concerned === 1 ? "server" : "servers"}` : "Nothing to import"}
          </button>
        </footer>`}
    </${Dialog}>`;
}

const KINDS = [["added", "New"], ["changed", "Replaced"], ["unchanged", "As it is"]];

const Preview = ({ preview }) => html`
  ${KINDS.filter(([kind]) => preview[kind].length).map(([kind, title]) => html`
    <h3>${title}</h3>
    <ul>${preview[kind].map((name) => html`<li><code>${name}</code></li>`)}</ul>`)}
  ${preview.problems.length > 0 && html`
    <h3>Passed over</h3>
    ${preview.problems.map((text) => html`<p class="fault">${text}</p>`)}`}`;
