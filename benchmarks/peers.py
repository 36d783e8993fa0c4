"""The learning step of `steps.py` written for its peers: JAX, and C as a person would write it for speed.

A 4-64-64-2 network of tanh, the mean squared error, and Adam; each function returns a call without arguments that does one step,
or None where the peer is not installed.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

SIZES = (4, 64, 64, 2)
Call = Callable[[], Any]


def batch_of(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Fixed inputs and targets."""
    rng = np.random.default_rng(size)
    return rng.normal(size=(size, SIZES[0])).astype("f"), rng.normal(size=(size, SIZES[-1])).astype("f")


def jax_step(size: int) -> Call | None:
    """One jitted function of parameters and moments, whose memory is handed over to the results."""
    try:
        jax = importlib.import_module("jax")
    except ImportError:
        return None
    jnp = jax.numpy
    rng = np.random.default_rng(0)
    weights = [(jnp.asarray(rng.normal(size=s).astype("f") * 0.1), jnp.zeros(s[1])) for s in pairwise(SIZES)]

    def loss(weights: Any, x: Any, y: Any) -> Any:
        *hidden, (w, b) = weights
        for hw, hb in hidden:
            x = jnp.tanh(x @ hw + hb)
        return jnp.square(x @ w + b - y).mean()

    def update(state: Any, x: Any, y: Any) -> Any:
        weights, first, second, t = state
        t = t + 1
        slopes = jax.grad(loss)(weights, x, y)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slopes)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slopes)
        rate, root = 1e-3 / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        weights = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), weights, first, second)
        return weights, first, second, t

    step = jax.jit(update, donate_argnums=0)
    zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
    state = (weights, *zeros, jnp.float32(0))
    x, y = batch_of(size)

    def call() -> None:
        nonlocal state
        state = step(state, x, y)
        jax.block_until_ready(state)

    return call


C_SOURCE = r"""
#include <math.h>
#include <string.h>
enum { IN = 4, HIDDEN = 64, OUT = 2 };

/* Clang and GCC vectorise this where they would call libm for tanhf. */
static inline float fast_tanh(float x) {
    x = fminf(fmaxf(x, -9.0f), 9.0f);
    float e = expf(-2.0f * fabsf(x)), t = (1.0f - e) / (1.0f + e);
    return copysignf(t, x);
}

static inline void forward(const float *restrict x, const float *restrict w, const float *restrict b, float *restrict y,
                           int n, int m) {
    memcpy(y, b, m * sizeof *y);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++) y[j] += x[i] * w[i * m + j];
}

/* Adds the slopes of w and b; gives the slope of x, times that of tanh where x came out of one. */
static inline void backward(const float *restrict x, const float *restrict w, const float *restrict dy, float *restrict dw,
                            float *restrict db, float *restrict dx, int n, int m) {
    for (int j = 0; j < m; j++) db[j] += dy[j];
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int j = 0; j < m; j++) {
            dw[i * m + j] += x[i] * dy[j];
            sum += w[i * m + j] * dy[j];
        }
        if (dx) dx[i] = sum * (1 - x[i] * x[i]);
    }
}

struct layers { float w1[IN * HIDDEN], b1[HIDDEN], w2[HIDDEN * HIDDEN], b2[HIDDEN], w3[HIDDEN * OUT], b3[OUT]; };
static struct layers p, g, m, v;

void start(const float *values) { memcpy(&p, values, sizeof p); memset(&m, 0, sizeof m); memset(&v, 0, sizeof v); }

void step(int batch, const float *x, const float *y, float rate, float root) {
    memset(&g, 0, sizeof g);
    for (int k = 0; k < batch; k++, x += IN, y += OUT) {
        float h1[HIDDEN], h2[HIDDEN], out[OUT], d1[HIDDEN], d2[HIDDEN], d3[OUT];
        forward(x, p.w1, p.b1, h1, IN, HIDDEN);
        for (int j = 0; j < HIDDEN; j++) h1[j] = fast_tanh(h1[j]);
        forward(h1, p.w2, p.b2, h2, HIDDEN, HIDDEN);
        for (int j = 0; j < HIDDEN; j++) h2[j] = fast_tanh(h2[j]);
        forward(h2, p.w3, p.b3, out, HIDDEN, OUT);
        for (int j = 0; j < OUT; j++) d3[j] = 2 * (out[j] - y[j]) / (batch * OUT);
        backward(h2, p.w3, d3, g.w3, g.b3, d2, HIDDEN, OUT);
        backward(h1, p.w2, d2, g.w2, g.b2, d1, HIDDEN, HIDDEN);
        backward(x, p.w1, d1, g.w1, g.b1, 0, IN, HIDDEN);
    }
    float *P = (float *)&p, *G = (float *)&g, *M = (float *)&m, *V = (float *)&v;
    for (size_t i = 0; i < sizeof p / sizeof *P; i++) {
        M[i] = 0.9f * M[i] + 0.1f * G[i];
        V[i] = 0.999f * V[i] + 0.001f * G[i] * G[i];
        P[i] -= rate * M[i] / (sqrtf(V[i]) / root + 1e-8f);
    }
}
"""


def c_step(size: int) -> Call | None:
    """The same by the C compiler of this machine, which only this benchmark wants."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    source = Path(tempfile.mkdtemp()) / "step.c"
    source.write_text(C_SOURCE)
    library = source.with_suffix(".so")
    options = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, str(source), "-o", str(library), "-lm"], check=True)
    code = ctypes.CDLL(str(library))
    pointer, real = ctypes.c_void_p, ctypes.c_float
    code.start.argtypes, code.step.argtypes = [pointer], [ctypes.c_int, pointer, pointer, real, real]
    count = sum(i * o + o for i, o in pairwise(SIZES))
    initial = (np.random.default_rng(0).normal(size=count) * 0.1).astype("f")
    code.start(initial.ctypes.data)
    x, y = batch_of(size)
    arguments = (size, x.ctypes.data, y.ctypes.data)
    t = 0

    def call(keep: Any = (x, y)) -> None:
        nonlocal t
        t += 1
        code.step(*arguments, 1e-3 / (1 - 0.9**t), (1 - 0.999**t) ** 0.5)

    return call
