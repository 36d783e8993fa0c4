"""Modules that hold others, and lists and dictionaries of parameters."""

import pytest

import tensor as T
from tensor import nn


def test_sequential_and_lists_behave_like_lists():
    a, b, c = nn.Linear(1, 1), nn.ReLU(), nn.Tanh()
    net = nn.Sequential(a, b)
    net.append(c).insert(0, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Identity", "Linear", "ReLU", "Tanh"]
    assert list(net._modules) == ["0", "1", "2", "3"]
    assert net[1:3]._modules == {"1": a, "2": b}
    del net[0]
    assert net.pop() is c
    net[1] = c
    assert list(net) == [a, c]
    assert net[-1] is c
    with pytest.raises(IndexError, match="index 5 is out of range for 2 entries"):
        net[5]
    assert list(nn.Sequential({"x": a})._modules) == ["x"]
    rows = nn.ModuleList([a]).extend([b, c])
    assert list(rows[1:]) == [b, c]
    with pytest.raises(TypeError, match="expected a Module or None, got str"):
        nn.Sequential("x")


def test_dicts_and_parameter_lists():
    d = nn.ModuleDict({"a": nn.ReLU()})
    d.update([("b", nn.Tanh())])
    assert (list(d), "a" in d, len(d)) == (["a", "b"], True, 2)
    assert repr(d.pop("a")) == "ReLU()"
    with pytest.raises(KeyError, match="no module 'a'; the only one is 'b'"):
        d["a"]
    with pytest.raises(KeyError, match="exists already"):
        d["forward"] = nn.ReLU()
    d.clear()
    assert not len(d)
    row = nn.ParameterList([T.ones(1)]).append(T.zeros(2))
    row[0] = T.zeros(3)
    assert [tuple(p.shape) for p in row.parameters()] == [(3,), (2,)]
    table = nn.ParameterDict({"w": T.ones(1)})
    del table["w"]
    assert not len(table)


def test_rows_can_be_added_repeated_and_sliced_into():
    a, b, c = nn.Linear(1, 1), nn.ReLU(), nn.Tanh()
    net = nn.Sequential(a, b)
    both = net + nn.Sequential(c)
    assert (type(both), list(both), list(net)) == (nn.Sequential, [a, b, c], [a, b])
    net += [c]
    assert list(net._modules) == ["0", "1", "2"]
    net[1:] = [c, b]
    assert list(net) == [a, c, b]
    with pytest.raises(ValueError, match="expected 2 modules for the slice, got 1"):
        net[1:] = [c]
    twice = nn.Sequential(a) * 2
    assert list(twice) == [a, a]
    assert list(2 * nn.Sequential(b)) == [b, b]
    assert len(list(twice.parameters())) == 2
    twice *= 2
    assert len(twice) == 4
    with pytest.raises(ValueError, match="a positive number of times, got 0"):
        net * 0
    del net[:2]
    assert list(net) == [b]
    rows = nn.ModuleList([a])
    rows = rows + nn.ModuleList([b])
    assert (type(rows), list(rows)) == (nn.ModuleList, [a, b])
    rows += [c]
    assert c in rows


def test_parameter_lists_and_dicts_are_complete():
    row = nn.ParameterList([T.ones(1), T.zeros(2)])
    row += [T.zeros(3)]
    assert [len(p) for p in row] == [1, 2, 3]
    part = row[1:]
    assert isinstance(part, nn.ParameterList)
    assert part[0] is row[1]
    table = nn.ParameterDict([("a", T.ones(1)), ("b", T.ones(2))])
    assert table.get("a") is table["a"]
    assert table.get("c") is None
    assert table.setdefault("c", T.ones(3)) is table["c"]
    assert list(reversed(table)) == ["c", "b", "a"]
    joined = table | {"d": T.ones(4)}
    assert (list(joined), len(table)) == (["a", "b", "c", "d"], 3)
    assert joined["a"] is table["a"]
    table |= {"e": T.ones(5)}
    assert table.popitem()[0] == "e"
    assert table.pop("b").shape == (2,)
    assert list(table.copy()) == ["a", "c"]
    assert list(table.fromkeys(["x", "y"], T.ones(1))) == ["x", "y"]
    with pytest.raises(KeyError, match="ParameterDict: no parameter 'b'; there are 'a', 'c'"):
        table["b"]
    table.clear()
    with pytest.raises(KeyError, match="popitem of an empty dictionary"):
        table.popitem()
