"""The style sheets of pages and of single drawings: light or dark, as the browser asks for."""

from __future__ import annotations

from typing import Final

_LIGHT: Final = """color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --faint: #5c646d;
  --line: #d5d9de; --card: #f4f6f8; --blue: #2f6fab; --tint: #e6eff8; --bad: #b3261e;"""
_DARK: Final = """--paper: #15181c; --ink: #e4e7eb; --faint: #9aa3ad; --line: #353b43;
  --card: #1e2329; --blue: #7fb2e5; --tint: #1f3247; --bad: #ff8a80;"""

_MAP: Final = """
.map .node path, .map .node ellipse, .map .node polygon { fill: var(--card); stroke: var(--faint); }
.map .node:hover path { fill: var(--tint); }
.map .start ellipse, .map .end ellipse { fill: var(--ink); stroke: var(--ink); }
.map .end ellipse + ellipse { fill: none; }
.map text { fill: var(--ink); font-family: system-ui, "Segoe UI", sans-serif; }
.map .edge text { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.map .edge path { stroke: var(--blue); }
.map .edge polygon { fill: var(--blue); stroke: var(--blue); }
.map .edge:hover path { stroke: var(--ink); }
"""

_PAGE: Final = """* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1.25rem; background: var(--paper);
  color: var(--ink); font: 0.9375rem/1.5 system-ui, "Segoe UI", sans-serif; }
h1 { font-size: 1.375rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.125rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 0.9375rem; margin: 1rem 0 0.25rem; overflow-wrap: anywhere; }
p { margin: 0 0 0.75rem; max-width: 45rem; }
.faint { color: var(--faint); }
.numbers { display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 0; }
.numbers div { background: var(--card); border-radius: 6px; padding: 0.4rem 0.8rem; }
.numbers dt { color: var(--faint); font-size: 0.8125rem; }
.numbers dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem; }
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--blue); }
.chart svg { display: block; width: 100%; min-width: 34rem; height: auto; }
.map svg { display: block; margin: 0 auto; }
.all { margin: 0.5rem 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; font-size: 0.8125rem; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; overflow-wrap: anywhere;
  min-width: 8rem; }
td:nth-child(n+3) { white-space: nowrap; }
td.time { background: linear-gradient(var(--tint) 0 0) 0 50% / calc(var(--share) * 100%) 70%
  no-repeat; }
.bad { color: var(--bad); font-weight: 600; }
ul { list-style: none; margin: 0; padding: 0 0 0 1.1rem; border-left: 1px solid var(--line); }
.causes > ul { border: 0; padding: 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
.failure { padding: 0.1rem 0; overflow-wrap: anywhere; }
"""

STYLE: Final = f"""
:root {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}{_MAP}{_PAGE}"""
"""The style sheet of a report."""

SHEET_STYLE: Final = f"""
.map {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ .map {{ {_DARK} }} }}{_MAP}.paper {{ fill: var(--paper); }}
.map .heading {{ font-weight: 600; font-size: 13px; }}
"""
"""The style sheet of a drawing that stands alone; it changes nothing around it."""
