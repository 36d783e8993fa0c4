#!/usr/bin/env python3
"""Print how large the project is, and fail when a file has outgrown a reader: `python scripts/check_sizes.py`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tensor", "rlcore", "envs", "agents", "tests", "scripts", "examples", "benchmarks", "docs")
LIMIT = 500

#: Files that may be longer, each with the reason. An entry that is no longer needed fails too.
ALLOWED: dict[str, str] = {}


def count(folder: str) -> dict[str, int]:
    """Lines of each Python file in a folder, by its path from the root."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {f.relative_to(ROOT).as_posix(): len(f.read_text(encoding="utf-8").splitlines()) for f in files}


def main() -> int:
    lines: dict[str, int] = {}
    print(f"{'folder':<12}{'files':>6}{'lines':>8}{'longest':>9}")
    for folder in FOLDERS:
        found = count(folder)
        lines |= found
        if found:
            longest = max(found, key=lambda name: found[name])
            print(f"{folder:<12}{len(found):>6}{sum(found.values()):>8,}{found[longest]:>9}  {longest}")
    print(f"{'total':<12}{len(lines):>6}{sum(lines.values()):>8,}")

    long = {name for name, size in lines.items() if size > LIMIT}
    problems = [f"{name}: {lines[name]} lines, expected at most {LIMIT}: split it" for name in sorted(long - set(ALLOWED))]
    problems += [f"{name}: no longer above {LIMIT} lines: take it off the list" for name in sorted(set(ALLOWED) - long)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
