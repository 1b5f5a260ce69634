// Latencies over time: of each second, live, or of each minute, as they are stored.

import { ask, server as path } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { clock, day, seconds } from "./numbers.js";

const LINES = ["p50", "p95", "p99"];
const RANGES = [["15 minutes", 900], ["hour", 3_600], ["24 hours", 86_400], ["7 days", 604_800]];
const LIVE = RANGES[0];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export function Plot({ name }) {
  const place = useRef(null);
  const [range, setRange] = useState(LIVE);
  const [samples, setSamples] = useState([]);
  useEffect(() => {
    let here = true;
    const newer = (found) => here && setSamples((shown) => (shown.at(-1)?.at === found.at(-1)?.at ? shown : found));
    const load = () => (range === LIVE ? recent(name) : stored(name, range[1])).then(newer, () => {});
    load();
    const timer = setInterval(load, range === LIVE ? 2_000 : 60_000);
    return () => { here = false; clearInterval(timer); setSamples([]); };
  }, [name, range]);
  useEffect(() => {
    if (!samples.length) return;
    const draw = () => new uPlot(options(place.current.clientWidth, spanOf(samples), range[1] > 86_400 ? day : clock), dataOf(samples), place.current);
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
      <select aria-label="Range" value=${range[0]} onChange=${(event) => setRange(RANGES[event.target.selectedIndex])}>
        ${RANGES.map(([text]) => html`<option value=${text}>Last ${text}</option>`)}
      </select>
      ${last
        ? html`<p class="legend">${LINES.map((line) => html`<span data-line=${line}><i aria-hidden="true"></i>${line} <b>${seconds(last[line])}</b></span>`)}</p>`
        : html`<p class="muted">No calls in the last ${range[0]}.</p>`}
      <div ref=${place} role="img" aria-label="Latency of calls over time"></div>
    </div>`;
}

const recent = async (name) => (await ask("GET", path(name, "/history"))).samples;

async function stored(name, seconds) {
  const since = new Date(Date.now() - seconds * 1000).toISOString();
  const { minutes } = await ask("GET", `/api/history/${encodeURIComponent(name)}?since=${since}`);
  return minutes.filter((one) => one.calls).map((one) => ({ at: Date.parse(one.at) / 1000, latency: one }));
}

const dataOf = (samples) => [
  samples.map((one) => one.at),
  ...LINES.map((line) => samples.map((one) => one.latency[line] * 1000)),
];

// At least half a minute, however few samples there are.
const spanOf = (samples) => [Math.min(samples[0].at, samples.at(-1).at - 30), samples.at(-1).at];

function options(width, span, time) {
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width, height: 190, cursor: { y: false, points: { size: 6 } }, legend: { show: false },
    scales: { y: { range: (_plot, _low, high) => [0, (high || 1) * 1.15] }, x: { range: () => span } },
    axes: [{ ...axis, space: 90, size: 28, values: (_plot, ticks) => ticks.map(time) }, { ...axis, size: 56, values: (_plot, ticks) => ticks.map((tick) => (tick ? seconds(tick / 1000) : "0")) }],
    series: [{}, ...LINES.map((line) => ({ label: line, stroke: colour(line), width: 1.75, points: { size: 4, fill: colour(line) } }))],
  };
}
