// What a form has to know of a JSON schema. No schema makes it throw: what a form cannot show is asked for as JSON.
//
// A draft is what a form holds of a value: the text of a plain field, an object or an array of drafts, `undefined` for
// what nobody has touched, `null` for what was taken away. What is left empty is left out of the value, so that the
// server's own default holds.

const STEPS = 20;
const OPEN_DEPTH = 2;

export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const listOf = (value) => (Array.isArray(value) ? value : []);
const own = (object, name) => (isObject(object) && Object.hasOwn(object, name) ? object[name] : undefined);

// The schema with its references followed and its alternatives and parts put together, and the kind of field it takes.
export function nodeOf(schema, { root = schema, depth = 0, required = true } = {}) {
  const plain = flat(schema, root, 0);
  return { schema: plain, root, depth, required, nullable: plain.nullable === true, kind: kindOf(plain) };
}

export const fieldsOf = ({ schema, root, depth }) =>
  Object.entries(schema.properties).map(([name, one]) => ({
    name, node: nodeOf(one, { root, depth: depth + 1, required: listOf(schema.required).includes(name) }),
  }));

export const itemOf = ({ schema, root, depth }) => nodeOf(schema.items, { root, depth: depth + 1 });

// Whether it is an object that has no members, as far as its schema says.
export const isEmpty = ({ kind, schema }) =>
  kind === "json" && schema.type === "object" && !schema.additionalProperties && !schema.patternProperties;

export const choicesOf = ({ schema }) => ("const" in schema ? [schema.const] : schema.enum);

function flat(schema, root, steps) {
  const plain = followed(schema, root);
  if (steps > STEPS) return {};
  if (Array.isArray(plain.allOf)) return flat(together(plain, root), root, steps + 1);
  const { anyOf, oneOf, ...rest } = plain;
  const choices = (listOf(anyOf).length ? anyOf : listOf(oneOf)).map((one) => followed(one, root));
  const real = choices.filter((one) => one.type !== "null");
  const nullable = real.length < choices.length || listOf(plain.type).includes("null") || plain.nullable === true;
  if (real.length === 1) return flat({ ...real[0], ...rest, nullable }, root, steps + 1);
  if (real.length && real.every((one) => "const" in one)) return { ...rest, nullable, enum: real.map((one) => one.const) };
  return real.length ? { ...rest, nullable, type: undefined } : { ...rest, nullable };
}

function followed(schema, root) {
  for (let steps = 0; isObject(schema) && typeof schema.$ref === "string"; steps += 1) {
    const { $ref, ...rest } = schema;
    const found = steps < STEPS ? pointed(root, $ref) : undefined;
    schema = isObject(found) ? { ...found, ...rest } : rest;
  }
  return isObject(schema) ? schema : {};
}

function pointed(root, reference) {
  const [document, ...path] = reference.split("/");
  if (document !== "#") return undefined;
  try {
    const names = path.map((name) => decodeURIComponent(name).replaceAll("~1", "/").replaceAll("~0", "~"));
    return names.reduce((found, name) => (Array.isArray(found) ? found[name] : own(found, name)), root);
  } catch {
    return undefined; // a stray percent sign
  }
}

function together({ allOf, ...schema }, root) {
  const parts = [...allOf.map((one) => followed(one, root)), schema];
  const all = Object.assign({}, ...parts);
  const properties = Object.assign({}, ...parts.map((one) => one.properties).filter(isObject));
  if (Object.keys(properties).length) all.properties = properties;
  return { ...all, required: [...new Set(parts.flatMap((one) => listOf(one.required)))] };
}

function kindOf(schema) {
  if ("const" in schema || listOf(schema.enum).length) return "enum";
  const fields = isObject(schema.properties) && Object.keys(schema.properties).length > 0;
  const types = [].concat(schema.type ?? (fields ? "object" : [])).filter((one) => one !== "null");
  if (types.length !== 1) return "json";
  if (types[0] === "object") return fields ? "object" : "json";
  if (types[0] === "array") return isObject(schema.items) && !schema.prefixItems ? "array" : "json";
  return ["string", "integer", "number", "boolean"].includes(types[0]) ? types[0] : "json";
}

