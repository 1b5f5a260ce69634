// Pieces that several pages use.

import { Component, html, useEffect, useRef, useState } from "./html.js";

export const State = ({ state }) =>
  html`<span class="state" data-state=${state}><i aria-hidden="true"></i>${state}</span>`;

export const Tag = ({ children, tone }) => html`<span class="tag" data-tone=${tone}>${children}</span>`;

export const Fault = ({ error }) => html`<p class="fault" role="alert">${error.message}</p>`;

// What is inside may fail to show: then it says so, and the rest of the page stays.
export class Guarded extends Component {
  componentDidCatch(error) {
    this.setState({ error });
  }

  render({ children }, { error }) {
    return error ? html`<${Fault} error=${{ message: `This cannot be shown: ${error.message}` }} />` : children;
  }
}

// What a server lists, loaded again when it changes. children(loaded) gives `items`, and a `problem` where there is one.
export function Listed({ server, watch, load, children }) {
  const [loaded, setLoaded] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    let here = true;
    const again = () => load().then((value) => here && (setLoaded(value), setError(null)), (problem) => here && setError(problem));
    again();
    // Not on every change of state: asking a server that was drained would connect it again.
    const unwatch = watch((kind, data) => (kind === "lists" || data.state === "connected") && data.server === server && again());
    return () => { here = false; unwatch(); };
  }, [server]);
  if (!loaded) return error ? html`<${Fault} error=${error} />` : html`<p class="muted" role="status">Loading…</p>`;
  const { items, problem } = children(loaded);
  return html`
    ${problem && html`<${Fault} error=${{ message: problem }} />`}
    ${items.length ? items : html`<p class="panel muted">It lists none.</p>`}`;
}

// A modal dialog: the browser keeps the focus inside and closes it with Escape; the focus goes back to where it was.
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const [before, shown] = [document.activeElement, dialog.current];
    // `close` is told late, when the next dialog may have been asked for; Escape is seen before it closes this one.
    const escaped = (event) => { event.preventDefault(); onClose(); };
    shown.addEventListener("cancel", escaped);
    shown.addEventListener("close", onClose);
    shown.showModal();
    return () => {
      shown.removeEventListener("close", onClose);
      shown.close();
      (before.isConnected ? before : document.getElementById("content")).focus();
    };
  }, []);
  return html`
    <dialog ref=${dialog} aria-label=${title}>
      <header>
        <h2>${title}</h2>
        <button class="quiet" type="button" aria-label="Close" onClick=${onClose}>✕</button>
      </header>
      ${children}
    </dialog>`;
}

export function Confirm({ title, text, action, danger, onDo, onClose }) {
  return html`
    <${Dialog} title=${title} onClose=${onClose}>
      <p>${text}</p>
      <footer>
        <button type="button" onClick=${onClose}>Cancel</button>
        <button type="button" class=${danger ? "danger" : "primary"} onClick=${() => { onClose(); onDo(); }}>
          ${action}
        </button>
      </footer>
    </${Dialog}>`;
}
