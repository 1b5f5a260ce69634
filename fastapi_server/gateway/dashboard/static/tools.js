// The tools of a server, each with a form to call it.

import { ask, Problem, stream } from "./api.js";
import { Attempt } from "./attempt.js";
import { html } from "./html.js";
import { Guarded, Listed, Tag } from "./parts.js";
import { Result } from "./result.js";

const HINTS = { readOnlyHint: "read only", destructiveHint: "destructive", idempotentHint: "idempotent" };

export const Tools = ({ server, watch }) => html`
  <${Listed} server=${server} watch=${watch} load=${() => ask("GET", `/api/tools?server=${encodeURIComponent(server)}`)}>
    ${({ tools, problems }) => ({
      problem: problems[server],
      items: tools.map((tool) => html`<${Tool} key=${tool.name} tool=${tool} server=${server} />`),
    })}
  </${Listed}>`;

function Tool({ tool, server }) {
  const call = async (said, signal, progress) => {
    let result;
    const path = `/api/tools/${encodeURIComponent(tool.name)}/call`;
    await stream("POST", path, { arguments: said }, signal, (kind, data) => {
      if (kind === "error") throw new Problem(data);
      if (kind === "progress") progress(data);
      else result = data;
    });
    if (!result) throw new Error("The gateway hung up before there was a result");
    return result;
  };
  const shown = (result, seconds) => html`<${Result} result=${result} seconds=${seconds} server=${server} />`;
  return html`
    <details class="panel tool">
      <summary>
        <code>${tool.name.slice(server.length + 2)}</code>
        ${Object.entries(HINTS).filter(([hint]) => tool.annotations?.[hint]).map(([, text]) => html`<${Tag}>${text}</${Tag}>`)}
        <span class="muted">${tool.title ?? tool.description}</span>
      </summary>
      ${tool.description && html`<p class="description">${tool.description}</p>`}
      <${Guarded}><${Attempt} schema=${tool.inputSchema} action="Call" run=${call} shown=${shown} /></${Guarded}>
    </details>`;
}
