// A result, each kind of content as what it is.

import { ask, server as path } from "./api.js";
import { html, useState } from "./html.js";
import { seconds as shown } from "./numbers.js";
import { Fault, Tag } from "./parts.js";

const SAFE = /^(image\/(png|jpeg|gif|webp|avif)|audio\/[\w.+-]+)$/;

export function Result({ result, seconds, server }) {
  return html`
    <div class="result">
      <p class="muted">
        <${Tag} tone=${result.isError ? "bad" : "good"}>${result.isError ? "error" : "done"}</${Tag}> in ${shown(seconds)}
      </p>
      ${result.content.map((one) => html`<${Content} one=${one} server=${server} />`)}
      ${result.structuredContent && html`
        <details open=${!result.content.length}><summary>Structured</summary><${Code} value=${result.structuredContent} /></details>`}
    </div>`;
}

const Code = ({ value }) => html`<pre class="code">${JSON.stringify(value, null, 2)}</pre>`;

function Content({ one, server }) {
  switch (one.type) {
    case "text":
      return html`<pre class="text">${one.text}</pre>`;
    case "image":
    case "audio":
      return html`<${Media} type=${one.mimeType} data=${one.data} />`;
    case "resource_link":
      return html`<${Link} link=${one} server=${server} />`;
    case "resource":
      return html`<${Resource} one=${one.resource} />`;
    default:
      return html`<${Code} value=${one} />`;
  }
}

function Media({ type, data }) {
  if (!SAFE.test(type)) return html`<p class="muted">${type}, ${Math.round(data.length * 0.75)} bytes</p>`;
  const source = `data:${type};base64,${data}`;
  if (type.startsWith("image/")) return html`<img class="media" src=${source} alt="The image that the tool gave" />`;
  return html`<audio class="media" controls src=${source} aria-label="The sound that the tool gave"></audio>`;
}

const Resource = ({ one }) => html`
  <figure><figcaption class="muted">${one.uri}</figcaption>
    ${one.text === undefined ? html`<${Media} type=${one.mimeType ?? "unknown"} data=${one.blob} />` : html`<pre class="text">${one.text}</pre>`}
  </figure>`;

function Link({ link, server }) {
  const [contents, setContents] = useState(null);
  const [error, setError] = useState(null);
  const read = () => ask("POST", path(server, "/resources/read"), { uri: link.uri }).then((read) => setContents(read.contents), setError);
  return html`
    <div class="link">
      <button type="button" onClick=${read}>Read ${link.title ?? link.name}</button>
      <span class="muted"><code>${link.uri}</code> ${link.description}</span>
      ${error && html`<${Fault} error=${error} />`}
      ${contents?.map((one) => html`<${Resource} one=${one} />`)}
    </div>`;
}
