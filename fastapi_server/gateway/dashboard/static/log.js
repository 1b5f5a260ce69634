// What a server wrote: its standard error, and what it logged through the protocol. The end is in sight.

import { ask, server as path } from "./api.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { clock } from "./numbers.js";

const LINES = 100;
const POLL_MILLISECONDS = 5000;
const SOON_MILLISECONDS = 300; // however much is logged

export function Log({ name, watch, state }) {
  const [log, setLog] = useState(null);
  useEffect(() => {
    let here = true;
    const load = () => ask("GET", path(name, "/logs")).then((loaded) => here && setLog(loaded), () => {});
    load();
    const timer = setInterval(load, POLL_MILLISECONDS);
    let soon;
    const unwatch = watch((kind, data) => {
      if (kind === "log" && data.server === name) soon ??= setTimeout(() => { soon = undefined; load(); }, SOON_MILLISECONDS);
    });
    return () => { here = false; clearInterval(timer); clearTimeout(soon); unwatch(); };
  }, [name, state]);
  const written = log?.processes.filter((one) => one.stderr) ?? [];
  return html`
    <section aria-labelledby="log">
      <h2 id="log">Log</h2>
      ${log && !log.lines.length && !written.length && html`<p class="panel muted">It has written nothing.</p>`}
      ${written.map((one) => html`
        <${Tail} key=${one.principal} label=${["Standard error", one.pid && `process ${one.pid}`, one.principal && `for ${one.principal}`].filter(Boolean).join(", ")} told=${one.stderr}>${one.stderr}</${Tail}>`)}
      ${log?.lines.length > 0 && html`
        <${Tail} label="Messages" told=${log.lines.length + log.lines.at(-1).at}>
          ${log.lines.slice(-LINES).map((line) => html`
            <span data-level=${line.level}><time>${clock(line.at)}</time> <b>${line.level}</b> ${line.logger && `${line.logger}: `}${line.text}</span>`)}
        </${Tail}>`}
    </section>`;
}

// Scrolled to its end, and kept there unless somebody has scrolled back.
function Tail({ label, told, children }) {
  const place = useRef(null);
  const follows = useRef(true);
  useLayoutEffect(() => {
    if (follows.current) place.current.scrollTop = place.current.scrollHeight;
  }, [told]);
  const scrolled = ({ target }) => (follows.current = target.scrollTop + target.clientHeight >= target.scrollHeight - 8);
  return html`
    <figure class="log">
      <figcaption class="muted">${label}</figcaption>
      <pre class="panel code" tabindex="0" ref=${place} onScroll=${scrolled} role="log" aria-label=${label}>${children}</pre>
    </figure>`;
}
