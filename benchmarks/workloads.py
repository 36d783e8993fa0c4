"""Learning steps of many kinds, the same source for `tensor` and for PyTorch: what `compiled.py` and `eager.py` measure.

Each workload is a function ``(T, compiled) -> call``: ``T`` is the library, and ``call()`` does one step. A compiled variant is
one ``T.compile``d function that holds forward, backward and update.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

Call = Callable[[], Any]
Make = Callable[[Any, bool], Call]

#: By name; filled by the decorator below.
WORKLOADS: dict[str, Make] = {}


def workload(make: Make) -> Make:
    """Register a workload under its name."""
    WORKLOADS[make.__name__.replace("_", " ")] = make
    return make


def made(T: Any, compiled: bool, step: Callable[..., Any], *args: Any) -> Call:
    """``step(*args)`` as a call without arguments, compiled or not."""
    run = T.compile(step) if compiled else step
    return lambda: run(*args)


def normal(T: Any, *shape: int, seed: int = 0) -> Any:
    """Fixed standard normal numbers, float32."""
    return T.tensor(np.random.default_rng(seed).normal(size=shape).astype("f"))


def integers(T: Any, high: int, *shape: int, seed: int = 0) -> Any:
    """Fixed integers from 0 to ``high - 1``, int64."""
    return T.tensor(np.random.default_rng(seed).integers(0, high, shape))


def mlp(T: Any, *sizes: int, activation: str = "Tanh") -> Any:
    """Linear layers with an activation between them."""
    layers: list[Any] = []
    for i, o in pairwise(sizes):
        layers += [T.nn.Linear(i, o), getattr(T.nn, activation)()]
    return T.nn.Sequential(*layers[:-1])


# --- recurrent -----------------------------------------------------------------------------------------------------------


@workload
def lstm_sequence(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    net, head = T.nn.LSTM(8, 32, batch_first=True), T.nn.Linear(32, 1)
    optimizer = T.optim.Adam([*net.parameters(), *head.parameters()], lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        out, _ = net(x)
        loss = ((head(out[:, -1]) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 8, 16, 8), normal(T, 8, 1, seed=1))


@workload
def gru_cell_unrolled(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    cell, head = T.nn.GRUCell(8, 32), T.nn.Linear(32, 2)
    optimizer = T.optim.Adam([*cell.parameters(), *head.parameters()], lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        h = T.zeros(4, 32)
        for t in range(8):
            h = cell(x[t], h)
        loss = T.nn.functional.cross_entropy(head(h), y)
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 8, 4, 8), integers(T, 2, 4))


# --- convolutional -------------------------------------------------------------------------------------------------------


def convnet(T: Any) -> Any:
    return T.nn.Sequential(
        T.nn.Conv2d(1, 8, 3, padding=1), T.nn.ReLU(), T.nn.MaxPool2d(2), T.nn.Conv2d(8, 16, 3, padding=1), T.nn.ReLU(),
        T.nn.MaxPool2d(2), T.nn.Flatten(), T.nn.Linear(64, 10),
    )  # fmt: skip


@workload
def convnet_step(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    net = convnet(T)
    optimizer = T.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = T.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 16, 1, 8, 8), integers(T, 10, 16))


@workload
def convnet_act(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    net = convnet(T)

    def act(x: Any) -> Any:
        with T.no_grad():
            return net(x).argmax(1)

    return made(T, compiled, act, normal(T, 1, 1, 8, 8))


@workload
def batch_norm_convnet(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    net = T.nn.Sequential(
        T.nn.Conv2d(3, 8, 3, stride=2, padding=1), T.nn.BatchNorm2d(8), T.nn.ReLU(), T.nn.Conv2d(8, 16, 3, stride=2, padding=1),
        T.nn.BatchNorm2d(16), T.nn.ReLU(), T.nn.AdaptiveAvgPool2d(1), T.nn.Flatten(), T.nn.Linear(16, 4),
    )  # fmt: skip
    optimizer = T.optim.Adam(net.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = T.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 8, 3, 16, 16), integers(T, 4, 8))


# --- attention -----------------------------------------------------------------------------------------------------------


@workload
def attention_by_hand(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    q, k, v, norm, head = (T.nn.Linear(32, 32) for _ in range(3)), None, None, T.nn.LayerNorm(32), T.nn.Linear(32, 1)
    q, k, v = q
    parameters = [p for m in (q, k, v, norm, head) for p in m.parameters()]
    optimizer = T.optim.AdamW(parameters, lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        weights = T.softmax(q(x) @ k(x).transpose(1, 2) / 32**0.5, -1)
        h = norm(x + weights @ v(x))
        loss = ((head(h).squeeze(-1).mean(1) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 4, 16, 32), normal(T, 4, seed=1))


@workload
def transformer_layer(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    layer = T.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    head = T.nn.Linear(32, 5)
    optimizer = T.optim.Adam([*layer.parameters(), *head.parameters()], lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = T.nn.functional.cross_entropy(head(layer(x)).flatten(0, 1), y)
        loss.backward()
        T.nn.utils.clip_grad_norm_([*layer.parameters(), *head.parameters()], 1.0)
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 4, 12, 32), integers(T, 5, 48))


# --- losses of reinforcement learning ------------------------------------------------------------------------------------


@workload
def ppo_loss(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    actor, critic = mlp(T, 4, 64, 64, 2), mlp(T, 4, 64, 64, 1)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = T.optim.Adam(parameters, lr=3e-4, eps=1e-5)

    def step(obs: Any, action: Any, old: Any, advantage: Any, target: Any) -> Any:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        logp = T.log_softmax(actor(obs), -1)
        ratio = (logp.gather(1, action.unsqueeze(1)).squeeze(1) - old).exp()
        policy = -T.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
        entropy = -(logp.exp() * logp).sum(-1).mean()
        value = 0.5 * ((critic(obs).squeeze(1) - target) ** 2).mean()
        loss = policy + 0.5 * value - 0.01 * entropy
        optimizer.zero_grad()
        loss.backward()
        T.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        return loss

    old = normal(T, 64, seed=1) * 0.1 - 0.7
    return made(T, compiled, step, normal(T, 64, 4), integers(T, 2, 64), old, normal(T, 64, seed=2), normal(T, 64, seed=3))


@workload
def ppo_gaussian(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    actor, critic, log_std = mlp(T, 3, 64, 64, 1), mlp(T, 3, 64, 64, 1), T.nn.Parameter(T.zeros(1))
    parameters = [*actor.parameters(), *critic.parameters(), log_std]
    optimizer = T.optim.Adam(parameters, lr=3e-4, eps=1e-5)

    def step(obs: Any, action: Any, old: Any, advantage: Any, target: Any) -> Any:
        z = (action - actor(obs)) * T.exp(-log_std)
        logp = (-0.5 * z**2 - log_std - 0.918939).sum(-1)
        ratio = T.exp(logp - old)
        policy = -T.min(ratio * advantage, T.clamp(ratio, 0.8, 1.2) * advantage).mean()
        value = T.nn.functional.mse_loss(critic(obs).squeeze(1), target)
        loss = policy + 0.5 * value - 0.01 * log_std.sum()
        optimizer.zero_grad()
        loss.backward()
        T.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        return loss.detach()

    old = normal(T, 64, seed=1) * 0.1 - 1
    return made(T, compiled, step, normal(T, 64, 3), normal(T, 64, 1), old, normal(T, 64, seed=2), normal(T, 64, seed=3))


@workload
def dqn_loss(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    net, target = mlp(T, 4, 128, 128, 2, activation="ReLU"), mlp(T, 4, 128, 128, 2, activation="ReLU")
    optimizer = T.optim.Adam(net.parameters(), lr=1e-3)

    def step(obs: Any, action: Any, reward: Any, following: Any, ended: Any) -> Any:
        with T.no_grad():
            best = reward + 0.99 * (1 - ended) * target(following).max(1).values
        q = net(obs).gather(1, action).squeeze(1)
        loss = T.nn.functional.smooth_l1_loss(q, best)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 64, 4), integers(T, 2, 64, 1), normal(T, 64), normal(T, 64, 4, seed=1), T.zeros(64))


@workload
def sac_update(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    actor = mlp(T, 3, 64, 64, 2, activation="ReLU")
    critics = [mlp(T, 4, 64, 64, 1, activation="ReLU") for _ in range(2)]
    targets = [mlp(T, 4, 64, 64, 1, activation="ReLU") for _ in range(2)]
    q_parameters = [p for c in critics for p in c.parameters()]
    q_optimizer, pi_optimizer = T.optim.Adam(q_parameters, lr=1e-3), T.optim.Adam(actor.parameters(), lr=1e-3)

    def sample(obs: Any) -> tuple[Any, Any]:
        mean, log_std = actor(obs).chunk(2, -1)
        std = log_std.clamp(-5, 2).exp()
        z = mean + std * T.randn(64, 1)
        action = T.tanh(z)
        logp = (-0.5 * ((z - mean) / std) ** 2 - std.log() - 0.918939 - T.log(1 - action**2 + 1e-6)).sum(-1, keepdim=True)
        return action, logp

    def step(obs: Any, action: Any, reward: Any, following: Any) -> Any:
        with T.no_grad():
            a, logp = sample(following)
            joint = T.cat([following, a], -1)
            target = reward + 0.99 * (T.minimum(targets[0](joint), targets[1](joint)) - 0.2 * logp)
        both = T.cat([obs, action], -1)
        q_loss = sum(((c(both) - target) ** 2).mean() for c in critics)
        q_optimizer.zero_grad()
        q_loss.backward()
        q_optimizer.step()
        a, logp = sample(obs)
        joint = T.cat([obs, a], -1)
        pi_loss = (0.2 * logp - T.minimum(critics[0](joint), critics[1](joint))).mean()
        pi_optimizer.zero_grad()
        pi_loss.backward()
        pi_optimizer.step()
        with T.no_grad():
            for c, t in zip(critics, targets, strict=True):
                for p, q in zip(c.parameters(), t.parameters(), strict=True):
                    q.mul_(0.995).add_(p, alpha=0.005)
        return q_loss

    return made(T, compiled, step, normal(T, 64, 3), normal(T, 64, 1), normal(T, 64, 1, seed=1), normal(T, 64, 3, seed=2))


# --- chains of elementwise operations ------------------------------------------------------------------------------------


@workload
def long_chain_backward(T: Any, compiled: bool) -> Call:
    w = T.ones(1000, requires_grad=True)

    def step(x: Any) -> Any:
        y = w
        for _ in range(10):
            y = T.tanh(y * x + 0.1) + T.sigmoid(y) * 0.5
        loss = y.mean()
        (gradient,) = T.autograd.grad(loss, [w])
        return gradient

    return made(T, compiled, step, normal(T, 1000))


@workload
def long_chain_values(T: Any, compiled: bool) -> Call:
    def step(x: Any) -> Any:
        with T.no_grad():
            y = x
            for _ in range(8):
                y = T.exp(-(y * y)) + T.cos(y) * 0.3 - T.sqrt(y.abs() + 1.0)
            return y

    return made(T, compiled, step, normal(T, 20_000))


# --- streaming, batch 1 --------------------------------------------------------------------------------------------------


@workload
def streaming_td_lambda(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    net = T.nn.Sequential(
        T.nn.Linear(8, 32), T.nn.LayerNorm(32, elementwise_affine=False), T.nn.LeakyReLU(), T.nn.Linear(32, 32),
        T.nn.LayerNorm(32, elementwise_affine=False), T.nn.LeakyReLU(), T.nn.Linear(32, 1),
    )  # fmt: skip
    parameters = list(net.parameters())
    traces = [T.zeros_like(p, requires_grad=False) for p in parameters]

    def step(obs: Any, following: Any, reward: Any) -> Any:
        value = net(obs)
        gradients = T.autograd.grad(value.sum(), parameters)
        with T.no_grad():
            delta = (reward + 0.99 * net(following) - value).squeeze()
            norm = T.zeros(())
            for e, g in zip(traces, gradients, strict=True):
                e.mul_(0.99 * 0.8).add_(g)
                norm = norm + e.abs().sum()
            size = 1.0 / T.clamp(2.0 * T.clamp(delta.abs(), min=1.0) * norm, min=1.0)
            for p, e in zip(parameters, traces, strict=True):
                p.add_(size * delta * e)
        return delta

    return made(T, compiled, step, normal(T, 1, 8), normal(T, 1, 8, seed=1), normal(T, 1, 1, seed=2) * 0.01)


@workload
def streaming_regression(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    net = mlp(T, 16, 64, 1, activation="ReLU")
    optimizer = T.optim.SGD(net.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = T.nn.functional.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 1, 16), normal(T, 1, 1, seed=1))


# --- others --------------------------------------------------------------------------------------------------------------


@workload
def embedding_bag(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    table, head = T.nn.Embedding(200, 16), mlp(T, 16, 32, 3, activation="ReLU")
    optimizer = T.optim.Adam([*table.parameters(), *head.parameters()], lr=1e-3)

    def step(words: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = T.nn.functional.cross_entropy(head(table(words).mean(1)), y)
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, integers(T, 200, 16, 10), integers(T, 3, 16))


@workload
def gelu_dropout_mlp(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    net = T.nn.Sequential(T.nn.Linear(32, 64), T.nn.LayerNorm(64), T.nn.GELU(), T.nn.Dropout(0.1), T.nn.Linear(64, 32))
    optimizer = T.optim.AdamW(net.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = T.nn.functional.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 32, 32), normal(T, 32, 32, seed=1))


@workload
def variational_autoencoder(T: Any, compiled: bool) -> Call:
    T.manual_seed(0)
    encoder, decoder = mlp(T, 16, 64, 8, activation="SiLU"), mlp(T, 4, 64, 16, activation="SiLU")
    optimizer = T.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)

    def step(x: Any) -> Any:
        mean, log_var = encoder(x).chunk(2, -1)
        z = mean + T.exp(0.5 * log_var) * T.randn_like(mean)
        error = T.nn.functional.binary_cross_entropy_with_logits(decoder(z), x.sigmoid())
        divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(-1).mean()
        loss = error + 0.1 * divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return made(T, compiled, step, normal(T, 32, 16))
