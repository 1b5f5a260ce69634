// A form made of a JSON schema: plain fields for plain types, JSON for all else. The server has the last word.

import { html } from "./html.js";

// The type that a field is for, and its schema; `X | null` is X that may be left empty.
function plain(schema, root) {
  if (schema.$ref?.startsWith("#/")) {
    const found = schema.$ref.slice(2).split("/").reduce((node, step) => node?.[step], root);
    return plain({ ...found, ...schema, $ref: undefined }, root);
  }
  const choices = (schema.anyOf ?? schema.oneOf)?.filter((one) => one.type !== "null");
  if (choices?.length === 1) return plain({ ...schema, ...choices[0], anyOf: undefined, oneOf: undefined }, root);
  const type = Array.isArray(schema.type) ? schema.type.find((one) => one !== "null") : schema.type;
  return { ...schema, type: schema.enum ? "enum" : type };
}

const fieldsOf = (schema) =>
  Object.entries(schema?.properties ?? {}).map(([name, one]) => [name, plain(one, schema), schema.required?.includes(name)]);

const isWords = (schema) => schema.type === "array" && ["string", undefined].includes(schema.items?.type) && !schema.items?.$ref && !schema.items?.anyOf;

export const Fields = ({ schema, prefix }) => fieldsOf(schema).map(([name, one, required]) => html`
  <label class=${one.type === "boolean" ? "field check" : "field"} key=${prefix + name}>
    <span>${name}${required && html`<em title="required">*</em>`} <small>${hint(one)}</small></span>
    <${Input} name=${name} schema=${one} required=${required} />
  </label>`);

const hint = (schema) => {
  const kind = isWords(schema) ? "one a line" : ["object", "array", undefined].includes(schema.type) ? "JSON" : "";
  return [schema.description, kind].filter(Boolean).join(" · ");
};

function Input({ name, schema, required }) {
  const given = schema.default ?? undefined;
  switch (schema.type) {
    case "enum":
      return html`<select name=${name} required=${required} defaultValue=${JSON.stringify(given)}>
        ${!required && html`<option value="">–</option>`}
        ${schema.enum.map((one) => html`<option value=${JSON.stringify(one)} selected=${one === given}>${String(one)}</option>`)}
      </select>`;
    case "boolean":
      return html`<input type="checkbox" name=${name} defaultChecked=${given === true} />`;
    case "integer":
    case "number":
      return html`<input type="number" name=${name} required=${required} step=${schema.type === "integer" ? 1 : "any"}
        min=${schema.minimum} max=${schema.maximum} defaultValue=${given} inputmode="decimal" />`;
    case "string":
      return html`<input name=${name} required=${required} minlength=${schema.minLength} maxlength=${schema.maxLength}
        defaultValue=${given} autocomplete="off" />`;
    default:
      return html`<textarea name=${name} required=${required} rows="2" class="code" spellcheck="false"
        defaultValue=${given === undefined ? "" : isWords(schema) ? given.join("\n") : JSON.stringify(given)}></textarea>`;
  }
}

// What a form says. What was left empty is left out, so that the server's own default holds.
export function argumentsOf(schema, form) {
  const said = {};
  for (const [name, one, required] of fieldsOf(schema)) {
    const field = form.elements.namedItem(name);
    const value = one.type === "boolean" ? field.checked : valueOf(name, one, field.value, required);
    if (value !== undefined) said[name] = value;
  }
  return said;
}

function valueOf(name, schema, text, required) {
  if (text === "" && !(required && schema.type === "string")) return undefined;
  if (schema.type === "string") return text;
  if (isWords(schema) && !text.trimStart().startsWith("[")) return text.split("\n").filter(Boolean);
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${name}: is not JSON`);
  }
}
