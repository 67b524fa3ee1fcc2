"""The look of a report page, and the script that shows a chart's values under the pointer."""

from __future__ import annotations

from folio.reports.drawing import DARK_PALETTE, LIGHT_PALETTE


def _palette(colours: tuple[str, ...]) -> str:
    return " ".join(f"--series-{index}: {colour};" for index, colour in enumerate(colours))


_LIGHT = (
    f"--ink: #1d2126; --muted: #5d656d; --grid: #e6e8ea; --paper: #fdfdfc; --panel: #f4f4f1; {_palette(LIGHT_PALETTE)}"
)
_DARK = (
    f"--ink: #e4e6e8; --muted: #9aa2aa; --grid: #2b3138; --paper: #15181c; --panel: #1d2126; {_palette(DARK_PALETTE)}"
)

STYLE = (
    f":root {{ color-scheme: light dark; {_LIGHT} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}\n"
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
main { max-width: 1128px; margin: 0 auto; padding: 56px 24px 40px; }
header { border-bottom: 1px solid var(--grid); padding-bottom: 20px; margin-bottom: 28px; }
h1, h2, .stat dd { font-family: "Iowan Old Style", Charter, "Bitstream Charter", "Palatino Linotype", Palatino,
  "Source Serif 4", Georgia, "Liberation Serif", serif; font-weight: 600; letter-spacing: -0.01em; }
h1 { font-size: 40px; line-height: 1.15; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 25px; margin: 52px 0 12px; }
p { max-width: 72ch; margin: 0 0 14px; }
.kind { font-size: 13px; letter-spacing: 0.08em; text-transform: uppercase; color: var(--muted); margin: 0 0 8px; }
.subtitle { color: var(--muted); font-size: 18px; margin: 8px 0 0; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 16px; font-size: 14px; }
a { color: var(--series-0); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
.note { border-left: 3px solid var(--series-1); padding: 4px 0 4px 14px; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 26px 24px;
  margin: 0 0 28px; }
.stat dt { font-size: 13px; color: var(--muted); }
.stat dd { margin: 0; font-size: 33px; line-height: 1.25; }
.stat .unit { font-size: 17px; color: var(--muted); font-weight: 400; letter-spacing: 0; }
.stat .aside { display: block; letter-spacing: 0;
  font: 13px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  color: var(--muted); }
figure { margin: 20px 0; }
.grid { display: flex; flex-wrap: wrap; gap: 24px; }
.cell { max-width: 100%; overflow-x: auto; }
.chart { display: block; max-width: 100%; min-width: 440px; height: auto; font-variant-numeric: tabular-nums; }
.chart[width="1080"] { min-width: 720px; }
.halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
figcaption, caption { color: var(--muted); font-size: 14px; text-align: left; padding: 6px 0; max-width: 90ch; }
.scroll { overflow-x: auto; margin: 12px 0 20px; }
.tall { overflow-y: auto; max-height: 560px; }
table { border-collapse: collapse; font-size: 15px; font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: var(--paper); text-align: left; font-weight: 600;
  font-size: 13px; color: var(--muted); border-bottom: 1px solid var(--muted); }
th, td { padding: 7px 22px 7px 0; vertical-align: baseline; white-space: nowrap; }
td.long { white-space: normal; min-width: 300px; overflow-wrap: anywhere; }
td { border-bottom: 1px solid var(--grid); }
tbody tr:hover { background: var(--panel); }
th.number, td.number { text-align: right; }
th:last-child, td:last-child { padding-right: 4px; }
.pairs { margin: 8px 0 20px; font-size: 15px; columns: 2 420px; column-gap: 40px; }
.pairs div { display: flex; justify-content: space-between; gap: 20px;
  border-bottom: 1px solid var(--grid); padding: 5px 0; break-inside: avoid; }
.pairs dt { color: var(--muted); white-space: nowrap; }
.pairs dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre { font: 14px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; margin: 0;
  white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4; }
.sample { background: var(--panel); border-radius: 8px; padding: 16px 20px; margin: 14px 0; max-width: 860px; }
.prompt { margin: 18px 0 0; }
.prompt b { color: var(--series-0); }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 16px; margin: 8px 0 20px; }
.beside .sample { margin: 0; max-width: none; }
.sample-title { font-size: 13px; color: var(--muted); margin-bottom: 8px; }
.sample b { color: var(--series-0); }
details { border-top: 1px solid var(--grid); padding: 10px 0; }
details:last-of-type { border-bottom: 1px solid var(--grid); }
details pre { padding: 10px 0; }
summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 56px; color: var(--muted); font-size: 13px; }
.tip { position: fixed; pointer-events: none; background: var(--paper); border: 1px solid var(--grid);
  border-radius: 6px; box-shadow: 0 3px 14px rgb(0 0 0 / 0.18); padding: 7px 11px; font-size: 13px;
  line-height: 1.5; z-index: 1; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tip i { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 7px; }
@media (max-width: 600px) { main { padding-top: 28px; } h1 { font-size: 30px; } }
@media print { main { max-width: none; padding: 0; } .cell, .sample, tr { break-inside: avoid; }
  .scroll, .tall { overflow: visible; max-height: none; } table { font-size: 12px; } th { position: static; }
  th, td { white-space: normal; padding-right: 10px; } }
"""
)

SCRIPT = """
"use strict";
for (const svg of document.querySelectorAll("svg.chart[data-points]")) {
  const { x, y, series } = JSON.parse(svg.dataset.points);
  const title = svg.querySelector("title");  // else the browser's own tooltip covers ours
  svg.setAttribute("aria-label", title.textContent);
  title.remove();
  const place = (scale, value) => {
    const f = scale.log ? Math.log : (v) => v;
    return scale.start + (f(value) - f(scale.low)) / (f(scale.high) - f(scale.low)) * (scale.end - scale.start);
  };
  const draw = (name, attributes) => {
    const node = document.createElementNS(svg.namespaceURI, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    return svg.appendChild(node);
  };
  const written = (value) => Math.abs(value) >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 1 })
    : String(Number(value.toPrecision(6)));
  const rows = series.map((one) => ({ ...one, at: one.points.map(([px]) => place(x, px)) }));
  let marks = [], tip = null;
  const clear = () => { for (const node of marks) node.remove(); marks = []; if (tip) tip.remove(); tip = null; };
  svg.addEventListener("pointerleave", clear);
  svg.addEventListener("pointermove", (event) => {
    clear();
    const pointer = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    if (pointer.x < x.start - 12 || pointer.x > x.end + 12) return;
    const near = [];
    for (const row of rows) {
      let best = -1;
      row.at.forEach((at, n) => {
        if (best < 0 || Math.abs(at - pointer.x) < Math.abs(row.at[best] - pointer.x)) best = n;
      });
      if (best >= 0) near.push({ row, best, gap: Math.abs(row.at[best] - pointer.x) });
    }
    if (!near.length) return;
    const closest = near.reduce((a, b) => (a.gap <= b.gap ? a : b));
    const shown = near.filter((one) => Math.abs(one.row.at[one.best] - closest.row.at[closest.best]) <= 14);
    const line = closest.row.at[closest.best];
    marks.push(draw("path", { d: `M${line} ${y.end}V${y.start}`, stroke: "var(--muted)", "stroke-dasharray": "2 3" }));
    tip = document.body.appendChild(document.createElement("div"));
    tip.className = "tip";
    const heading = tip.appendChild(document.createElement("div"));
    heading.textContent = `${x.label} ${written(closest.row.points[closest.best][0])}`;
    for (const { row, best } of shown) {
      const value = row.points[best][1];
      marks.push(draw("circle", { cx: row.at[best], cy: place(y, value), r: 4, fill: row.colour }));
      const entry = tip.appendChild(document.createElement("div"));
      entry.appendChild(document.createElement("i")).style.background = row.colour;
      entry.append(`${row.label || y.label}: ${written(value)}`);
    }
    const box = tip.getBoundingClientRect();
    const fits = event.clientX + 16 + box.width <= innerWidth;
    tip.style.left = `${fits ? event.clientX + 16 : event.clientX - 16 - box.width}px`;
    tip.style.top = `${Math.max(8, Math.min(event.clientY + 12, innerHeight - box.height - 8))}px`;
  });
}
"""
