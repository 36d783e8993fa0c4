"""Recurrent layers over sequences: RNN, LSTM, GRU, several deep and in both directions, with PyTorch's names and layouts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.naming import quoted
from tensor.nn import init
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.nn.utils.rnn import PackedSequence
from tensor.ops.create import empty
from tensor.ops.dropout import dropout
from tensor.ops.join import cat, stack
from tensor.ops.matmul import linear
from tensor.ops.recurrent import gru_sequence, lstm_sequence, rnn_sequence

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]


#: How many gates each kind of layer has; their parts lie one below the other in its weights.
_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


class _Layout:
    """Where the steps of a batch are in flat, time-major rows: ``sizes`` rows a step, never more than the step before."""

    def __init__(self, sizes: Sequence[int], device: Any) -> None:
        self.sizes, self.device = tuple(sizes), device
        self.steps, self.batch = len(self.sizes), self.sizes[0]
        self.uniform = self.sizes[-1] == self.batch

    def _rows(self, steps_back: Any) -> Tensor:
        """The row of each sequence, ``steps_back`` [..., batch] steps before its last."""
        sizes = np.asarray(self.sizes)
        offsets = np.cumsum(sizes) - sizes
        sequence = np.arange(self.batch)
        lengths = (sizes[:, None] > sequence).sum(0)
        taken = lengths - 1 - steps_back
        rows = (offsets[taken] + sequence)[taken >= 0]
        return Tensor(move(rows, self.device))

    def reversed(self, x: Tensor) -> Tensor:
        """Every sequence from its end to its start; twice gives it back."""
        if self.uniform:
            return x.reshape(self.steps, self.batch, x.shape[1]).flip(0).reshape(x.shape)
        return x.index_select(0, self._rows(np.arange(self.steps)[:, None]))

    def last(self, x: Tensor) -> Tensor:
        """The last row of every sequence: [batch, features]."""
        if self.uniform:
            return x.narrow(0, len(x) - self.batch, self.batch)
        return x.index_select(0, self._rows(0))


class RNNBase(Module):
    """What `RNN`, `LSTM` and `GRU` share: parameters, layers, directions, packing.

    Layer k has ``weight_ih_lk`` [gates * hidden_size, inputs], ``weight_hh_lk`` [gates * hidden_size, outputs], ``bias_ih_lk``,
    ``bias_hh_lk``; with a suffix ``_reverse`` those of the backward direction; ``weight_hr_lk`` [proj_size, hidden_size] where
    outputs are projected. All start uniform within 1 / sqrt(hidden_size).
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        who = type(self).__name__
        if mode not in _GATES:
            msg = f"{who}: expected mode to be one of {quoted(_GATES)}, got {mode!r}"
            raise ValueError(msg)
        for name, value, least in (("input_size", input_size, 0), ("hidden_size", hidden_size, 1), ("num_layers", num_layers, 1)):
            if not isinstance(value, int) or value < least:
                msg = f"{who}: expected {name} as an integer of at least {least}, got {value!r}"
                raise (TypeError if not isinstance(value, int) else ValueError)(msg)
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            msg = f"{who}: expected dropout as a probability in [0, 1], got {dropout!r}"
            raise ValueError(msg)
        if not 0 <= proj_size < hidden_size:
            msg = f"{who}: expected proj_size from 0 to below hidden_size {hidden_size}, got {proj_size}"
            raise ValueError(msg)
        if dropout and num_layers == 1:
            warnings.warn(f"{who}: dropout={dropout} acts between layers, and there is only one", UserWarning, stacklevel=3)
        self.mode = mode
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        width = proj_size or hidden_size
        rows = _GATES[mode] * hidden_size
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else width * (1 + bidirectional)
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, width)}
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
                shapes |= {"weight_hr": (proj_size, hidden_size)} if proj_size else {}
                for name, shape in shapes.items():
                    setattr(self, name + suffix, Parameter(empty(*shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        """The ends of the parameters' names, one for each direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: 1 + self.bidirectional]

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, one list for each layer and direction."""
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        return [[getattr(self, part + s) for part in parts if hasattr(self, part + s)] for s in suffixes]

    def flatten_parameters(self) -> None:
        """Nothing to do here: parameters need not lie side by side. Kept since programs written for PyTorch call it."""

    # --- running ------------------------------------------------------------------------------------------------

    def _direction(self, x: Tensor, suffix: str, state: tuple[Tensor, ...], layout: _Layout) -> Tensor:
        """The states after every step, side by side, of one layer in one direction; a subclass says how."""
        raise NotImplementedError

    def _biases(self, suffix: str) -> tuple[Tensor | None, Tensor | None]:
        return (getattr(self, "bias_ih" + suffix), getattr(self, "bias_hh" + suffix)) if self.bias else (None, None)

    def _widths(self) -> tuple[int, ...]:
        """The widths of the parts of the state: the output's first."""
        return (self.proj_size or self.hidden_size,)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """The last layer's output at every step, and the last state of every layer and direction.

        ``input``: [steps, batch, input_size], or [batch, steps, input_size] with ``batch_first``, or [steps, input_size], or a
        `PackedSequence`; the output is of the same kind. ``hx``: the first state, [layers * directions, (batch,) size], zeros
        when left out; for `LSTM` a pair of those. Raises RuntimeError for other shapes.
        """
        who, order, back = type(self).__name__, None, None
        packed = isinstance(input, PackedSequence)
        single = not packed and input.ndim == 2
        if packed:
            x, batch_sizes, order, back = input
            sizes = batch_sizes.tolist()
        else:
            if input.ndim not in (2, 3):
                msg = f"{who}: expected an input of 2 dimensions (one sequence) or 3 (a batch), got shape {list(input.shape)}"
                raise RuntimeError(msg)
            x = input.unsqueeze(1) if single else input.transpose(0, 1) if self.batch_first else input
            steps, batch = x.shape[:2]
            if not steps:
                msg = f"{who}: expected at least one time step, got shape {list(input.shape)}"
                raise RuntimeError(msg)
            sizes = [batch] * steps
            x = x.reshape(steps * batch, x.shape[-1])
        if x.shape[-1] != self.input_size:
            shape = list(x.shape if isinstance(input, PackedSequence) else input.shape)
            msg = f"{who}: expected an input of {self.input_size} features, got {x.shape[-1]} in shape {shape}"
            raise RuntimeError(msg)
        layout = _Layout(sizes, x.device)
        y, last = self._layers(x, self._first_state(hx, x, layout.batch, single, order), layout)
        if packed:
            output: Any = PackedSequence(y, input.batch_sizes, order, back)
        else:
            output = y.reshape(layout.steps, layout.batch, y.shape[1])
            output = output.squeeze(1) if single else output.transpose(0, 1) if self.batch_first else output
        parts = [part if back is None else part.index_select(1, back) for part in last]
        parts = [part.squeeze(1) for part in parts] if single else parts
        return output, tuple(parts) if len(parts) > 1 else parts[0]

    def _first_state(self, hx: Any, x: Tensor, batch: int, single: bool, order: Tensor | None) -> list[Tensor]:
        """The parts of the first state, each [layers * directions, batch, size], in the order of the rows."""
        who, widths = type(self).__name__, self._widths()
        n = self.num_layers * (1 + self.bidirectional)
        if hx is None:
            return [x.new_zeros((n, batch, width)) for width in widths]
        given = [hx] if len(widths) == 1 else list(hx)
        if len(given) != len(widths):
            msg = f"{who}: expected a first state of {len(widths)} tensors, got {len(given)}"
            raise RuntimeError(msg)
        for part, width in zip(given, widths, strict=True):
            expected = (n, width) if single else (n, batch, width)
            if tuple(part.shape) != expected:
                msg = f"{who}: expected a first state of shape {list(expected)}, got {list(part.shape)}"
                raise RuntimeError(msg)
        given = [part.unsqueeze(1) for part in given] if single else given
        return given if order is None else [part.index_select(1, order) for part in given]

    def _layers(self, x: Tensor, first: list[Tensor], layout: _Layout) -> tuple[Tensor, list[Tensor]]:
        """Run all layers on flat rows; the last one's outputs, and the parts of the last states."""
        widths = self._widths()
        last: list[list[Tensor]] = [[] for _ in widths]
        for layer in range(self.num_layers):
            outputs = []
            for suffix in self._suffixes(layer):
                k = len(last[0])
                backward = suffix.endswith("_reverse")
                state = tuple(part[k] for part in first)
                states = self._direction(layout.reversed(x) if backward else x, suffix, state, layout)
                end = layout.last(states)
                start = 0
                for part, width in zip(last, widths, strict=True):
                    part.append(end.narrow(1, start, width) if len(widths) > 1 else end)
                    start += width
                out = states.narrow(1, 0, widths[0]) if len(widths) > 1 else states
                outputs.append(layout.reversed(out) if backward else out)
            x = cat(outputs, 1) if self.bidirectional else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                x = dropout(x, self.dropout, self.training)
        return x, [stack(part) for part in last]

    def extra_repr(self) -> str:
        shown = {
            "proj_size": (self.proj_size, 0),
            "num_layers": (self.num_layers, 1),
            "bias": (self.bias, True),
            "batch_first": (self.batch_first, False),
            "dropout": (self.dropout, 0.0),
            "bidirectional": (self.bidirectional, False),
        }
        options = [f"{name}={value}" for name, (value, usual) in shown.items() if value != usual]
        return ", ".join([str(self.input_size), str(self.hidden_size), *options])


class RNN(RNNBase):
    """``h = tanh(W_ih x + b_ih + W_hh h + b_hh)`` at every step (Elman, 1990); relu with ``nonlinearity="relu"``.

    >>> import tensor as T
    >>> output, h = RNN(3, 4, num_layers=2)(T.ones(5, 2, 3))
    >>> output.shape, h.shape
    (tensor.Size([5, 2, 4]), tensor.Size([2, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            msg = f"RNN: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}"
            raise ValueError(msg)
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity

    def _direction(self, x: Tensor, suffix: str, state: tuple[Tensor, ...], layout: _Layout) -> Tensor:
        b_ih, b_hh = self._biases(suffix)
        bias = None if b_ih is None or b_hh is None else b_ih + b_hh
        pre = linear(x, getattr(self, "weight_ih" + suffix), bias)
        return rnn_sequence(pre, getattr(self, "weight_hh" + suffix), state[0], layout.sizes, self.nonlinearity)


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997), its gates in the order input, forget, candidate, output.

    The state is a pair: the output h and the cell c. With ``proj_size`` h is ``W_hr`` times what it would be (arXiv 1402.1128).

    >>> import tensor as T
    >>> output, (h, c) = LSTM(3, 4, batch_first=True, bidirectional=True)(T.ones(2, 5, 3))
    >>> output.shape, h.shape, c.shape
    (tensor.Size([2, 5, 8]), tensor.Size([2, 2, 4]), tensor.Size([2, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        options = (num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)
        super().__init__("LSTM", input_size, hidden_size, *options)

    def _widths(self) -> tuple[int, ...]:
        return (self.proj_size or self.hidden_size, self.hidden_size)

    def _direction(self, x: Tensor, suffix: str, state: tuple[Tensor, ...], layout: _Layout) -> Tensor:
        b_ih, b_hh = self._biases(suffix)
        bias = None if b_ih is None or b_hh is None else b_ih + b_hh
        pre = linear(x, getattr(self, "weight_ih" + suffix), bias)
        w_hr = getattr(self, "weight_hr" + suffix) if self.proj_size else None
        h, c = state
        return lstm_sequence(pre, getattr(self, "weight_hh" + suffix), h, c, w_hr, layout.sizes, [])


class GRU(RNNBase):
    """Gated recurrent units (arXiv 1406.1078), gates in the order reset, update, candidate.

    The reset gate acts on ``W_hn h + b_hn``.

    >>> import tensor as T
    >>> output, h = GRU(3, 4)(T.ones(5, 3))
    >>> output.shape, h.shape
    (tensor.Size([5, 4]), tensor.Size([1, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)

    def _direction(self, x: Tensor, suffix: str, state: tuple[Tensor, ...], layout: _Layout) -> Tensor:
        b_ih, b_hh = self._biases(suffix)
        pre = linear(x, getattr(self, "weight_ih" + suffix), b_ih)
        return gru_sequence(pre, getattr(self, "weight_hh" + suffix), b_hh, state[0], layout.sizes, [])
