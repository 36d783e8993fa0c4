"""Draw a compiled step as it really is: the NumPy calls recorded, the program they become, and the kernels that run it.

    python scripts/draw_plan.py docs/_static/plan.svg

The step is that of a 4-64-64-2 network with Adam at batch 32, as in `docs/design/compiler.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import tensor as T
from tensor.jit import Compiled
from tensor.jit.codegen import fusion
from tensor.jit.lower import Lowering
from tensor.jit.program import Elementwise, Literal, MatMul, Reduce, View, reads, writes

COLORS = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac", "#eeca3b", "#ff9da6"]
LINE, TOP, WIDTHS = 15, 64, (40, 330, 700)


def recorded_step() -> Any:
    """The script of a recorded learning step."""
    T.manual_seed(0)
    net = T.nn.Sequential(T.nn.Linear(4, 64), T.nn.Tanh(), T.nn.Linear(64, 64), T.nn.Tanh(), T.nn.Linear(64, 2))
    optimizer = T.optim.Adam(net.parameters(), lr=1e-3)

    def step(x: T.Tensor, y: T.Tensor) -> T.Tensor:
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    compiled = Compiled(step, native=False)
    for _ in range(2):
        compiled(T.randn(32, 4), T.randn(32, 2))
    return compiled.plans[0].script


def call_text(made: Any) -> str:
    """A recorded call, in short."""
    if made.kind != "call":
        return {"load": "load a tensor from outside", "step": "optimizer.step()", "grads": "set .grad"}.get(made.kind, made.kind)
    name = getattr(made.function, "__name__", None) or str(made.function)
    return f"{name}({', '.join(f'v{a.slot}' if hasattr(a, 'slot') else str(a)[:12] for a in made.args)})"


def instruction_text(instruction: Any, names: Sequence[str]) -> str:
    """An instruction of a program, in short."""

    def operand(x: Any) -> str:
        if isinstance(x, View):
            return f"{names[x.buffer]}{list(x.shape)}".replace(" ", "")
        return f"{x.value:g}" if isinstance(x, Literal) else "number"

    match instruction:
        case Elementwise(op, out, inputs):
            return f"{operand(out)} = {op}({', '.join(map(operand, inputs))})"
        case Reduce(op, out, source, axes):
            return f"{operand(out)} = {op} of {operand(source)} over {axes}"
        case MatMul(out, a, b):
            return f"{operand(out)} = {operand(a)} @ {operand(b)}"
    return type(instruction).__name__


def text(x: float, y: float, content: str, color: str = "#333", size: int = 10, weight: str = "normal") -> str:
    """A line of text."""
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{color}">{escape(content)}</text>'


def draw(script: Any) -> str:
    """The picture, as SVG."""
    lowering = Lowering(script.recording, script.instructions, script.wanted)
    (segment,) = lowering.segments
    program = segment.program
    kernels = fusion.schedule(program, lambda instruction: True)
    registers = fusion.in_registers(program, kernels)
    names = [("r" if b.index in registers else b.kind[0]) + str(b.index) for b in program.buffers]
    order = {id(i): n for n, kernel in enumerate(kernels) for i in kernel.instructions}
    height = TOP + LINE * (max(len(script.instructions), len(program.instructions)) + 2)
    parts = [
        text(WIDTHS[0], 24, f"{len(script.instructions)} recorded calls", size=14, weight="bold"),
        text(WIDTHS[1], 24, f"{len(program.instructions)} instructions of one program", size=14, weight="bold"),
        text(WIDTHS[2] + 60, 24, f"{len(kernels)} kernels, one entry", size=14, weight="bold"),
        text(WIDTHS[0], 42, "what the eager step did, in order", "#777"),
        text(WIDTHS[1], 42, "e: memory of the caller   t: temporary   r: register only", "#777"),
        text(WIDTHS[2] + 60, 42, "each a function of machine code, found again by its text", "#777"),
    ]
    parts += [text(WIDTHS[0], TOP + LINE * n, call_text(made)[:44]) for n, made in enumerate(script.instructions)]
    boxes: dict[int, list[float]] = {}
    for n, instruction in enumerate(program.instructions):
        kernel = order[id(instruction)]
        color = COLORS[kernel % len(COLORS)]
        y = TOP + LINE * n
        boxes.setdefault(kernel, []).append(y)
        parts.append(f'<rect x="{WIDTHS[1] - 8}" y="{y - 10}" width="3" height="{LINE - 2}" fill="{color}"/>')
        parts.append(text(WIDTHS[1], y, instruction_text(instruction, names)[:66]))
    step = (height - TOP - LINE) / max(len(kernels), 1)
    for number, kernel in enumerate(kernels):
        color, y = COLORS[number % len(COLORS)], TOP + step * number
        touched = {v.buffer for i in kernel.instructions for v in (*reads(i), *writes(i))} - registers
        kind = "product" if isinstance(kernel.instructions[0], MatMul) else f"{len(kernel.instructions)} operations in one pass"
        parts += [
            f'<path d="M {WIDTHS[2]} {ys - 4} C {WIDTHS[2] + 30} {ys - 4}, {WIDTHS[2] + 20} {y}, {WIDTHS[2] + 52} {y}"'
            f' stroke="{color}" fill="none" stroke-width="1.2" opacity="0.7"/>'
            for ys in boxes[number]
        ]
        parts.append(f'<circle cx="{WIDTHS[2] + 54}" cy="{y}" r="4" fill="{color}"/>')
        parts.append(text(WIDTHS[2] + 64, y + 4, f"{kind}, {len(touched)} buffers in memory"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1120 {height}" font-family="monospace">'
        f'<rect width="1120" height="{height}" fill="white"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(recorded_step()), encoding="utf-8")
