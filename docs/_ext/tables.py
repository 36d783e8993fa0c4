"""Tables made from the code, so that they cannot fall behind it: `{hyperparameters} ppo`, `{operators}`, ..."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

#: Families of operators by the file that holds them, in the order of the page.
FAMILIES = {
    "binary": "Arithmetic and comparison, two operands",
    "unary": "Elementwise, one operand",
    "complex_numbers": "Complex numbers",
    "special": "Special functions",
    "activation": "Activations",
    "reduce": "Reductions",
    "scan": "Scans",
    "variance": "Variance",
    "statistics": "Statistics",
    "calculus": "Derivatives and integrals of samples",
    "sort": "Sorting and searching",
    "rank": "Elements by rank or frequency",
    "histogram": "Counting",
    "matmul": "Matrix products",
    "linalg": "Linear algebra",
    "fft": "Fourier transforms",
    "spectrogram": "Spectrograms",
    "shape": "Shapes and views",
    "join": "Joining and splitting",
    "index": "Indexing",
    "scatter": "Gathering and scattering",
    "create": "Creation",
    "convert": "Conversion",
    "random": "Random numbers",
    "conv": "Convolution",
    "windows": "Windows",
    "padding": "Padding",
    "pooling": "Pooling",
    "adaptive": "Pooling to a size",
    "resample": "Interpolation",
    "sampling": "Sampling at any places",
    "shuffle": "Channels and pixels rearranged",
    "normalization": "Normalisation",
    "dropout": "Dropout and other noise",
    "embedding": "Embedding",
    "distance": "Distances",
    "loss": "Losses",
    "margin_loss": "Losses with a margin",
    "ctc": "Connectionist temporal classification",
}


def field_docs(config: type[Any]) -> dict[str, str]:
    """The string below each field of a dataclass and of those it inherits from, which is also what `--help` shows."""
    docs = {}
    for part in (part for part in reversed(config.__mro__) if dataclasses.is_dataclass(part)):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                docs[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return docs


def family_of(operator: Any) -> str:
    """The file under `tensor/ops` that declares an operator; elementwise ones made of a NumPy function say so in their rules."""
    for thing in (operator.function, operator.forward, *(rule for rule, _ in operator.rules)):
        module = getattr(thing, "__module__", "") or ""
        name = module.removeprefix("tensor.ops.").partition(".")[0]  # a file, or a folder of files
        if module.startswith("tensor.ops.") and name in FAMILIES:
            return name
    return "unary"


def summary(text: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split()).replace("``", "`")


def marked(text: str) -> list[nodes.Node]:
    """Text with `code` as nodes."""
    parts = text.split("`")
    return [nodes.literal(text=part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts) if part]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> nodes.table:
    """A table of text cells; `backquoted` parts are code."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=width) for width in widths]

    def line(cells: Sequence[str]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *marked(cell))) for cell in cells))

    group += [nodes.thead("", line(head)), nodes.tbody("", *(line(row) for row in rows))]
    return nodes.table("", group)


class Hyperparameters(SphinxDirective):
    """The fields of an agent's configuration, or of a run's: name, type, default, meaning."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from rlcore import RunConfig
        from rlcore.config import config_class

        name = self.arguments[0]
        config = RunConfig if name == "run" else config_class(name)
        docs = field_docs(config)
        rows = [
            (f"`--{f.name.replace('_', '-')}`", f"`{f.type}`", f"`{f.default!r}`", docs.get(f.name, ""))
            for f in dataclasses.fields(config)
        ]
        self.env.note_dependency(inspect.getsourcefile(config) or "")
        return [table(("flag", "type", "default", "meaning"), rows, (24, 20, 14, 42))]


class Presets(SphinxDirective):
    """The values that a preset changes, per environment."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        import tomllib
        from importlib import resources

        text = (resources.files("rlcore") / "presets" / f"{self.arguments[0]}.toml").read_text(encoding="utf-8")
        rows = []
        for env, tables in tomllib.loads(text).items():
            values = {name: value for part in tables.values() for name, value in part.items()}
            rows.append((f"`{env}`", ", ".join(f"`{name} = {json.dumps(value)}`" for name, value in values.items())))
        return [table(("environment", "values"), rows, (20, 80))]


class Operators(SphinxDirective):
    """Every operator with its family, gradient and meaning."""

    def run(self) -> list[nodes.Node]:
        from tensor.ops import OPERATORS

        by_family: dict[str, dict[int, tuple[Any, list[str]]]] = {family: {} for family in FAMILIES}
        public = {public_name(name): operator for name, operator in OPERATORS.items()}
        public.pop(None, None)
        for name, operator in public.items():
            by_family[family_of(operator)].setdefault(id(operator), (operator, []))[1].append(name)
        result: list[nodes.Node] = [nodes.paragraph("", f"{len(public)} names, {sum(map(len, by_family.values()))} operators.")]
        for family, operators in by_family.items():
            if not operators:
                continue
            rows = [
                (", ".join(f"`{name}`" for name in sorted(names)), gradient(operator), summary(operator.function.__doc__))
                for operator, names in sorted(operators.values(), key=lambda entry: entry[1])
            ]
            section = nodes.section(ids=[f"operators-{family}"])
            section += [nodes.title(text=FAMILIES[family]), table(("name", "gradient", "meaning"), rows, (30, 14, 56))]
            result.append(section)
        return result


class Namespace(SphinxDirective):
    """The public names of a module, with the first sentence of each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        things = [(name, getattr(module, name)) for name in module.__all__]
        rows = [(f"`{name}`", summary(thing.__doc__)) for name, thing in things if not inspect.ismodule(thing)]
        return [table(("name", "meaning"), rows, (25, 75))]


def public_name(name: str) -> str | None:
    """The name to call an operator by: on the package, as a method, or in `tensor.special`; None for one that is ours alone."""
    import tensor

    thing: Any = tensor
    for part in name.split("."):
        thing = getattr(thing, part, None)
    if name.startswith("_"):
        return None
    if thing is not None or hasattr(tensor.Tensor, name):
        return name
    return f"special.{name}" if hasattr(tensor.special, name) else None


def gradient(operator: Any) -> str:
    """Whether an operator has one: by rules of its own, by the operators it is made of, or not at all."""
    if operator.composite:
        return "composed"
    return "yes" if operator.joint or any(rule is not None for rule, _ in operator.rules) else "-"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("hyperparameters", Hyperparameters)
    app.add_directive("presets", Presets)
    app.add_directive("operators", Operators)
    app.add_directive("namespace", Namespace)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
