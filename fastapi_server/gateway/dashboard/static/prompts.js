// The prompts of a server, each with a form to fill it in.

import { ask, server as path } from "./api.js";
import { Attempt } from "./attempt.js";
import { html } from "./html.js";
import { Guarded, Listed, Tag } from "./parts.js";
import { Content } from "./result.js";

export const Prompts = ({ server, watch }) => html`
  <${Listed} server=${server} watch=${watch} load=${() => ask("GET", path(server, "/prompts"))}>
    ${({ prompts }) => ({ items: prompts.map((one) => html`<${Prompt} key=${one.name} prompt=${one} server=${server} />`) })}
  </${Listed}>`;

const schemaOf = ({ arguments: taken = [] }) => ({
  type: "object",
  properties: Object.fromEntries(taken.map((one) => [one.name, { type: "string", description: one.description }])),
  required: taken.filter((one) => one.required).map((one) => one.name),
});

function Prompt({ prompt, server }) {
  const get = (said, signal) =>
    ask("POST", path(server, `/prompts/${encodeURIComponent(prompt.name)}/get`), { arguments: said }, signal);
  return html`
    <details class="panel tool">
      <summary><code>${prompt.name}</code> <span class="muted">${prompt.title ?? prompt.description}</span></summary>
      ${prompt.description && html`<p class="description">${prompt.description}</p>`}
      <${Guarded}>
        <${Attempt} schema=${schemaOf(prompt)} action="Get" run=${get} shown=${(result) => html`<${Messages} result=${result} server=${server} />`} />
      </${Guarded}>
    </details>`;
}

const Messages = ({ result, server }) => html`
  <div class="result">
    ${result.description && html`<p class="muted">${result.description}</p>`}
    ${result.messages.map((one) => html`<div class="message"><${Tag}>${one.role}</${Tag}><${Content} one=${one.content} server=${server} /></div>`)}
  </div>`;
