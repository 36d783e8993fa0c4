"""What the documentation says is true: its code runs, its commands exist, its links lead somewhere.

- Doctests in the docstrings of the four packages, one test a module; and those of operators, which their dispatcher hides from
  the usual search.
- ``python`` and ``pycon`` blocks of the READMEs and of ``docs/``: each page is one session, in an empty directory.
- ``run-agent`` commands in ``bash`` blocks: every flag is one that the command's help knows.
"""

from __future__ import annotations

import builtins
import contextlib
import doctest
import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import pytest

import rlcore
import tensor
from rlcore.cli import main
from tensor.ops import OPERATORS

ROOT = Path(__file__).parents[1]
PACKAGES = ("tensor", "rlcore", "envs", "agents")
ROOMS = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("README.md"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *ROOMS]
TEXTS = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md", ROOT / "examples" / "README.md"]

FENCE = re.compile(r"^```(python|pycon|bash|toml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[tuple[str, str, int]]:
    """The fenced blocks of a page: language, text, number of the line above."""
    text = page.read_text(encoding="utf-8")
    return [(m[1], m[2], text[: m.start(2)].count("\n")) for m in FENCE.finditer(text) if m[1] in languages]


def modules_with_examples() -> list[str]:
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    found = [file.relative_to(ROOT).with_suffix("") for file in files if ">>>" in file.read_text(encoding="utf-8")]
    return [".".join(path.parts).removesuffix(".__init__") for path in found]


def run_examples(tests: list[doctest.DocTest]) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        runner.run(test, out=report.append, clear_globs=False)
    vars(builtins).pop("_", None)  # the value shown last; what looks through all builtins stumbles over it
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_a_module(name: str):
    run_examples(doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name))


def test_examples_of_operators():
    """In each, the operator goes by its own names."""
    named: dict[int, dict[str, Any]] = {}
    for name, operator in OPERATORS.items():
        named.setdefault(id(operator), {})[name.rpartition(".")[2]] = operator.function
    parser = doctest.DocTestParser()
    tests = []
    for names in named.values():
        name, function = next(iter(names.items()))
        if ">>>" in (function.__doc__ or ""):
            tests.append(parser.get_doctest(function.__doc__, {"T": tensor, **names}, name, name, 0))
    assert len(tests) > 100
    run_examples(tests)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python", "pycon")], ids=name_of)
def test_code_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "__main__"}
    with contextlib.ExitStack() as stack:  # what a page registers is gone after it
        for registry in (OPERATORS, gymnasium.registry, rlcore.ENVS._entries, rlcore.AGENTS._entries):
            stack.enter_context(mock.patch.dict(registry))
        for language, text, line in blocks(page, "python", "pycon"):
            if language == "pycon":
                test = doctest.DocTestParser().get_doctest(text, session, page.name, str(page), line)
                test.globs = session  # it took a copy; later blocks go on from here
                run_examples([test])
            else:
                exec(compile("\n" * line + text, str(page), "exec"), session)


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `run-agent` in a page's shell blocks."""
    lines = (line for _, text, _ in blocks(page, "bash") for line in text.splitlines())
    parts = (part.strip() for line in lines for part in line.partition(" #")[0].split("&&"))
    return [shlex.split(part)[1:] for part in parts if re.match(r"(\S*/)?run-agent ", part)]


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=name_of)
def test_commands_of_a_page(page: Path, capsys: pytest.CaptureFixture[str]):
    for command, *arguments in commands(page):
        agent = arguments[arguments.index("--agent") + 1] if "--agent" in arguments else "ppo"
        if agent not in rlcore.AGENTS:
            continue  # the reader's own
        chosen = ["--agent", agent] if command == "train" else []
        assert main([command, *chosen, "--help"]) == 0
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        unknown = {argument for argument in arguments if argument.startswith("--")} - known - {"--help"}
        assert not unknown, f"run-agent {command} {shlex.join(arguments)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_toml_of_a_page(page: Path):
    for _, text, _ in blocks(page, "toml"):
        tomllib.loads(text)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links_of_a_page(page: Path):
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if ":" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readme_starts_with_something_to_run():
    before, _, _ = (ROOT / "README.md").read_text(encoding="utf-8").partition("```bash\n")
    assert len(before.split()) < 100
    first, second = (text.strip() for _, text, _ in blocks(ROOT / "README.md", "bash")[:2])
    assert "\n" not in first
    assert "run-agent train --env CartPole-v1" in first
    assert second.endswith("--group test && .venv/bin/python -m pytest")
