"""Transformers: encoder and decoder layers, stacks of them, and both together (arXiv 1706.03762)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.device import as_device, move
from tensor.nn import init
from tensor.nn.attention import MultiheadAttention
from tensor.nn.container import ModuleList
from tensor.nn.dropout import Dropout
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.nn.normalization import LayerNorm
from tensor.ops.activation import gelu
from tensor.ops.unary import relu

__all__ = ["Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer"]

Activation = Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[str, Activation] = {"relu": relu, "gelu": gelu}


def _activation(given: str | Activation, who: str) -> Activation:
    if not isinstance(given, str):
        return given
    if given not in _ACTIVATIONS:
        msg = f"{who}: expected activation 'relu', 'gelu' or a function, got {given!r}"
        raise ValueError(msg)
    return _ACTIVATIONS[given]


def _clones(layer: Module, n: int) -> ModuleList:
    return ModuleList(copy.deepcopy(layer) for _ in range(n))


class _Feedforward(Module):
    """What both kinds of layer share: two linear maps with an activation between, dropout, and where the norms stand."""

    def __init__(
        self,
        d_model: int,
        dim_feedforward: int,
        dropout: float,
        activation: str | Activation,
        layer_norm_eps: float,
        norm_first: bool,
        norms: int,
        **options: Any,
    ) -> None:
        self.linear1 = Linear(d_model, dim_feedforward, **options)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **options)
        self.norm_first = norm_first
        for i in range(1, norms + 1):
            setattr(self, f"norm{i}", LayerNorm(d_model, eps=layer_norm_eps, **options))
        for i in range(1, norms + 1):
            setattr(self, f"dropout{i}", Dropout(dropout))
        self.activation = _activation(activation, type(self).__name__)

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return y

    def _around(self, x: Tensor, part: Callable[[Tensor], Tensor], i: int) -> Tensor:
        """A residual connection around a part of the layer, with its norm inside the branch or behind the sum."""
        norm, drop = getattr(self, f"norm{i}"), getattr(self, f"dropout{i}")
        y: Tensor = x + drop(part(norm(x))) if self.norm_first else norm(x + drop(part(x)))
        return y


class TransformerEncoderLayer(_Feedforward):
    """Self-attention and two linear maps, each with dropout, a residual connection and a norm.

    Inputs are [steps, batch, d_model], [batch, steps, d_model] with ``batch_first``, or [steps, d_model]. ``norm_first`` puts the
    norms before attention and linear maps (arXiv 2002.04745). ``activation``: "relu", "gelu" or a function.

    >>> import tensor as T
    >>> TransformerEncoderLayer(8, 2, dim_feedforward=16)(T.ones(5, 3, 8)).shape
    tensor.Size([5, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        Module.__init__(self)
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout=dropout, batch_first=batch_first, **options)
        super().__init__(d_model, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, 2, **options)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The sequence, each step knowing of those that the masks let it see; masks as for `MultiheadAttention`."""

        def attend(x: Tensor) -> Tensor:
            masks: dict[str, Any] = {"attn_mask": src_mask, "key_padding_mask": src_key_padding_mask, "is_causal": is_causal}
            y: Tensor = self.self_attn(x, x, x, need_weights=False, **masks)[0]
            return y

        return self._around(self._around(src, attend, 1), self._feed, 2)


class TransformerDecoderLayer(_Feedforward):
    """Self-attention, attention to a memory, and two linear maps, each with dropout, a residual connection and a norm.

    Shapes and options as for `TransformerEncoderLayer`.

    >>> import tensor as T
    >>> TransformerDecoderLayer(8, 2, dim_feedforward=16)(T.ones(4, 3, 8), T.ones(5, 3, 8)).shape
    tensor.Size([4, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        Module.__init__(self)
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        for name in ("self_attn", "multihead_attn"):
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout=dropout, batch_first=batch_first, **options))
        super().__init__(d_model, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, 3, **options)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The target sequence, informed by itself and by the memory as far as the masks let it see."""

        def attend(x: Tensor) -> Tensor:
            masks: dict[str, Any] = {"attn_mask": tgt_mask, "key_padding_mask": tgt_key_padding_mask, "is_causal": tgt_is_causal}
            y: Tensor = self.self_attn(x, x, x, need_weights=False, **masks)[0]
            return y

        def remember(x: Tensor) -> Tensor:
            masks: dict[str, Any] = {
                "attn_mask": memory_mask,
                "key_padding_mask": memory_key_padding_mask,
                "is_causal": memory_is_causal,
            }
            y: Tensor = self.multihead_attn(x, memory, memory, need_weights=False, **masks)[0]
            return y

        return self._around(self._around(self._around(tgt, attend, 1), remember, 2), self._feed, 3)


class TransformerEncoder(Module):
    """Copies of an encoder layer in a row, and perhaps a norm behind them.

    ``enable_nested_tensor`` and ``mask_check`` are taken for PyTorch's sake; they change nothing here.

    >>> import tensor as T
    >>> layer = TransformerEncoderLayer(8, 2, dim_feedforward=16)
    >>> TransformerEncoder(layer, 2)(T.ones(5, 3, 8)).shape
    tensor.Size([5, 3, 8])
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _clones(encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """The sequence through all layers; masks as for `MultiheadAttention`."""
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """Copies of a decoder layer in a row, and perhaps a norm behind them.

    >>> import tensor as T
    >>> layer = TransformerDecoderLayer(8, 2, dim_feedforward=16)
    >>> TransformerDecoder(layer, 2)(T.ones(4, 3, 8), T.ones(5, 3, 8)).shape
    tensor.Size([4, 3, 8])
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _clones(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The target sequence through all layers, each attending to the memory; masks as for `MultiheadAttention`."""
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder whose output is the memory of a decoder; all matrices start by Glorot's rule.

    >>> import tensor as T
    >>> net = Transformer(8, 2, 1, 1, dim_feedforward=16)
    >>> net(T.ones(5, 3, 8), T.ones(4, 3, 8)).shape
    tensor.Size([4, 3, 8])
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first)
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}

        def norm() -> LayerNorm:
            return LayerNorm(d_model, eps=layer_norm_eps, **options)

        if custom_encoder is None:
            encoder_layer = TransformerEncoderLayer(*sizes, **options)
            custom_encoder = TransformerEncoder(encoder_layer, num_encoder_layers, norm())
        self.encoder = custom_encoder
        if custom_decoder is None:
            decoder_layer = TransformerDecoderLayer(*sizes, **options)
            custom_decoder = TransformerDecoder(decoder_layer, num_decoder_layers, norm())
        self.decoder = custom_decoder
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all matrices anew."""
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoder's output [steps of tgt, batch, d_model]; masks as for `MultiheadAttention`.

        Raises RuntimeError for source and target of different batches or widths.
        """
        across = int(self.batch_first and src.ndim == 3)  # the dimension of time
        sides = [[n for i, n in enumerate(x.shape[:-1]) if i != across] for x in (src, tgt)]
        if src.ndim != tgt.ndim or sides[0] != sides[1] or src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            expected = f"src and tgt of one batch and {self.d_model} features"
            msg = f"Transformer: expected {expected}, got shapes {list(src.shape)} and {list(tgt.shape)}"
            raise RuntimeError(msg)
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        y: Tensor = self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )
        return y

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """The causal mask [sz, sz]: 0 where a step is seen, -inf for the steps after it.

        >>> Transformer.generate_square_subsequent_mask(2)
        tensor([[0., -inf],
                [0., 0.]])
        """
        d = dtypes.get_default_dtype().numpy if dtype is None else dtypes.numpy_dtype(dtype)
        mask = np.triu(np.full((sz, sz), -math.inf, d), 1)
        return Tensor(mask if device is None else move(mask, as_device(device)))
