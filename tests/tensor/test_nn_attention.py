"""Attention and transformers: laws. Parity with PyTorch is in `test_nn_weights.py`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor import nn

F = nn.functional


def draw(*shape):
    return T.randn(*shape, dtype=T.float64)


def same(a, b):
    np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().cpu().numpy(), rtol=1e-10, atol=1e-12)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# --- scaled dot product -----------------------------------------------------------------------------------------------


@given(steps=st.integers(1, 4), keys=st.integers(1, 4), width=st.integers(1, 3), scale=st.sampled_from([None, 0.3]))
def test_dot_product_attention_is_its_formula(steps, keys, width, scale):
    q, k, v = draw(2, steps, width), draw(2, keys, width), draw(2, keys, 2)
    scores = q.numpy() @ k.numpy().transpose(0, 2, 1) * (1 / math.sqrt(width) if scale is None else scale)
    same(F.scaled_dot_product_attention(q, k, v, scale=scale), T.tensor(softmax(scores) @ v.numpy()))
    added = draw(steps, keys)
    expected = T.tensor(softmax(scores + added.numpy()) @ v.numpy())
    same(F.scaled_dot_product_attention(q, k, v, added, scale=scale), expected)


def test_masks_of_either_kind_and_causal_ones(device):
    q, k, v = (draw(2, 3, 4).to(device) for _ in range(3))
    seen = T.ones(3, 3, dtype=T.bool).tril().to(device)
    numbers = T.zeros(3, 3, dtype=T.float64).to(device).masked_fill(~seen, -math.inf)
    causal = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    same(F.scaled_dot_product_attention(q, k, v, seen), causal)
    same(F.scaled_dot_product_attention(q, k, v, numbers), causal)
    same(causal[:, 0], v[:, 0])


def test_a_query_that_sees_nothing_gets_zeros_and_gives_no_gradient():
    q, k = draw(1, 2, 3).requires_grad_(), draw(1, 2, 3).requires_grad_()
    y = F.scaled_dot_product_attention(q, k, k, T.tensor([[True, True], [False, False]]))
    assert (y[0, 1] == 0).all()
    y.sum().backward()
    assert (q.grad[0, 1] == 0).all()
    assert q.grad[0, 0].abs().sum() > 0
    assert k.grad.isfinite().all()


def test_grouped_heads_share_keys():
    q, k, v = draw(2, 4, 3, 5), draw(2, 2, 6, 5), draw(2, 2, 6, 5)
    wide = [x.repeat_interleave(2, 1) for x in (k, v)]
    same(F.scaled_dot_product_attention(q, k, v, enable_gqa=True), F.scaled_dot_product_attention(q, *wide))


def test_dropout_acts_on_the_weights():
    x = T.ones(1, 4, 2)
    y = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
    assert set(np.round(y.numpy().ravel(), 6)) <= {0, 0.5, 1, 1.5, 2}
    assert (F.scaled_dot_product_attention(x, x, x, dropout_p=1.0) == 0).all()


# --- several heads ----------------------------------------------------------------------------------------------------


def by_hand(layer, q, k, v):
    """[batch, steps, width]: head by head with NumPy, weights [batch, heads, L, S]."""
    w = [p.detach().numpy() for p in layer.in_proj_weight.chunk(3)]
    b = [p.detach().numpy() for p in layer.in_proj_bias.chunk(3)]
    q, k, v = (x.numpy() @ w.T + b for x, w, b in zip((q, k, v), w, b, strict=True))
    n = layer.head_dim
    outputs, weights = [], []
    for h in range(layer.num_heads):
        part = slice(h * n, (h + 1) * n)
        weights.append(softmax(q[..., part] @ k[..., part].transpose(0, 2, 1) / math.sqrt(n)))
        outputs.append(weights[-1] @ v[..., part])
    joined = np.concatenate(outputs, -1) @ layer.out_proj.weight.detach().numpy().T + layer.out_proj.bias.detach().numpy()
    return joined, np.stack(weights, 1)


def test_heads_by_hand():
    layer = nn.MultiheadAttention(6, 3, batch_first=True).double()
    q, k, v = draw(2, 4, 6), draw(2, 5, 6), draw(2, 5, 6)
    expected, weights = by_hand(layer, q, k, v)
    y, w = layer(q, k, v, average_attn_weights=False)
    same(y, T.tensor(expected))
    same(w, T.tensor(weights))
    same(layer(q, k, v)[1], T.tensor(weights.mean(1)))
    assert layer(q, k, v, need_weights=False)[1] is None
    same(layer(q, q, q)[0], layer(q, q.clone(), q.clone())[0])  # one product for three
    single, w = layer(q[0], k[0], v[0])
    same(single, T.tensor(expected[0]))
    assert w.shape == (4, 5)


@given(
    keys=st.integers(1, 4),
    hidden=st.integers(1, 3),
    numbers=st.booleans(),
    bias_kv=st.booleans(),
    zero=st.booleans(),
    separate=st.booleans(),
)
def test_padding_equals_the_shorter_sequence(keys, hidden, numbers, bias_kv, zero, separate):
    sizes = {"kdim": 3, "vdim": 5} if separate else {}
    layer = nn.MultiheadAttention(4, 2, add_bias_kv=bias_kv, add_zero_attn=zero, **sizes).double()
    q, k, v = draw(3, 2, 4), draw(keys + hidden, 2, sizes.get("kdim", 4)), draw(keys + hidden, 2, sizes.get("vdim", 4))
    mask = T.zeros(2, keys + hidden, dtype=T.bool)
    mask[:, keys:] = True
    given_mask = T.zeros(2, keys + hidden, dtype=T.float64).masked_fill(mask, -math.inf) if numbers else mask
    short, weights = layer(q, k[:keys], v[:keys])
    padded, more = layer(q, k, v, key_padding_mask=given_mask)
    same(padded, short)
    same(more[..., :keys], weights[..., :keys])
    assert (more[..., keys : keys + hidden] == 0).all()
    by_steps = mask.reshape(2, 1, 1, -1).expand(2, 2, 3, -1).reshape(4, 3, -1)
    same(layer(q, k, v, attn_mask=by_steps)[0], short)


def test_added_keys():
    layer = nn.MultiheadAttention(4, 2, add_zero_attn=True, add_bias_kv=True)
    x = T.randn(3, 2, 4)
    y, weights = layer(x, x, x, attn_mask=T.ones(3, 3, dtype=T.bool))
    assert weights.shape == (2, 3, 5)
    assert (weights[..., :3] == 0).all()
    assert y.isfinite().all()
    plain = nn.MultiheadAttention(4, 2)
    y, weights = plain(x, x, x, key_padding_mask=T.ones(2, 3, dtype=T.bool))
    assert (weights == 0).all()
    assert (y == plain.out_proj.bias).all()


def test_first_values_and_names():
    layer = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    assert list(layer.state_dict()) == ["in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj.weight", "out_proj.bias"]
    assert layer.in_proj_weight.abs().max() <= math.sqrt(6 / 256)
    assert layer.in_proj_weight.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.05)
    assert (layer.in_proj_bias == 0).all()
    assert (layer.out_proj.bias == 0).all()
    assert layer.bias_k.std() > 0
    assert "q_proj_weight" in nn.MultiheadAttention(4, 2, kdim=3).state_dict()
    assert nn.MultiheadAttention(4, 2, bias=False).out_proj.bias is None


@pytest.mark.parametrize("shape", [(0, 2, 4), (3, 0, 4), (0, 4)])
def test_empty_inputs(shape):
    x = T.zeros(*shape)
    y, _ = nn.MultiheadAttention(4, 2)(x, x, x)
    assert y.shape == shape


def test_static_keys_and_values_replace_the_projected():
    layer = nn.MultiheadAttention(4, 2).double()
    x = draw(3, 2, 4)
    keys, values = draw(4, 5, 2), draw(4, 5, 2)
    y, _ = F.multi_head_attention_forward(
        *(x, x, x, 4, 2, layer.in_proj_weight, layer.in_proj_bias, None, None, False, 0.0),
        *(layer.out_proj.weight, layer.out_proj.bias),
        static_k=keys,
        static_v=values,
    )
    q = F.linear(x, layer.in_proj_weight[:4], layer.in_proj_bias[:4]).reshape(3, 4, 2).transpose(0, 1)
    heads = F.scaled_dot_product_attention(q, keys, values).transpose(0, 1).reshape(3, 2, 4)
    same(y, F.linear(heads, layer.out_proj.weight, layer.out_proj.bias))


# --- transformers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", T.tanh])
def test_an_encoder_layer_is_its_parts(norm_first, activation):
    layer = nn.TransformerEncoderLayer(4, 2, 6, activation=activation, norm_first=norm_first).double().eval()
    function = getattr(F, activation) if isinstance(activation, str) else activation
    x = draw(3, 2, 4)

    def attend(x):
        return layer.self_attn(x, x, x)[0]

    def feed(x):
        return layer.linear2(function(layer.linear1(x)))

    if norm_first:
        y = x + attend(layer.norm1(x))
        y = y + feed(layer.norm2(y))
    else:
        y = layer.norm1(x + attend(x))
        y = layer.norm2(y + feed(y))
    same(layer(x), y)


def test_a_decoder_sees_no_later_step_and_only_the_memory_it_may(device):
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6, batch_first=True), 2, nn.LayerNorm(4))
    decoder = decoder.double().eval().to(device)
    target, memory = draw(2, 5, 4).to(device), draw(2, 3, 4).to(device)
    mask = nn.Transformer.generate_square_subsequent_mask(5, device=device, dtype=T.float64)
    whole = decoder(target, memory, tgt_mask=mask, tgt_is_causal=True)
    same(decoder(target[:, :2], memory, tgt_mask=mask[:2, :2])[:, :2], whole[:, :2])
    hidden = T.tensor([[False, False, True]] * 2, device=device)
    same(decoder(target, memory, memory_key_padding_mask=hidden), decoder(target, memory[:, :2]))
    unseen = hidden[:1].expand(5, 3)
    same(decoder(target, memory, memory_mask=unseen), decoder(target, memory[:, :2]))


def test_a_transformer_is_its_halves():
    net = nn.Transformer(4, 2, 1, 2, 6, norm_first=True, bias=False).double().eval()
    source, target = draw(3, 2, 4), draw(5, 2, 4)
    same(net(source, target), net.decoder(target, net.encoder(source)))
    same(net(source[:, 0], target[:, 0]), net(source, target)[:, 0])
    assert not any(name.endswith("bias") for name in net.state_dict())
    assert net.encoder.layers[0].linear1.weight.abs().max() <= math.sqrt(6 / 10)
    outer = nn.Transformer(4, 2, custom_encoder=nn.Identity(), custom_decoder=net.decoder)
    assert isinstance(outer.encoder, nn.Identity)


def test_layers_are_copies_and_dropout_is_random_only_while_training():
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, dropout=0.5), 2)
    first, second = net.layers
    assert (first.linear1.weight == second.linear1.weight).all()
    assert first.linear1.weight is not second.linear1.weight
    x = T.randn(3, 2, 4)
    assert not (net(x) == net(x)).all()
    net.eval()
    assert (net(x) == net(x)).all()
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_gradients_to_second_order():
    layer = nn.TransformerDecoderLayer(2, 1, 3, dropout=0.0, activation="gelu").double()
    mask = nn.Transformer.generate_square_subsequent_mask(2)

    def run(target, memory, weight):
        return nn.utils.stateless.functional_call(layer, {"self_attn.in_proj_weight": weight}, (target, memory, mask))

    leaves = [t.clone().requires_grad_() for t in (draw(2, 1, 2), draw(2, 1, 2), layer.self_attn.in_proj_weight.detach())]
    assert T.autograd.gradcheck(run, leaves)
    assert T.autograd.gradgradcheck(run, leaves, atol=1e-4)


X = T.ones(3, 2, 4)
ATTENTION = nn.MultiheadAttention(4, 2)


@pytest.mark.parametrize(
    "act, error, text",
    [
        (lambda: nn.MultiheadAttention(5, 2), ValueError, "a positive embed_dim that num_heads divides, got 5 and 2"),
        (lambda: ATTENTION(X, X[0], X), RuntimeError, "query, key and value of 3 dimensions"),
        (lambda: ATTENTION(X[..., :3], X, X), RuntimeError, "a query of 4 features, got 3"),
        (lambda: ATTENTION(X, X, X[:2]), RuntimeError, r"as many keys as values, got shapes \[3, 2, 4\] and \[2, 2, 4\]"),
        (lambda: ATTENTION(X, X, X, attn_mask=T.ones(3, 2)), RuntimeError, r"attn_mask of shape \[3, 3\] or \[4, 3, 3\], got \[3, 2\]"),
        (lambda: ATTENTION(X, X, X, key_padding_mask=T.ones(3, 2)), RuntimeError, r"key_padding_mask of shape \[2, 3\], got \[3, 2\]"),
        (lambda: ATTENTION(X, X, X, attn_mask=T.ones(3, 3, dtype=T.int64)), RuntimeError, "a mask of bool or a floating dtype, got tensor.int64"),
        (lambda: ATTENTION(X, X, X, is_causal=True), RuntimeError, "expected the attn_mask that is_causal speaks of, got None"),
        (lambda: F.scaled_dot_product_attention(X, X, X, T.ones(2, 2), is_causal=True), RuntimeError, "either attn_mask or is_causal, got both"),
        (lambda: F.scaled_dot_product_attention(X, X[..., :2], X), RuntimeError, r"expected shapes \[..., L, E\]"),
        (lambda: F.scaled_dot_product_attention(T.ones(1, 3, 2, 4), *[T.ones(1, 2, 2, 4)] * 2, enable_gqa=True), RuntimeError, "divide 3, got 2 and 2"),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="tahn"), ValueError, "'relu', 'gelu' or a function, got 'tahn'"),
        (lambda: nn.Transformer(4, 2, 1, 1, 6)(X, T.ones(3, 1, 4)), RuntimeError, "src and tgt of one batch and 4 features"),
    ],
)  # fmt: skip
def test_refused(act, error, text):
    with pytest.raises(error, match=text):
        act()
