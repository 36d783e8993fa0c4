#!/usr/bin/env python3
"""Stream AC on MuJoCo's HalfCheetah: steps a second here and with the same arithmetic written in PyTorch, taking turns.

`python benchmarks/streaming.py [--steps 2000] [--rounds 5]`, where PyTorch and `gymnasium[mujoco]` are installed.

Records in ``benchmarks/results/streaming.json``; about a minute on two cores.
"""

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from gymnasium.spaces import Box  # noqa: E402

from agents.stream_ac import StreamAC, StreamACConfig  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FLOOR = 4.0
ENV = "HalfCheetah-v5"


class Ours:
    """`stream-ac` as it is registered."""

    def __init__(self, observation: Box, action: Box) -> None:
        flat = Box(-np.inf, np.inf, observation.shape, np.float32)
        self.agent = StreamAC(StreamACConfig(), flat, action, num_envs=1, total_steps=1_000_000, seed=0)
        self.agent.prepare()
        self.valid = np.array([True])

    def act(self, observation: Any) -> Any:
        return self.agent.act(observation.astype(np.float32)[None])[0]

    def learn(self, x: Any, action: Any, reward: float, y: Any, terminated: bool, truncated: bool) -> None:
        rewards, ends = np.array([reward], np.float32), (np.array([terminated]), np.array([truncated]))
        rows = x.astype(np.float32)[None], action[None], rewards, y.astype(np.float32)[None]
        self.agent.observe(*rows, *ends, self.valid)
        self.agent.learn()


class Welford:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(shape), np.zeros(shape)

    def update(self, x: Any) -> None:
        self.count += 1
        delta = x - self.mean
        self.mean = self.mean + delta / self.count
        self.squares = self.squares + delta * (x - self.mean)

    def std(self) -> Any:
        return np.sqrt((self.squares / self.count if self.count > 1 else np.ones_like(self.squares)) + 1e-8)


class PyTorch:
    """The same networks, statistics, traces and steps."""

    def __init__(self, observation: Box, action: Box, config: StreamACConfig) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.config, self.size = config, action.shape[0]
        inputs = observation.shape[0]
        self.actor, self.critic = self._network(inputs, 2 * self.size), self._network(inputs, 1)
        self.parameters = list(self.actor.parameters()), list(self.critic.parameters())
        self.traces = tuple([torch.zeros_like(p) for p in part] for part in self.parameters)
        self.observations, self.returns = Welford(observation.shape), Welford(())
        self.running, self.fresh = 0.0, True

    def _network(self, inputs: int, outputs: int) -> Any:
        sizes, layers = [inputs, *self.config.hidden_sizes], []
        for a, b in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(a, b), torch.nn.LayerNorm(b, elementwise_affine=False), torch.nn.LeakyReLU()]
        layers.append(torch.nn.Linear(sizes[-1], outputs))
        for layer in layers:
            if isinstance(layer, torch.nn.Linear):
                units, width = layer.weight.shape
                with torch.no_grad():
                    layer.weight.uniform_(-(width**-0.5), width**-0.5)
                    for i in range(units):
                        layer.weight[i, torch.randperm(width)[: math.ceil(self.config.sparsity * width)]] = 0
                    layer.bias.zero_()
        return torch.nn.Sequential(*layers)

    def _scaled(self, x: Any) -> Any:
        return torch.from_numpy(((x - self.observations.mean) / self.observations.std()).astype(np.float32)[None])

    def _policy(self, x: Any) -> tuple[Any, Any]:
        outputs = self.actor(x)
        return outputs[:, : self.size], torch.nn.functional.softplus(outputs[:, self.size :]) + 1e-6

    def act(self, observation: Any) -> Any:
        with torch.no_grad():
            mean, std = self._policy(self._scaled(observation))
            return (mean + std * torch.randn_like(mean)).numpy()[0]

    def learn(self, x: Any, action: Any, reward: float, y: Any, terminated: bool, truncated: bool) -> None:
        c = self.config
        self.observations.update(x)
        self.running = self.running * c.gamma + reward
        self.returns.update(np.float64(self.running))
        ends = terminated or truncated
        if ends:
            self.running = 0.0
        scaled = reward / float(self.returns.std())
        now, after = self._scaled(x), self._scaled(y)
        value = self.critic(now)
        with torch.no_grad():
            delta = (scaled + (0.0 if terminated else c.gamma) * self.critic(after) - value).item()
        mean, std = self._policy(now)
        z = (torch.from_numpy(action[None]) - mean) / std
        log_prob = ((z * z) * -0.5 - std.log() - 0.5 * math.log(2 * math.pi)).sum()
        entropy = (std.log() + 0.5 + 0.5 * math.log(2 * math.pi)).sum()
        score = log_prob + entropy * (math.copysign(1.0, delta) * c.entropy_coefficient)
        decay, self.fresh = 0.0 if self.fresh else c.gamma * c.trace_decay, ends
        gradients = torch.autograd.grad(score, self.parameters[0]), torch.autograd.grad(value.sum(), self.parameters[1])
        with torch.no_grad():
            for parameters, traces, part, kappa in zip(
                self.parameters, self.traces, gradients, (c.kappa_policy, c.kappa_value), strict=True
            ):
                torch._foreach_mul_(traces, decay)
                torch._foreach_add_(traces, part)
                norm = torch.stack(torch._foreach_norm(traces, 1)).sum().item()
                bound = max(1.0, kappa * c.step_size * max(abs(delta), 1.0) * norm)
                torch._foreach_add_(parameters, traces, alpha=delta * c.step_size / bound)


class Run:
    """One learner in its own environment."""

    def __init__(self, learner: Any) -> None:
        self.learner, self.env = learner, gymnasium.make(ENV)
        self.observation, _ = self.env.reset(seed=0)

    def steps(self, n: int) -> float:
        """Steps a second, with those of the environment."""
        start = time.perf_counter()
        for _ in range(n):
            action = self.learner.act(self.observation)
            y, reward, terminated, truncated, _ = self.env.step(np.clip(action, -1, 1))
            self.learner.learn(self.observation, action, float(reward), y, terminated, truncated)
            self.observation = y
            if terminated or truncated:
                self.observation, _ = self.env.reset()
        return n / (time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "streaming.json")
    arguments = parser.parse_args()
    env = gymnasium.make(ENV)
    observation, action = env.observation_space, env.action_space
    runs = {"ours": Run(Ours(observation, action)), "pytorch": Run(PyTorch(observation, action, StreamACConfig()))}
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run.steps(200)
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            speeds[name].append(run.steps(arguments.steps))
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["pytorch"], strict=True)]
    ratio = statistics.median(ratios)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"{ENV}, steps/s with those of the environment: ours {medians['ours']:,.0f}, PyTorch {medians['pytorch']:,.0f}")
    print(f"ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); floor {FLOOR}: {'ok' if ratio >= FLOOR else 'MISSED'}")
    machine = {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()}
    result = {
        "env": ENV,
        "steps_per_s": medians,
        "ratio": ratio,
        "ratios": ratios,
        "torch": torch.__version__,
        "machine": machine,
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if ratio >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
