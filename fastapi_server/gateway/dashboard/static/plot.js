// Latencies over time.

import { ask, server as path } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { clock, seconds } from "./numbers.js";

const LINES = ["p50", "p95", "p99"];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export function Plot({ name }) {
  const place = useRef(null);
  const [samples, setSamples] = useState([]);
  useEffect(() => {
    const newer = ({ samples }) => setSamples((shown) => (shown.at(-1)?.at === samples.at(-1)?.at ? shown : samples));
    const load = () => ask("GET", path(name, "/history")).then(newer, () => {});
    load();
    const timer = setInterval(load, 2000);
    return () => clearInterval(timer);
  }, [name]);
  useEffect(() => {
    if (!samples.length) return;
    const draw = () => new uPlot(options(place.current.clientWidth, spanOf(samples)), dataOf(samples), place.current);
    let plot = draw();
    const again = () => { plot.destroy(); plot = draw(); };
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", again);
    addEventListener("resize", again);
    return () => { dark.removeEventListener("change", again); removeEventListener("resize", again); plot.destroy(); };
  }, [samples]);
  const last = samples.at(-1)?.latency;
  return html`
    <div class="panel plot">
      ${last
        ? html`<p class="legend">${LINES.map((line) => html`<span data-line=${line}><i aria-hidden="true"></i>${line} <b>${seconds(last[line])}</b></span>`)}</p>`
        : html`<p class="muted">No calls in the last 15 minutes.</p>`}
      <div ref=${place} role="img" aria-label="Latency of calls over time"></div>
    </div>`;
}

const dataOf = (samples) => [
  samples.map((one) => one.at),
  ...LINES.map((line) => samples.map((one) => one.latency[line] * 1000)),
];

// At least half a minute, however few samples there are.
const spanOf = (samples) => [Math.min(samples[0].at, samples.at(-1).at - 30), samples.at(-1).at];

function options(width, span) {
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width, height: 190, cursor: { y: false, points: { size: 6 } }, legend: { show: false },
    scales: { y: { range: (_plot, _low, high) => [0, (high || 1) * 1.15] }, x: { range: () => span } },
    axes: [{ ...axis, space: 90, size: 28, values: (_plot, ticks) => ticks.map(clock) }, { ...axis, size: 56, values: (_plot, ticks) => ticks.map((tick) => (tick ? seconds(tick / 1000) : "0")) }],
    series: [{}, ...LINES.map((line) => ({ label: line, stroke: colour(line), width: 1.75, points: { size: 4, fill: colour(line) } }))],
  };
}
