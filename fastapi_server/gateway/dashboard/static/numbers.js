// Numbers as people read them.

export function seconds(value) {
  if (!value) return "–";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${(value * 1000).toPrecision(value < 0.1 ? 2 : 3)} ms`;
  return `${value.toFixed(value < 10 ? 2 : 0)} s`;
}

export const count = (value) => value.toLocaleString("en");
export const rate = (value) => (value ? value.toFixed(value < 10 ? 1 : 0) : "0");
export const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
export const day = (at) => new Date(at * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });
export const bytes = (value) => (value < 1024 ? `${value} bytes` : `${(value / 1024).toFixed(value < 10240 ? 1 : 0)} KiB`);
