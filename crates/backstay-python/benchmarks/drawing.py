"""The figures as bars, on a logarithmic scale; light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from contestants import OURS

ROW, GAP, LEFT, WIDTH, HEAD = 17, 14, 230, 900, 58

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .faint { fill: #59636e } .title { font-size: 17px; font-weight: 600 }
.group { font-weight: 600 } .bar { fill: #b8c0c8 } .ours { fill: #0969da } .grid { stroke: #d8dee4 } .ground { fill: #fff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9198a1 } .bar { fill: #4a535e } .ours { fill: #4493f8 } .grid { stroke: #2a313c }
.ground { fill: #0d1117 } }
"""


def svg(results: dict[str, dict[str, float]], shown: Callable[[float], str]) -> str:
    """A group of bars for each operation: `results[operation][contestant]` in nanoseconds."""
    figures = [figure for group in results.values() for figure in group.values()]
    low, high = math.floor(math.log10(min(figures))), math.log10(max(figures))
    scale = (WIDTH - LEFT - 90) / (high - low)
    rows: list[str] = []
    y = HEAD + GAP
    for operation, group in results.items():
        rows.append(f'<text class="group" x="12" y="{y + 12}">{escape(operation)}</text>')
        for name, figure in group.items():
            kind = "bar ours" if name == OURS else "bar"
            length = (math.log10(figure) - low) * scale
            rows.append(f'<text class="faint" x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
            rows.append(f'<rect class="{kind}" x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" rx="2"/>')
            rows.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 12}">{shown(figure)}</text>')
            y += ROW
        y += GAP
    grid = []
    for power in range(low, math.ceil(high) + 1):
        x = LEFT + (power - low) * scale
        if x <= WIDTH - 40:
            grid.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD}" y2="{y}"/>')
            grid.append(f'<text class="faint" x="{x:.1f}" y="{HEAD - 6}" text-anchor="middle">{shown(10.0**power)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img">',
            "<title>What one operation costs in Python, beside the peers</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{y}"/>',
            '<text class="title" x="12" y="24">One operation in Python, one thread: shorter is better (logarithmic)</text>',
            *grid,
            *rows,
            "</svg>\n",
        ]
    )
