// The resources of a server, to be read.

import { ask, server as path } from "./api.js";
import { html, useState } from "./html.js";
import { Listed, Tag } from "./parts.js";
import { Readable } from "./result.js";

const load = async (server) => {
  const [{ resources }, { templates }] = await Promise.all(["/resources", "/templates"].map((rest) => ask("GET", path(server, rest))));
  return { resources, templates };
};

export const Resources = ({ server, watch }) => html`
  <${Listed} server=${server} watch=${watch} load=${() => load(server)}>
    ${({ resources, templates }) => ({
      items: [
        ...resources.map((one) => html`
          <article class="panel resource" key=${one.uri}>
            <h2>${one.title ?? one.name} ${one.mimeType && html`<${Tag}>${one.mimeType}</${Tag}>`}</h2>
            <${Readable} one=${one} server=${server} />
          </article>`),
        ...templates.map((one) => html`<${Template} key=${one.uriTemplate} one=${one} server=${server} />`),
      ],
    })}
  </${Listed}>`;

function Template({ one, server }) {
  const [uri, setURI] = useState(one.uriTemplate);
  return html`
    <article class="panel resource">
      <h2>${one.title ?? one.name} <${Tag}>template</${Tag}></h2>
      <label class="field">
        <span>URI <small>what stands in braces is yours to replace</small></span>
        <input class="code" value=${uri} onInput=${(event) => setURI(event.target.value)} autocomplete="off" spellcheck="false" />
      </label>
      <${Readable} one=${{ ...one, uri }} server=${server} />
    </article>`;
}
