"""Dynamic batching, tree cells and programs: grouped runs give what single ones give."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from agents.networks import BinaryTreeLSTM, ChildSumTreeLSTM, DynamicBatch, ProgramNetwork, parse
from rlcore.errors import UnknownNameError
from tensor import nn
from tensor.ops.join import append_rows, take_rows

TREES = st.recursive(st.integers(0, 4), lambda t: st.lists(t, min_size=1, max_size=3).map(tuple), max_leaves=12)
BINARY = st.recursive(st.integers(0, 4), lambda t: st.tuples(t, t), max_leaves=12)


def gradients(loss, parameters):
    return [g.numpy() for g in T.autograd.grad(loss, list(parameters), allow_unused=True, materialize_grads=True)]


def close(a, b):
    return len(a) == len(b) and all(np.allclose(x, y, atol=1e-10) for x, y in zip(a, b, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(BINARY, min_size=1, max_size=6))
def test_binary_trees_together_are_those_alone(trees):
    T.manual_seed(0)
    node, words = BinaryTreeLSTM(3, 4).double(), T.randn(5, 3, dtype=T.float64)

    def alone(tree):
        return node(*alone(tree[0]), *alone(tree[1])) if isinstance(tree, tuple) else node.leaf(words[tree : tree + 1])

    batch = DynamicBatch()

    def noted(tree):
        call = batch(node, *noted(tree[0]), *noted(tree[1])) if isinstance(tree, tuple) else batch(node.leaf, words[tree])
        return call[0], call[1]

    together, single = batch.run([noted(t)[0] for t in trees]), T.cat([alone(t)[0] for t in trees])
    assert np.allclose(together.detach().numpy(), single.detach().numpy(), atol=1e-12)
    weight = T.randn(len(trees), 4, dtype=T.float64)
    assert close(*(gradients((y * weight).sum(), node.parameters()) for y in (together, single)))


@settings(max_examples=40, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=5))
def test_trees_of_any_branching_together_are_those_alone(trees):
    T.manual_seed(0)
    node, words = ChildSumTreeLSTM(3, 4).double(), T.randn(6, 3, dtype=T.float64)

    def of_children(x, *states):
        return node(x, T.stack(states[::2], 1), T.stack(states[1::2], 1))

    def build(tree, run):
        if not isinstance(tree, tuple):
            return run(node, words[tree])
        return run(of_children, words[5], *[part for child in tree for part in build(child, run)])

    def alone(function, *inputs):
        return [part[0] for part in function(*[x.unsqueeze(0) for x in inputs])]

    batch = DynamicBatch()

    def noted(function, *inputs):
        call = batch(function, *inputs)
        return call[0], call[1]

    together = batch.run([build(t, noted)[0] for t in trees])
    single = T.stack([build(t, alone)[0] for t in trees])
    assert np.allclose(together.detach().numpy(), single.detach().numpy(), atol=1e-12)
    assert close(*(gradients(y.square().sum(), node.parameters()) for y in (together, single)))


@pytest.mark.parametrize("children", [0, 1, 3])
def test_gradients_of_the_child_sum_cell(children):
    node = ChildSumTreeLSTM(2, 3).double()
    inputs = [T.randn(2, 2, dtype=T.float64, requires_grad=True)]
    if children:
        inputs += [T.randn(2, children, 3, dtype=T.float64, requires_grad=True) for _ in range(2)]
    assert T.autograd.gradcheck(node, inputs)
    if children:
        h, _ = node(inputs[0], inputs[1].flip(1), inputs[2].flip(1))  # the order of the children does not matter
        assert np.allclose(h.detach().numpy(), node(*inputs)[0].detach().numpy())


def test_gradients_of_the_binary_cell():
    node = BinaryTreeLSTM(2, 3).double()
    assert T.autograd.gradcheck(node, [T.randn(2, 3, dtype=T.float64, requires_grad=True) for _ in range(4)])
    assert T.autograd.gradcheck(node.leaf, [T.randn(2, 2, dtype=T.float64, requires_grad=True)])


def test_calls_that_are_alike_run_once():
    batch, sizes = DynamicBatch(), []

    def double(x):
        sizes.append(len(x))
        return 2 * x

    values = [batch(double, T.full((n,), 1.0)) for n in (1, 2, 1, 1, 2)]  # two shapes
    deeper = [batch(double, v) for v in values]
    assert batch.run([deeper[0], deeper[2], deeper[3]]).tolist() == [[4.0]] * 3
    assert sorted(sizes) == [2, 2, 3, 3]
    assert (batch.calls, batch.groups) == (10, 4)


def test_the_last_calls_of_trees_of_different_depths_run_together():
    batch = DynamicBatch()
    ends = []
    for depth in range(1, 6):
        y = T.ones(1)
        for _ in range(depth):
            y = batch(T.tanh, y)
        ends.append(batch(T.exp, y))
    batch.run(ends)
    assert batch.groups == 5 + 1


def test_plain_values_are_part_of_what_is_alike():
    batch, x = DynamicBatch(), T.tensor([2.0])
    powers = [batch(operator.pow, x, n) for n in (1, 2, 2, 3, 2.0)]
    assert batch.run(powers).flatten().tolist() == [2.0, 4.0, 4.0, 8.0, 4.0]
    assert batch.groups == 4  # 2 and 2.0 are not the same


def test_a_value_may_be_used_often_and_mixed_with_given_ones():
    batch, x = DynamicBatch(), T.tensor([3.0], dtype=T.float64, requires_grad=True)
    y = batch(T.mul, x, x)
    z = [batch(T.add, y, y), batch(T.add, y, x), batch(T.add, x, y)]
    result = batch.run(z)
    assert result.flatten().tolist() == [18.0, 12.0, 12.0]
    assert T.autograd.grad(result.sum(), x)[0].item() == 4 * 6 + 2


def test_running_goes_on_from_what_has_run():
    batch = DynamicBatch()
    y = batch(T.exp, T.zeros(2))
    assert batch.run([y]).tolist() == [[1.0, 1.0]]
    assert batch.run([batch(T.add, y, T.ones(2)), T.zeros(2)]).tolist() == [[2.0, 2.0], [0.0, 0.0]]


def test_running_goes_on_from_values_of_several_shapes_and_runs():
    batch, given = DynamicBatch(), [T.tensor(v, dtype=T.float64, requires_grad=True) for v in ([1.0], [2.0, 3.0], [4.0])]
    values = [batch(_halves, x) for x in given]
    parts = [(y[0], y[1]) for y in values]
    batch.run_noted()
    assert batch.groups == 2  # two shapes
    doubled = [batch(T.add, a, b) for a, b in parts]
    batch.run_noted()
    other = DynamicBatch()
    ends = [other(T.mul, doubled[0], parts[2][1]), other(T.mul, doubled[2], T.tensor([5.0], dtype=T.float64))]
    result = other.run([*ends, doubled[0], parts[2][0]])
    assert result.flatten().tolist() == [1.0 * 2.0, 4.0 * 5.0, 1.0, 2.0]
    gradients = T.autograd.grad(result.sum(), given, allow_unused=True)
    assert [g and g.tolist() for g in gradients] == [[2.0 + 1.0], None, [0.5 + 5.0 + 0.5]]


def test_one_function_may_take_any_number_of_inputs():
    batch = DynamicBatch()

    def total(*xs):
        return sum(xs)

    x = T.tensor([1.0])
    values = [batch(total, *[x] * n) for n in (1, 2, 1, 3)]
    deeper = batch(total, *values)
    assert batch.run([*values, deeper]).flatten().tolist() == [1.0, 2.0, 1.0, 3.0, 7.0]
    assert batch.groups == 4


@pytest.mark.parametrize("often", [1, 4])
@pytest.mark.parametrize("mixed", [False, True])
def test_what_is_given_often_gets_all_its_gradients(often, mixed):
    rows = T.randn(3, 2, dtype=T.float64, requires_grad=True)
    batch, words = DynamicBatch(), rows.unbind(0)
    values = [batch(T.exp, w) for w in [*words] * often]
    if mixed:
        values = [batch(T.mul, a, b) for a, b in zip(values, [*words, *values], strict=False)]
    result = batch.run(values)
    single = rows.exp().repeat(often, 1)
    if mixed:
        single = single * T.cat([rows, single])[: 3 * often]
    assert np.array_equal(result.detach().numpy(), single.detach().numpy())
    (mine, theirs) = (T.autograd.grad(y.square().sum(), rows)[0].numpy() for y in (result, single))
    assert np.allclose(mine, theirs, rtol=1e-13)


def test_gradients_of_gradients_go_through():
    w = T.tensor([0.3, -0.7], dtype=T.float64, requires_grad=True)

    def value(w):
        batch = DynamicBatch()
        y = batch(T.tanh, w)
        return batch.run([batch(T.mul, y, w), batch(T.mul, batch(T.sin, y), y)])

    assert T.autograd.gradcheck(value, [w])
    assert T.autograd.gradgradcheck(value, [w])


@pytest.mark.parametrize("row", [(2,), (), (2, 3), (0,)])
@pytest.mark.parametrize("memory", [None, 7])
def test_rows_appended_and_taken_in_between_give_all_gradients(memory, row):
    x, y, z = (T.randn(n, *row, dtype=T.float64, requires_grad=True) for n in (2, 3, 1))

    def collected(x, y, z):
        room = None if memory is None else np.full((memory, *row), np.nan)
        if room is not None:
            room[:2] = x._array
        two = append_rows(x, y, room)
        taken = take_rows(two, [1, 3, 1])
        three = append_rows(two, z, room)
        return T.cat([taken.square(), take_rows(three, [5, 0, 4]), take_rows(three, [3])])

    expected = T.stack([x[1] ** 2, y[1] ** 2, x[1] ** 2, z[0], x[0], y[2], y[1]])
    assert np.array_equal(collected(x, y, z).detach().numpy(), expected.detach().numpy())
    assert T.autograd.gradcheck(collected, [x, y, z])
    assert T.autograd.gradgradcheck(collected, [x, y, z])
    weight = T.randn(7, *row, dtype=T.float64)
    collected(x, y, z).mul(weight).sum().backward()
    for leaf, g in zip((x, y, z), T.autograd.grad(expected.mul(weight).sum(), (x, y, z)), strict=True):
        assert np.allclose(leaf.grad.numpy(), g.numpy(), rtol=1e-14)


def _several(x):
    return x, x


def _halves(x):
    return x / 2, x / 2


@pytest.mark.parametrize(
    "use, error, text",
    [
        (lambda b: b.run([]), ValueError, "expected at least one output, got none"),
        (lambda b: b.run([b(T.sum, T.ones(2))]), RuntimeError, r"expected 1 rows from sum for as many calls, got shape \[\]"),
        (lambda b: b.run([b(len, T.ones(2))]), RuntimeError, "expected 1 rows from len for as many calls, got int"),
        (lambda b: b.run([T.ones(2), 1.0]), TypeError, "expected outputs that are calls or tensors, got float"),
        (lambda b: b.run([b(T.mul, T.ones(2), [2.0])]), TypeError, "tensors, calls or hashable values, got list"),
        (
            lambda b: b.run([b(T.exp, DynamicBatch()(T.exp, T.ones(2)))]),
            RuntimeError,
            "got one of another batch that was not run",
        ),
        (lambda b: b(_several, T.ones(2))[0][1], TypeError, "got one of the values of a call"),
        (lambda b: (b.run([y := b(T.exp, T.ones(2))]), y[0]), RuntimeError, "got one that has; take it before"),
        (lambda b: b.run([T.ones(2), T.ones(3)]), RuntimeError, r"expected outputs of one shape, got \[2\], \[3\]"),
        (lambda b: b.run([b(_several, T.ones(2))]), RuntimeError, "one value each, got a call of several values"),
        (lambda b: b.run([DynamicBatch()(T.exp, T.ones(2))]), RuntimeError, "got one of another batch that was not run"),
        (lambda b: b.run([b(T.exp, b(_several, T.ones(2)))]), TypeError, "_several gives 2 values; take one by its number"),
        (lambda b: b.run([b(_several, T.ones(2))[2]]), IndexError, "_several gives 2 values; there is no number 2"),
        (lambda b: b.run([b(T.exp, T.ones(2))[0]]), TypeError, "expected a tuple of values from"),
        (lambda b: list(b(_several, T.ones(2))), TypeError, "take them by number, as in y"),
        (lambda b: bool(b(T.exp, T.ones(2))), TypeError, "the value is not known yet; run the batch first"),
    ],
)
def test_errors(use, error, text):
    with pytest.raises(error, match=text):
        use(DynamicBatch())


# --- programs ---------------------------------------------------------------------------------------------------------


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


ARITHMETIC = {"add": (2, operator.add), "sub": (2, operator.sub), "double": (1, lambda a: 2 * a), "neg": (1, operator.neg)}
PROGRAMS = st.recursive(
    st.sampled_from(["x", "y"]),
    lambda p: st.one_of(st.tuples(st.sampled_from(["add", "sub"]), p, p), st.tuples(st.sampled_from(["double", "neg"]), p)),
    max_leaves=10,
)


def evaluated(program, given):
    if not isinstance(program, tuple):
        return given[program]
    return ARITHMETIC[program[0]][1](*[evaluated(p, given) for p in program[1:]])


def tokens(program):
    return [t for p in program for t in tokens(p)] if isinstance(program, tuple) else [program]


@settings(max_examples=40, deadline=None)
@given(st.lists(PROGRAMS, min_size=1, max_size=8))
def test_each_example_runs_its_own_program(programs):
    net = ProgramNetwork({name: Apply(f) for name, (_, f) in ARITHMETIC.items()})
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-5, 6, (len(programs), 2)).astype(np.float64) for _ in range(2))
    got = net(programs, x=T.tensor(x), y=T.tensor(y)).numpy()
    expected = [evaluated(p, {"x": x[i], "y": y[i]}) for i, p in enumerate(programs)]
    assert np.array_equal(got, expected)
    arities = {name: n for name, (n, _) in ARITHMETIC.items()} | {"x": 0, "y": 0}
    assert [parse(tokens(p), arities) for p in programs] == programs


class Both(nn.Module):
    """A learnt function of two values."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 3)

    def forward(self, a, b):
        return self.inner(T.cat([a, b], 1)).tanh()


