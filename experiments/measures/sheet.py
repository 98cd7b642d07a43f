"""A table of every method, measure and network that a reader can sort: one HTML file with a few lines of script."""

from __future__ import annotations

import json

import numpy as np

from experiments.common.tables import Line, paired
from experiments.measures.agreement import NAMES, Network, networks_of
from experiments.measures.settings import CONTROLS, QUESTIONS
from experiments.measures.subjects import KINDS
from interpnet.evaluate import measures

_ALL = "all networks: mean rank, 100 is the best method of every image"
_DIRECTION = {m.name: m.direction for m in measures()}
_ORDER = [name for own in QUESTIONS.values() for name in own]

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Methods and measures</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff }
h1 { font-size: 1.3rem; margin: 0 0 .3rem } p { max-width: 60rem; margin: .3rem 0 .8rem }
div { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .45rem; text-align: right; white-space: nowrap } td small { color: #666 }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
thead th { vertical-align: bottom; border-bottom: 2px solid #999 } thead button { all: unset; cursor: pointer }
thead button { writing-mode: vertical-rl; transform: rotate(180deg); padding: .2rem 0; font-weight: 600;
  max-height: 9rem; white-space: normal; line-height: 1.15; text-align: left }
thead th:first-child button { writing-mode: horizontal-tb; transform: none }
thead button:focus-visible { outline: 2px solid #0072b2 } th[aria-sort] button { color: #0072b2 }
tbody tr:hover td { box-shadow: inset 0 -1px #999 } tr.control td:first-child { font-style: italic }
</style></head><body>
<h1>Methods and measures</h1>
<p>Choose a network; a click on a measure sorts by it, the best first, and a second click turns the order round. Mean
over images (grids of images in the two games; networks in the first table), below it half of the 95 % interval;
shaded by place, dark is better. In italics: maps that know nothing of the network. A dash: refused or missing.</p>
<p><label>Network: <select id="network"></select></label></p>
<div><table><thead><tr id="head"></tr></thead><tbody id="body"></tbody></table></div>
<script>
const data = DATA;
let by = 0, turned = false;
const network = document.getElementById("network"), head = document.getElementById("head");
const body = document.getElementById("body");
for (const name of Object.keys(data.networks)) network.add(new Option(name));
const better = (cell, k) => cell === null ? -Infinity : cell[0] * (network.selectedIndex ? data.signs[k] : 1);
function places(rows, k) {
  const order = rows.filter(r => r[1][k] !== null).sort((a, b) => better(a[1][k], k) - better(b[1][k], k));
  return new Map(order.map((r, i) => [r[0], order.length > 1 ? i / (order.length - 1) : 1]));
}
function draw() {
  const rows = Object.entries(data.networks[network.value]);
  head.replaceChildren(...["method", ...data.measures].map((name, i) => {
    const th = document.createElement("th"), button = document.createElement("button");
    button.textContent = i && network.selectedIndex ? name + (data.signs[i - 1] > 0 ? " (high)" : " (low)") : name;
    button.onclick = () => { turned = by === i ? !turned : false; by = i; draw(); };
    if (by === i) th.setAttribute("aria-sort", turned === (i > 0) ? "ascending" : "descending");
    th.append(button); return th;
  }));
  const placed = data.measures.map((_, k) => places(rows, k));
  rows.sort((a, b) => {
    if (!by) return a[0] < b[0] ? -1 : 1;
    const x = better(a[1][by - 1], by - 1), y = better(b[1][by - 1], by - 1);
    return x === y ? 0 : y - x;
  });
  if (turned) rows.reverse();
  body.replaceChildren(...rows.map(([method, cells]) => {
    const tr = document.createElement("tr"), first = document.createElement("td");
    first.textContent = method; tr.append(first);
    if (data.controls.includes(method)) tr.className = "control";
    cells.forEach((cell, k) => {
      const td = document.createElement("td");
      if (cell === null) td.textContent = "–";
      else {
        td.textContent = cell[0];
        if (cell[1] !== null) {
          const small = document.createElement("small");
          small.textContent = " ± " + cell[1]; td.append(document.createElement("br"), small);
        }
        td.style.background = `rgba(0, 114, 178, ${0.45 * placed[k].get(method) ** 2})`;
      }
      tr.append(td);
    });
    return tr;
  }));
}
network.onchange = draw;
draw();
</script></body></html>
"""


def sheet(lines: list[Line]) -> str:
    """Return the page."""
    found = networks_of(lines, controls=True)
    data = {
        "measures": [name.replace("_", " ") for name in _ORDER],
        "signs": [(-1, 1)[_DIRECTION[name].startswith("higher")] for name in _ORDER],
        "controls": list(CONTROLS),
        "networks": {
            _ALL: _ranked(found),
            **{KINDS[name].title: _own(one) for name, one in found.items()},
        },
    }
    # In a script element only "</" and "<!--" would end it.
    return _PAGE.replace("DATA", json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def _own(network: Network) -> dict[str, list[list[float | None] | None]]:
    rows: dict[str, list[list[float | None] | None]] = {method: [] for method in network.methods}
    for name in _ORDER:
        for i, method in enumerate(network.methods):
            values = network.values[name][i] if name in network.values else np.array([])
            values = values[np.isfinite(values)]
            rows[method].append(_cell(values))
    return rows


def _cell(values: np.ndarray) -> list[float | None] | None:
    if not len(values):
        return None
    ends = paired(values.tolist())
    half = ends.high - ends.mean
    return [float(f"{ends.mean:.3g}"), float(f"{half:.2g}") if np.isfinite(half) else None]


def _ranked(found: dict[str, Network]) -> dict[str, list[list[float | None] | None]]:
    """Return each method's mean rank over the networks, with half of Student's interval over these."""
    methods = dict.fromkeys(method for one in found.values() for method in one.methods)
    rows: dict[str, list[list[float | None] | None]] = {}
    for method in methods:
        own = [one.orders[0, one.methods.index(method)] for one in found.values() if method in one.methods]
        table = 100 * np.stack(own)
        rows[method] = [_cell(table[np.isfinite(table[:, j]), j]) for j in (NAMES.index(name) for name in _ORDER)]
    return rows
