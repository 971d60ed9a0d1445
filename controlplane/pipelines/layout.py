"""The drawing of a pipeline, for an inline SVG: layers from left to right, each node right of those it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

WIDTH, HEIGHT = 190, 54
GAP_X, GAP_Y = 70, 22
MARGIN = 8
#: Number of passes that move each node towards those that it is connected with.
SWEEPS = 4


@dataclass(slots=True)
class Box:
    """The box of a node; ``x`` and ``y`` are its upper left corner."""

    name: str
    x: int
    y: int
    width: int = WIDTH
    height: int = HEIGHT
    #: Text below the name, and tooltip.
    text: str = ""
    title: str = ""
    #: Colour of its state, one of the badges'.
    colour: str = "default"
    url: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line from a node to one that waits for it."""

    earlier: str
    later: str
    path: str
    title: str


@dataclass(slots=True)
class Drawing:
    boxes: dict[str, Box] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    #: Remarks on the pipeline for people, in sentences.
    notes: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        return max((box.x + WIDTH for box in self.boxes.values()), default=0) + MARGIN

    @property
    def height(self) -> int:
        return max((box.y + HEIGHT for box in self.boxes.values()), default=0) + MARGIN


#: A place in a layer: a node's name, or, where a line passes through, its two ends and the layer.
_Place = str | tuple[str, str, int]


def draw(waits_for: Mapping[str, Mapping[str, str]]) -> Drawing:
    """Return the drawing of nodes, given in their order with what each waits for and why. Unknown nodes are left
    out."""
    edges = [
        (earlier, later, why) for later, found in waits_for.items() for earlier, why in found.items()
        if earlier in waits_for
    ]  # fmt: skip
    depth: dict[str, int] = {}
    for name, found in waits_for.items():
        depth[name] = max((depth[earlier] + 1 for earlier in found if earlier in depth), default=0)
    edges = [edge for edge in edges if depth[edge[0]] < depth[edge[1]]]
    layers: list[list[_Place]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, column in depth.items():
        layers[column].append(name)
    routes: list[list[_Place]] = []
    for earlier, later, _ in edges:
        # a line longer than one layer has a place in each layer that it passes, so that it crosses no node
        passed: list[_Place] = [(earlier, later, column) for column in range(depth[earlier] + 1, depth[later])]
        for column, place in enumerate(passed, depth[earlier] + 1):
            layers[column].append(place)
        routes.append([earlier, *passed, later])
    _untangle(layers, routes)
    tallest = max((len(layer) for layer in layers), default=0)
    at: dict[_Place, tuple[int, int]] = {}
    for column, places in enumerate(layers):
        top = MARGIN + (tallest - len(places)) * (HEIGHT + GAP_Y) // 2
        for row, place in enumerate(places):
            at[place] = MARGIN + column * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y)
    drawing = Drawing({name: Box(name, *at[name]) for name in waits_for})
    for (earlier, later, why), route in zip(edges, routes, strict=True):
        drawing.lines.append(Line(earlier, later, _curve([at[place] for place in route]), f"{later} {why}"))
    return drawing


def _untangle(layers: Sequence[list[_Place]], routes: Sequence[Sequence[_Place]]) -> None:
    """Order each layer by the average position of its neighbours, from the left and from the right."""
    before: dict[_Place, list[_Place]] = {}
    after: dict[_Place, list[_Place]] = {}
    for route in routes:
        for left, right in pairwise(route):
            before.setdefault(right, []).append(left)
            after.setdefault(left, []).append(right)
    for sweep in range(SWEEPS):
        neighbours = after if sweep % 2 else before
        for layer in reversed(layers) if sweep % 2 else layers:
            row = {place: index for other in layers for index, place in enumerate(other)}

            def middle(place: _Place, row: Mapping[_Place, int] = row) -> float:
                found = [row[other] for other in neighbours.get(place, ())]  # noqa: B023
                return sum(found) / len(found) if found else row[place]

            layer.sort(key=middle)


def _curve(points: Sequence[tuple[int, int]]) -> str:
    """Return an SVG path from the right side of the first to the left side of the last, straight through those
    between."""
    half = HEIGHT // 2
    x, y = points[0][0] + WIDTH, points[0][1] + half
    path = [f"M{x} {y}"]
    for index, (left, top) in enumerate(points[1:], 1):
        middle, to = x + (left - x) // 2, top + half
        path.append(f"C{middle} {y} {middle} {to} {left} {to}")
        if index < len(points) - 1:
            path.append(f"H{left + WIDTH}")
        x, y = left + WIDTH, to
    return "".join(path)