LEARNT = st.recursive(
    st.sampled_from(["x", "y"]),
    lambda p: st.one_of(st.tuples(st.sampled_from(["and", "or"]), p, p), st.tuples(st.sampled_from(["find", "not"]), p)),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(LEARNT, min_size=1, max_size=8))
def test_programs_together_learn_what_they_learn_alone(programs):
    """Values, and gradients of all parameters and of the inputs."""
    T.manual_seed(0)
    modules = {"and": Both(), "or": Both(), "find": nn.Linear(3, 3), "not": nn.Sequential(nn.Linear(3, 3), nn.Sigmoid())}
    net = ProgramNetwork(modules).double()
    inputs = {name: T.randn(len(programs), 3, dtype=T.float64, requires_grad=True) for name in "xy"}

    def alone(program, i):
        if not isinstance(program, tuple):
            return inputs[program][i : i + 1]
        return modules[program[0]](*[alone(p, i) for p in program[1:]])

    together, single = net(programs, **inputs), T.cat([alone(p, i) for i, p in enumerate(programs)])
    assert np.allclose(together.detach().numpy(), single.detach().numpy(), atol=1e-12)
    weight = T.randn(len(programs), 3, dtype=T.float64)
    leaves = [*net.parameters(), *inputs.values()]
    expected = gradients((single * weight).sum(), leaves)
    assert close(gradients((together * weight).sum(), leaves), expected)
    (net(programs, **inputs) * weight).sum().backward()  # not the same as `grad`: nothing is left out
    assert close([np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy() for leaf in leaves], expected)


