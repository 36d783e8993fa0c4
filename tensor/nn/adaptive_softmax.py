"""A softmax over very many classes, most of which are rare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tensor.autograd.tensor import Tensor
from tensor.nn.container import ModuleList, Sequential
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.ops.join import cat

__all__ = ["ASMoutput", "AdaptiveLogSoftmaxWithLoss"]


class ASMoutput(NamedTuple):
    """The log probability [n] of each target, and the loss: minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """A log softmax whose classes, sorted by falling frequency, are in clusters (arXiv 1609.04309).

    The classes below ``cutoffs[0]`` and one entry for each cluster are in the ``head``; cluster i reads the input through
    ``in_features / div_value ** (i + 1)`` features. Called with inputs [n, in_features] and targets [n], or one of both. Raises
    ValueError unless the cutoffs rise from above 0 to below ``n_classes``; calling it raises RuntimeError for other targets.

    >>> import tensor as T
    >>> layer = AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs=[4, 10])
    >>> layer(T.ones(3, 8), T.tensor([0, 7, 19])).output.shape
    tensor.Size([3])
    >>> bool(layer.log_prob(T.ones(1, 8)).exp().sum().isclose(T.tensor(1.0)))
    True
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        given = list(cutoffs)
        if not given or given != sorted(set(given)) or given[0] <= 0 or given[-1] >= n_classes:
            msg = f"AdaptiveLogSoftmaxWithLoss: expected cutoffs that rise from above 0 to below {n_classes}, got {given}"
            raise ValueError(msg)
        self.in_features, self.n_classes, self.div_value, self.head_bias = in_features, n_classes, div_value, head_bias
        self.cutoffs = [*given, n_classes]
        self.shortlist_size, self.n_clusters = given[0], len(given)
        self.head_size = self.shortlist_size + self.n_clusters
        factory = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **factory)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            features = int(in_features // div_value ** (i + 1))
            count = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(
                Sequential(Linear(in_features, features, bias=False, **factory), Linear(features, count, bias=False, **factory))
            )

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> ASMoutput:
        single = target_.ndim == 0
        x, target = (input_.unsqueeze(0), target_.unsqueeze(0)) if single else (input_, target_)
        if x.ndim != 2 or target.ndim != 1 or x.shape[0] != target.shape[0] or x.shape[1] != self.in_features:
            expected = f"inputs [n, {self.in_features}] and targets [n]"
            msg = f"AdaptiveLogSoftmaxWithLoss: expected {expected}, got {list(input_.shape)} and {list(target_.shape)}"
            raise RuntimeError(msg)
        if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < self.n_classes:
            low, high = int(target.min()), int(target.max())
            msg = f"AdaptiveLogSoftmaxWithLoss: expected targets below {self.n_classes}, got {low} to {high}"
            raise RuntimeError(msg)
        head = self.head(x).log_softmax(1)
        output = x.new_zeros((x.shape[0],))
        for i, (low, high) in enumerate(zip([0, *self.cutoffs], self.cutoffs, strict=False)):
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            if not rows.numel():
                continue
            own = head[rows] if i == 0 else self.tail[i - 1](x[rows]).log_softmax(1)
            chosen = own.gather(1, (target[rows] - low).unsqueeze(1)).squeeze(1)
            if i:
                chosen = chosen + head[rows, self.shortlist_size + i - 1]
            output = output.index_copy(0, rows, chosen)
        return ASMoutput(output.squeeze(0) if single else output, -output.mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """The log probabilities of all classes: [n, in_features] to [n, n_classes]."""
        head = self.head(input).log_softmax(1)
        parts = [head[:, : self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            parts.append(tail(input).log_softmax(1) + head[:, self.shortlist_size + i].unsqueeze(1))
        return cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of each input, int64 [n]."""
        return self.log_prob(input).argmax(1)
