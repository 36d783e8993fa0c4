"""What people who come from PyTorch get wrong is answered in one line."""

import warnings

import numpy as np
import pytest

import tensor as T
from tensor import nn, optim, structure

F = nn.functional
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, nn.MSELoss()])
def test_a_row_beside_a_column_is_warned_of_where_it_is_written(loss):
    with pytest.warns(
        UserWarning, match=r"loss: the target's shape \[3\] is not the input's \[3, 1\]: both are broadcast"
    ) as seen:
        loss(T.zeros(3, 1), T.zeros(3))
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(T.zeros(3, 1), T.zeros(3, 1))
        loss(T.zeros(3, 1), T.tensor(0.0))


@pytest.mark.parametrize(
    "call, error, text",
    [
        (
            lambda: F.cross_entropy(T.zeros(3, 4), T.zeros(3)),
            RuntimeError,
            r"expected integer classes of shape \[3\], or probabilities of shape \[3, 4\], got tensor.float32 of shape \[3\]; target.long",
        ),
        (
            lambda: F.binary_cross_entropy(T.rand(3, 1), T.zeros(3)),
            ValueError,
            r"^binary_cross_entropy: expected a target of the input's shape \[3, 1\], got \[3\]$",
        ),
        (lambda: F.binary_cross_entropy_with_logits(T.rand(3, 1), T.zeros(3)), ValueError, r"shape \[3, 1\], got \[3\]$"),
        (lambda: optim.Adam(net), TypeError, r"got Linear as parameter 0; net.parameters\(\) gives those of a module$"),
        (lambda: optim.Adam(net.parameters), TypeError, r"such as net.parameters\(\), got a method that was not called$"),
        (lambda: optim.Adam(net.parameters(), lr="1e-3"), TypeError, r"^Adam: expected lr in numbers, got '1e-3'$"),
        (
            lambda: structure.grow(net, 0, 8),
            TypeError,
            r"the name of a layer in it, such as '0' or 'body.0', got Sequential and 0$",
        ),
        (lambda: structure.grow(net, net[0], 8), TypeError, r"such as '0' or 'body.0', got the Linear itself$"),
        (lambda: structure.grow(net, "0", 8.5), TypeError, r"^grow: expected a whole number of units, got 8.5$"),
        (
            lambda: T.bfloat16,
            AttributeError,
            r"^module 'tensor' has no attribute 'bfloat16': there are float16, float32 and float64$",
        ),
        (
            lambda: T.einsum("ij,jk->ik", T.zeros(2, 3), T.zeros(4, 5)),
            RuntimeError,
            r"^einsum: expected one size for 'j' of 'ij,jk->ik', got 3 and, in operand 1, 4$",
        ),
        (
            lambda: T.einsum("ijk->i", T.zeros(2, 3)),
            RuntimeError,
            r"the term 'ijk' has 3 letters, got operand 0 of shape \[2, 3\]$",
        ),
        (lambda: T.randint(0, 5), TypeError, r"^randint: expected a size such as \(3,\) after the bounds, got 5$"),
        (lambda: nn.Linear(4 / 2, 2), TypeError, r"^Linear: expected whole numbers of features, got 2.0 and 2$"),
        (
            lambda: nn.Sequential([net]),
            TypeError,
            r"^Sequential.0: expected a Module or None, got a list; a star before it unpacks it$",
        ),
        (lambda: nn.Sequential(net, nn.Tanh), TypeError, r"got the class Tanh; Tanh\(\) makes one$"),
        (
            lambda: setattr(nn.Linear(1, 1), "weight", T.zeros(1, 1)),
            TypeError,
            r"got Tensor; nn.Parameter\(...\) makes one of it, or delete",
        ),
        (lambda: nn.LSTM(4, 8)(T.zeros(3, 5, 3)), RuntimeError, r"an input of 4 features, got 3 in shape \[3, 5, 3\]$"),
        (lambda: T.sum(T.zeros(2), dimm=0), TypeError, "dimm"),
    ],
)
def test_one_line_says_what_to_do(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_the_loader_is_imported_as_in_pytorch():
    from tensor.utils.data import DataLoader

    assert DataLoader is T.data.DataLoader is T.utils.data.DataLoader


def test_numpys_integers_are_bounds():
    assert T.randint(0, np.int64(5), (2,)).shape == (2,)
    assert nn.Linear(np.int64(2), 1).in_features == 2
    assert T.einsum("ij,ij->i", T.ones(2, 1), T.ones(2, 3)).tolist() == [3, 3]


def test_names_that_are_not_there_are_left_to_python_to_guess():
    with pytest.raises(AttributeError) as caught:
        T.matmull  # noqa: B018
    assert caught.value.name == "matmull"
    assert caught.value.obj is T
    assert T.__version__[0].isdigit()


def test_an_edit_that_left_the_optimizer_behind_says_how_to_take_it_along():
    grown = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = optim.Adam(grown.parameters())
    grown(T.randn(4, 2)).sum().backward()
    optimizer.step()
    structure.grow(grown, "0", 2).apply()
    with pytest.raises(RuntimeError, match=r"from \[3, 2\] to \[5, 2\]; an edit takes the optimizer along by edit.apply"):
        optimizer.step()


def test_files(tmp_path):
    with pytest.raises(TypeError, match=r"cannot save a tensor.nn.container.Sequential; expected .*; save its state_dict\(\)$"):
        T.save(net, tmp_path / "net.safetensors")
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*nowhere'$"):
        T.save(net.state_dict(), tmp_path / "nowhere" / "net.safetensors")
