"""Text as numbers of tokens, in windows of one length: what a language model is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.data.dataset import Dataset
from tensor.data.readers.files import Transform, read

__all__ = ["TextWindows", "Vocabulary"]


class Vocabulary:
    """Tokens and their numbers: the special ones first, then the most frequent, those of one frequency in alphabetical order.

    A token that it does not know has the number of ``unknown``; KeyError where ``unknown`` is None.

    >>> words = Vocabulary.of("the cat and the dog".split())
    >>> words.encode(["the", "bird"])
    [1, 0]
    >>> words.decode([1, 3])
    ['the', 'cat']
    """

    def __init__(self, tokens: Sequence[str], unknown: str | None = "<unk>") -> None:
        self.tokens = list(tokens)
        self.numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self.numbers) < len(self.tokens) or (unknown is not None and unknown not in self.numbers):
            msg = f"Vocabulary: expected different tokens, {unknown!r} among them, got {self.tokens!r}"
            raise ValueError(msg[:200])
        self.unknown = unknown

    @classmethod
    def of(
        cls, tokens: Iterable[str], *, min_count: int = 1, size: int | None = None, unknown: str | None = "<unk>",
        special: Sequence[str] = (),
    ) -> Vocabulary:  # fmt: skip
        """The vocabulary of a text: tokens that occur ``min_count`` times, and of those the ``size`` most frequent."""
        first = [*([] if unknown is None else [unknown]), *special]
        counts = Counter(tokens)
        for token in first:
            counts.pop(token, None)
        ordered = sorted(counts, key=lambda token: (-counts[token], token))
        kept = [token for token in ordered if counts[token] >= min_count]
        return cls([*first, *kept][: size if size is None else max(size, len(first))], unknown)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.numbers

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The numbers of tokens."""
        if self.unknown is None:
            return [self.numbers[token] for token in tokens]
        other, numbers = self.numbers[self.unknown], self.numbers
        return [numbers.get(token, other) for token in tokens]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The tokens of numbers."""
        return [self.tokens[number] for number in numbers]


class TextWindows(Dataset[tuple[Any, Any]]):
    """Windows of ``length`` tokens of a text file (UTF-8, or gzipped), each with the same window one token on as its target.

    ``tokenize`` makes tokens of a line: ``str.split`` for words, ``list`` for characters. ``stride`` is the distance between
    windows (``length``: they do not overlap; 1: one begins at every token). ``tokens`` are all of the text's numbers.
    ValueError for a text shorter than one window and its target.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "text.txt"
    >>> _ = path.write_text("to be or not to be")
    >>> windows = TextWindows(path, length=2)
    >>> [windows.vocabulary.decode(part) for part in windows[1]]
    [['or', 'not'], ['not', 'to']]
    """

    def __init__(
        self,
        path: str | Path,
        length: int,
        *,
        vocabulary: Vocabulary | None = None,
        tokenize: Callable[[str], Iterable[str]] = str.split,
        stride: int | None = None,
        transform: Transform = None,
        target_transform: Transform = None,
    ) -> None:
        self.path = Path(path).expanduser().resolve()
        self.length, self.stride = length, length if stride is None else stride
        if self.length < 1 or self.stride < 1:
            msg = f"TextWindows: expected length and stride >= 1, got {self.length} and {self.stride}"
            raise ValueError(msg)
        self.transform, self.target_transform = transform, target_transform
        tokens = [token for line in self._text().splitlines(keepends=True) for token in tokenize(line)]
        self.vocabulary = Vocabulary.of(tokens) if vocabulary is None else vocabulary
        self.tokens = Tensor(np.array(self.vocabulary.encode(tokens), np.int64))
        if len(tokens) <= length:
            msg = f"{self.path}: expected more than {length} tokens, for one window and its target, got {len(tokens)}"
            raise ValueError(msg)

    def _text(self) -> str:
        if not self.path.is_file():
            msg = f"TextWindows: no such file: {self.path}"
            raise FileNotFoundError(msg)
        try:
            return read(self.path).decode("utf-8")
        except UnicodeDecodeError as e:
            msg = f"{self.path}: expected UTF-8 text: {e}"
            raise ValueError(msg) from e

    def __len__(self) -> int:
        return (len(self.tokens) - 1 - self.length) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not -len(self) <= index < len(self):
            msg = f"TextWindows: index {index} is out of range for {len(self)} windows"
            raise IndexError(msg)
        start = (index % len(self)) * self.stride
        window, target = (self.tokens._array[s : s + self.length] for s in (start, start + 1))
        return (
            window if self.transform is None else self.transform(window),
            target if self.target_transform is None else self.target_transform(target),
        )