def test_modules_learn_what_the_programs_say_of_them():
    """Each module learns its part from answers to whole programs, and serves in programs never seen."""
    T.manual_seed(0)
    rng = np.random.default_rng(0)
    net = ProgramNetwork({"turn": nn.Linear(2, 2, bias=False), "scale": nn.Linear(2, 2, bias=False)})
    truth = {"turn": np.array([[0, -1.0], [1, 0]], np.float32), "scale": np.array([[2, 0], [0, 0.5]], np.float32)}

    def examples(n, depths):
        programs, x, y = [], rng.normal(size=(n, 2)).astype(np.float32), np.empty((n, 2), np.float32)
        for i in range(n):
            program, y[i] = "x", x[i]
            for name in rng.choice(["turn", "scale"], rng.choice(depths)):
                program, y[i] = (str(name), program), truth[name] @ y[i]
            programs.append(program)
        return programs, T.tensor(x), T.tensor(y)

    optimizer = T.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(120):
        programs, x, y = examples(16, [1, 2, 3])
        optimizer.zero_grad()
        (net(programs, x=x) - y).square().mean().backward()
        optimizer.step()
    programs, x, y = examples(50, [5])
    with T.no_grad():
        assert (net(programs, x=x) - y).square().mean().item() < 1e-2


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda net: net([("ad", "x", "x")], x=T.ones(1, 2)), UnknownNameError, "unknown module 'ad'; did you mean 'add'"),
        (lambda net: net(["z"], x=T.ones(1, 2)), UnknownNameError, "unknown module 'z'"),
        (lambda net: net([("x", "x")], x=T.ones(1, 2)), UnknownNameError, "unknown module 'x'"),
        (lambda net: net(["x"], x=T.ones(2, 2)), ValueError, "a row of x for each of 1 programs, got 2"),
        (lambda _: parse(["add", "x"], {"add": 2, "x": 0}), ValueError, "expected a module, got the end of the program"),
        (lambda _: parse(["x", "x"], {"x": 0}), ValueError, "expected the program to end, got 'x' after it"),
        (lambda _: parse(["y"], {"x": 0}), UnknownNameError, "unknown module 'y'"),
    ],
)
def test_errors_of_programs(call, error, text):
    with pytest.raises(error, match=text):
        call(ProgramNetwork({"add": Apply(operator.add)}))
