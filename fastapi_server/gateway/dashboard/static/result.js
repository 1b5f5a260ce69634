// What a server gave, each kind of content as what it is. All of it is text to the page: none becomes markup or script.

import { ask, server as path } from "./api.js";
import { html, useState } from "./html.js";
import { bytes, seconds as shown } from "./numbers.js";
import { Fault, Tag } from "./parts.js";
import { isObject } from "./schema.js";

const SHOWN = /^(image\/(png|jpeg|gif|webp|avif)|audio\/[\w.+-]+)$/;
const WEB = /^https?:\/\//i;

export const Result = ({ result, seconds, server }) => html`
  <div class="result">
    <p class="muted">
      <${Tag} tone=${result.isError ? "bad" : "good"}>${result.isError ? "error" : "done"}</${Tag}> in ${shown(seconds)}
    </p>
    ${result.content.map((one) => html`<${Content} one=${one} server=${server} />`)}
    ${result.structuredContent !== undefined && html`
      <details open=${!result.content.length}><summary>Structured</summary><${Code} value=${result.structuredContent} /></details>`}
  </div>`;

const Code = ({ value }) => html`<pre class="code" tabindex="0">${JSON.stringify(value, null, 2)}</pre>`;

export function Content({ one, server }) {
  switch (one.type) {
    case "text":
      return html`<${Text} text=${one.text} />`;
    case "image":
    case "audio":
      return html`<${Media} type=${one.mimeType} data=${one.data} />`;
    case "resource_link":
      return html`<div class="link"><b>${one.title ?? one.name}</b><${Readable} one=${one} server=${server} /></div>`;
    case "resource":
      return html`<${Embedded} one=${one.resource} />`;
    default:
      return html`<${Code} value=${one} />`;
  }
}

function Text({ text }) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    // plain text
  }
  return isObject(value) || Array.isArray(value) ? html`<${Code} value=${value} />` : html`<pre class="text" tabindex="0">${text}</pre>`;
}

function Media({ type, data }) {
  const size = Math.floor((data.length * 3) / 4);
  if (!SHOWN.test(type)) {
    return html`<p class="muted">${type}, ${bytes(size)} <a download="content" href=${`data:application/octet-stream;base64,${data}`}>Download</a></p>`;
  }
  const source = `data:${type};base64,${data}`;
  if (type.startsWith("image/")) return html`<img class="media" src=${source} alt=${`Image that the server gave, ${type}`} />`;
  return html`<audio class="media" controls src=${source} aria-label=${`Sound that the server gave, ${type}`}></audio>`;
}

const Embedded = ({ one }) => html`
  <figure>
    <figcaption class="muted"><code>${one.uri}</code> ${one.mimeType}</figcaption>
    ${one.text === undefined ? html`<${Media} type=${one.mimeType ?? "unknown"} data=${one.blob} />` : html`<${Text} text=${one.text} />`}
  </figure>`;

// A resource, to be read through the gateway. Only an address of the web is a link: `javascript:` is none.
export function Readable({ one, server }) {
  const [contents, setContents] = useState(null);
  const [error, setError] = useState(null);
  const read = async () => {
    setError(null);
    try {
      setContents((await ask("POST", path(server, "/resources/read"), { uri: one.uri })).contents);
    } catch (problem) {
      setError(problem);
    }
  };
  const address = html`<code>${one.uri}</code>`;
  return html`
    <p class="muted">${WEB.test(one.uri) ? html`<a href=${one.uri} target="_blank" rel="noopener noreferrer">${address}</a>` : address} ${one.description}</p>
    <div class="actions"><button type="button" aria-label=${`Read ${one.title ?? one.name}`} onClick=${read}>Read</button></div>
    ${error && html`<${Fault} error=${error} />`}
    ${contents?.map((part) => html`<${Embedded} one=${part} />`)}`;
}
