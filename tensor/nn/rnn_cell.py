"""One step of a recurrent layer, for programs that write the loop over time themselves."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from tensor.autograd.tensor import Tensor
from tensor.nn import init
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.ops.create import empty
from tensor.ops.matmul import linear
from tensor.ops.recurrent import gru_sequence, lstm_sequence, rnn_sequence

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]


class RNNCellBase(Module):
    """What the cells share: ``weight_ih`` [gates * hidden_size, input_size], ``weight_hh``, ``bias_ih``, ``bias_hh``, and checks.

    All parameters start uniform within 1 / sqrt(hidden_size).
    """

    bias_ih: Parameter | None
    bias_hh: Parameter | None
    _state_parts: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(empty(rows, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def _rows(self, x: Tensor, hx: Any) -> tuple[Tensor, list[Tensor]]:
        """Input and state as matrices of one row a sequence, zeros for no state."""
        who = type(self).__name__
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            msg = f"{who}: expected an input of shape [(batch,) {self.input_size}], got {list(x.shape)}"
            raise RuntimeError(msg)
        expected = (*x.shape[:-1], self.hidden_size)
        if hx is None:
            state = [x.new_zeros(expected) for _ in range(self._state_parts)]
        else:
            state = [hx] if self._state_parts == 1 else list(hx)
        for part in state:
            if tuple(part.shape) != expected:
                msg = f"{who}: expected a state of shape {list(expected)}, got {list(part.shape)}"
                raise RuntimeError(msg)
        if x.ndim == 1:
            return x.unsqueeze(0), [part.unsqueeze(0) for part in state]
        return x, state

    def _bias_sum(self) -> Tensor | None:
        return None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh

    def extra_repr(self) -> str:
        options = [] if self.bias else ["bias=False"]
        return ", ".join([str(self.input_size), str(self.hidden_size), *options])


class RNNCell(RNNCellBase):
    """``tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu: [batch, input_size], [batch, hidden_size] to [batch, hidden_size].

    >>> import tensor as T
    >>> RNNCell(3, 4)(T.ones(2, 3)).shape
    tensor.Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            msg = f"RNNCell: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}"
            raise ValueError(msg)
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The new state."""
        x, (h,) = self._rows(input, hx)
        y = rnn_sequence(linear(x, self.weight_ih, self._bias_sum()), self.weight_hh, h, (len(x),), self.nonlinearity)
        return y if input.ndim == 2 else y.squeeze(0)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class LSTMCell(RNNCellBase):
    """One step of `LSTM`: an input and a pair (h, c) to the new pair, each [batch, hidden_size].

    >>> import tensor as T
    >>> h, c = LSTMCell(3, 4)(T.ones(2, 3))
    >>> h.shape, c.shape
    (tensor.Size([2, 4]), tensor.Size([2, 4]))
    """

    _state_parts = 2

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The new output and cell."""
        x, (h, c) = self._rows(input, hx)
        y = lstm_sequence(linear(x, self.weight_ih, self._bias_sum()), self.weight_hh, h, c, None, (len(x),), [])
        y = y if input.ndim == 2 else y.squeeze(0)
        return y.narrow(-1, 0, self.hidden_size), y.narrow(-1, self.hidden_size, self.hidden_size)


class GRUCell(RNNCellBase):
    """One step of `GRU`: [batch, input_size], [batch, hidden_size] to [batch, hidden_size].

    >>> import tensor as T
    >>> GRUCell(3, 4)(T.ones(3)).shape
    tensor.Size([4])
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The new state."""
        x, (h,) = self._rows(input, hx)
        y = gru_sequence(linear(x, self.weight_ih, self.bias_ih), self.weight_hh, self.bias_hh, h, (len(x),), [])
        return y if input.ndim == 2 else y.squeeze(0)
