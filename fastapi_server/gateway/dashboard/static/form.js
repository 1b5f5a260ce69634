// The fields of a form that is made of a JSON schema.

import { html } from "./html.js";
import { boundsOf, choicesOf, fieldsOf, itemOf, startOf } from "./schema.js";

// The members of an object; told(draft) of every change.
export const Fields = ({ node, draft, told }) => fieldsOf(node).map(({ name, node: one }) => html`
  <${Field} key=${name} name=${name} node=${one} draft=${Object.hasOwn(draft, name) ? draft[name] : undefined}
    told=${(next) => told({ ...draft, [name]: next })} />`);

function Field({ name, node, draft, told, item = false }) {
  const held = draft === undefined ? startOf(node) : draft;
  if (node.kind === "object") return html`<${Members} name=${name} node=${node} held=${held} told=${told} item=${item} />`;
  if (node.kind === "array") return html`<${Items} name=${name} node=${node} held=${held} told=${told} />`;
  return html`
    <label class="field">
      <span>${name}<${Star} node=${node} item=${item} /> <small>${hintOf(node)}</small></span>
      <${Input} node=${node} held=${held} told=${told} item=${item} />
    </label>`;
}

const Star = ({ node, item }) => node.required && !item && html`<em title="required" aria-hidden="true">*</em>`;

function hintOf(node) {
  const { kind, schema, nullable, required } = node;
  const json = kind === "json" && (["object", "array"].includes(schema.type) ? `a JSON ${schema.type}` : "JSON");
  const hints = [schema.description, boundsOf(node).text, json, nullable && required && "empty for null"];
  return hints.filter((one) => one && typeof one === "string").join(" · ");
}

function Input({ node, held, told, item }) {
  const { schema, kind } = node;
  const required = node.required && !node.nullable && !(item && kind === "string");
  const common = { value: held, required, onInput: (event) => told(event.target.value) };
  const { min, max } = boundsOf(node);
  const length = (limit) => (Number.isSafeInteger(limit) && limit >= 0 ? limit : undefined);
  switch (kind) {
    case "enum":
      return html`<${Select} ...${common} choices=${choicesOf(node).map((one) => [JSON.stringify(one), typeof one === "string" ? one : JSON.stringify(one)])} />`;
    case "boolean":
      return html`<${Select} ...${common} choices=${[["true", "true"], ["false", "false"]]} />`;
    case "integer":
    case "number":
      return html`<input type="number" ...${common} step=${kind === "integer" ? 1 : "any"} inputmode="decimal"
        min=${min} max=${max} onInput=${(event) => { exactly(event.target, kind); told(event.target.value); }} />`;
    case "string":
      return html`<textarea rows="1" ...${common} minlength=${length(schema.minLength)} maxlength=${length(schema.maxLength)}
        spellcheck="false"></textarea>`;
    default:
      return html`<textarea rows="2" class="code" ...${common} spellcheck="false"></textarea>`;
  }
}

const Select = ({ choices, ...common }) => html`
  <select ...${common}>
    ${(!common.required || common.value === "") && html`<option value="">–</option>`}
    ${choices.map(([value, text]) => html`<option value=${value}>${text}</option>`)}
  </select>`;

// JavaScript would round it in silence.
const exactly = (field, kind) =>
  field.setCustomValidity(kind === "integer" && field.value && !Number.isSafeInteger(Number(field.value)) ? "Too large for this form" : "");

function Members({ name, node, held, told, item }) {
  return html`
    <fieldset class="nested">
      <legend>${name}<${Star} node=${node} item=${item} /> <small>${hintOf(node)}</small></legend>
      ${held === null
        ? html`<button type="button" onClick=${() => told({})}>Add ${name}</button>`
        : html`<${Fields} node=${node} draft=${held} told=${told} />`}
      ${held !== null && !item && (!node.required || node.nullable) && html`<button type="button" onClick=${() => told(null)}>Leave ${name} out</button>`}
    </fieldset>`;
}

function Items({ name, node, held, told }) {
  const drafts = held ?? [];
  const without = (at) => drafts.filter((_one, other) => other !== at);
  return html`
    <fieldset class="nested">
      <legend>${name}<${Star} node=${node} /> <small>${hintOf(node)}</small></legend>
      ${drafts.map((one, at) => html`
        <div class="item" key=${at}>
          <${Field} name=${`${name} ${at + 1}`} node=${itemOf(node)} draft=${one} item
            told=${(next) => told(drafts.map((other, where) => (where === at ? next : other)))} />
          <button type="button" class="quiet" aria-label=${`Remove ${name} ${at + 1}`} onClick=${() => told(drafts.length > 1 ? without(at) : null)}>✕</button>
        </div>`)}
      <button type="button" onClick=${() => told([...drafts, itemOf(node).kind === "object" ? {} : undefined])}>Add to ${name}</button>
    </fieldset>`;
}