// The bounds of a number, as an input takes them and in words.
export function boundsOf({ kind, schema }) {
  const [low, high, above, below] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].map((name) =>
    (typeof schema[name] === "number" ? schema[name] : undefined));
  if (kind === "integer") {
    const [min, max] = [low ?? (above === undefined ? undefined : above + 1), high ?? (below === undefined ? undefined : below - 1)];
    return { min, max, text: inWords([["at least", min], ["at most", max]]) };
  }
  return { min: low ?? above, max: high ?? below, text: inWords([["at least", low], ["above", above], ["at most", high], ["below", below]]) };
}

const inWords = (bounds) => bounds.filter(([, bound]) => bound !== undefined).map(([word, bound]) => `${word} ${bound}`).join(", ");

// What a form begins with: the default, where it is one.
export function startOf(node) {
  try {
    if (node.schema.default !== undefined && node.schema.default !== null) return draftOf(node, node.schema.default);
  } catch {
    // the default breaks its own schema: it is as good as none
  }
  if (node.kind === "object") return node.required && node.depth <= OPEN_DEPTH ? {} : null;
  if (node.kind === "array") return null;
  if (node.kind === "enum" && node.required && choicesOf(node).length === 1) return JSON.stringify(choicesOf(node)[0]);
  return "";
}

// The draft that stands for a value. Throws where the form has no place for it.
export function draftOf(node, value, path = "") {
  if (node.kind === "json") return JSON.stringify(value, null, 2);
  if (value === null && node.nullable && node.required) return emptyOf(node);
  if (!fits(node, value)) throw new Error(`The form has no place for ${path || "this"}`);
  switch (node.kind) {
    case "object":
      return draftOfObject(node, value, path);
    case "array":
      return value.map((one, at) => draftOf(itemOf(node), one, `${path}[${at}]`));
    default:
      return node.kind === "enum" ? JSON.stringify(value) : String(value);
  }
}

function fits(node, value) {
  switch (node.kind) {
    case "object":
      return isObject(value);
    case "array":
      return Array.isArray(value);
    case "enum":
      return choicesOf(node).some((one) => JSON.stringify(one) === JSON.stringify(value));
    default:
      return typeof value === (node.kind === "integer" ? "number" : node.kind);
  }
}

function draftOfObject(node, value, path) {
  const fields = new Map(fieldsOf(node).map((one) => [one.name, one.node]));
  const stranger = Object.keys(value).find((name) => !fields.has(name));
  if (stranger !== undefined) throw new Error(`The form has no place for ${join(path, stranger)}`);
  const drafted = ([name, one]) =>
    [name, Object.hasOwn(value, name) ? draftOf(one, value[name], join(path, name)) : one.required ? undefined : emptyOf(one)];
  return Object.fromEntries([...fields].map(drafted));
}

const join = (path, name) => (path ? `${path}.${name}` : name);
const emptyOf = (node) => (["object", "array"].includes(node.kind) ? null : "");

// The value that a draft stands for; `undefined` where nothing is said. Throws where a text is no JSON.
export function valueOf(node, draft, path = "") {
  const held = draft === undefined ? startOf(node) : draft;
  if (node.kind === "object") {
    if (held === null) return node.nullable && node.required ? null : undefined;
    const said = fieldsOf(node).map(({ name, node: one }) => [name, valueOf(one, own(held, name), join(path, name))]);
    return Object.fromEntries(said.filter(([, value]) => value !== undefined));
  }
  if (node.kind === "array") {
    if (held === null) return node.required ? (node.nullable ? null : []) : undefined;
    return held.map((one, at) => valueOf(itemOf(node), one, `${path}[${at}]`) ?? null);
  }
  if (held === "") {
    if (!node.required) return undefined;
    return node.nullable ? null : node.kind === "string" ? "" : undefined;
  }
  switch (node.kind) {
    case "string":
      return held;
    case "integer":
    case "number":
      return Number(held);
    case "boolean":
      return held === "true";
    default:
      return parsed(held, path);
  }
}

export function parsed(text, what) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what || "This"} is not JSON: ${error.message}`);
  }
}
