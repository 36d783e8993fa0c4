"""What an error says of a name that is not there."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["instead", "quoted"]


def instead(name: str, known: Iterable[str]) -> str:
    """The names nearest to one that is not ``known``, or else the first of those there are.

    >>> instead("body.00", ["body", "body.0"])
    "did you mean 'body.0' or 'body'?"
    >>> instead("1", ["0"]), instead("a", ["x", "y"]), instead("a", [])
    ("the only one is '0'", "there are 'x', 'y'", 'there are none')
    """
    import difflib  # an error may be slow; `import tensor` may not

    names = list(filter(None, known))
    near = difflib.get_close_matches(name, names, 3, 0.6)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    if len(names) == 1:
        return f"the only one is {names[0]!r}"
    return f"there are {quoted(names[:8])}{', ...' * (len(names) > 8)}"


def quoted(names: Iterable[str]) -> str:
    """Names in a row, as texts: ``'0', 'conv'``; none where there are none."""
    return ", ".join(map(repr, names)) or "none"
