// Pieces that several pages use.

import { html, useEffect, useRef } from "./html.js";

export const State = ({ state }) =>
  html`<span class="state" data-state=${state}><i aria-hidden="true"></i>${state}</span>`;

export const Tag = ({ children, tone }) => html`<span class="tag" data-tone=${tone}>${children}</span>`;

export const Fault = ({ error }) => html`<p class="fault" role="alert">${error.message}</p>`;

// A modal dialog; the browser keeps the focus inside and closes it with Escape.
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return html`
    <dialog ref=${dialog} onClose=${onClose} aria-label=${title}>
      <header>
        <h2>${title}</h2>
        <button class="quiet" type="button" aria-label="Close" onClick=${() => dialog.current.close()}>✕</button>
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
