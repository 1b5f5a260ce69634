// Requests to the gateway. The API key, where one is needed, lives in sessionStorage and goes out in a header.

const KEY = "gateway-key";
const SILENCE_MILLISECONDS = 40_000; // a stream says something every 15 s, if only that it is there
let refused = () => {};

export class Problem extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "The gateway did not say what went wrong");
    this.status = problem.status;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

// told(wrong) when a request was refused for want of a key; wrong where there was one.
export const onRefused = (told) => (refused = told);

export async function send(method, path, body, { accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path.replace(/^\//, ""), {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
  }).catch((error) => { throw signal?.aborted ? error : new Error("The gateway does not answer"); });
  if (response.ok) return response;
  const problem = new Problem(await response.json().catch(() => ({ title: response.statusText, status: response.status })));
  if (response.status === 401 && key === sessionStorage.getItem(KEY)) {
    forgetKey();
    refused(key !== null);
  }
  throw problem;
}

export async function ask(method, path, body, signal) {
  const response = await send(method, path, body, { signal });
  return response.status === 204 ? null : response.json();
}

// Every event of a stream, until it ends: told(kind, data); heard() with all that comes, comments too.
export async function stream(method, path, body, signal, told, heard = () => {}) {
  const response = await send(method, path, body, { accept: "text/event-stream", signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) tell(block, told);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function tell(block, told) {
  const lines = block.split("\n");
  const field = (name) =>
    lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart()).join("\n");
  if (field("data")) told(field("event") || "message", JSON.parse(field("data")));
}

// A stream that is opened again when it breaks or falls silent; returns a function that ends it. state(true) when it is open.
export function follow(path, told, state) {
  const ending = new AbortController();
  (async () => {
    for (let pause = 500; !ending.signal.aborted; pause = Math.min(pause * 2, 8000)) {
      const silence = timer(SILENCE_MILLISECONDS);
      try {
        await stream("GET", path, undefined, AbortSignal.any([ending.signal, silence.signal]), (kind, data) => {
          pause = 500;
          state(true);
          told(kind, data);
        }, silence.restart);
      } catch (error) {
        if (ending.signal.aborted || error.status === 401) return;
      } finally {
        silence.stop();
      }
      state(false);
      await new Promise((resume) => setTimeout(resume, pause));
    }
  })();
  return () => ending.abort();
}

// Aborts its signal when it was not restarted in time.
function timer(milliseconds) {
  const due = new AbortController();
  let waiting;
  const stop = () => clearTimeout(waiting);
  const restart = () => { stop(); waiting = setTimeout(() => due.abort(), milliseconds); };
  restart();
  return { signal: due.signal, restart, stop };
}

export const server = (name, rest = "") => `/api/servers/${encodeURIComponent(name)}${rest}`;
