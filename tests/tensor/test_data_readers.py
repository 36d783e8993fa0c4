"""Readers of files, whole, missing and damaged; and transforms."""

from __future__ import annotations

import contextlib
import gzip
import pickle
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor.data import DataLoader, readers, transforms

RNG = np.random.default_rng(0)


def idx(array: Any) -> bytes:
    code = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}[array.dtype.name]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


# --- IDX -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(dtype: str, suffix: str, tmp_path: Path) -> None:
    array = RNG.integers(0, 100, (3, 2, 4)).astype(dtype)
    read = readers.read_idx(put(tmp_path / f"x{suffix}", idx(array)))
    assert read.dtype.name == array.dtype.name
    assert (read.numpy() == array).all()


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", r"expected it to begin with 0, 0, a dtype and a number of dimensions, got \[\]"), (b"\x80\x04\x95\0", r"got \[128, 4, 149, 0\]"),
        (b"\0\0\x08\x03\0\0", "the header of an IDX file with 3 dimensions is cut off"), (idx(np.zeros(5, "u1"))[:-1], r"expected 13 bytes for uint8\[5\], got 12"),
        (idx(np.zeros(5, "u1")) + b"!", r"expected 13 bytes for uint8\[5\], got more"),
        (b"\0\0\x08\x03" + b"\xff" * 12, r"expected \d+ bytes for uint8\[4294967295, 4294967295, 4294967295\], got 16"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_idx_file(content: bytes, text: str, suffix: str, tmp_path: Path) -> None:
    path = put(tmp_path / f"x{suffix}", content)
    with pytest.raises(ValueError, match=text) as caught:
        readers.read_idx(path)
    assert str(path) in str(caught.value)


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(idx(RNG.integers(0, 255, 1000).astype("u1")))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (whole[:-20], bytes(flipped), b"no gzip"):
        path = tmp_path / "x.gz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole gzip file"):
            readers.read_idx(path)


@given(st.binary(max_size=40), st.integers(0, 3))
def test_no_bytes_do_harm(content: bytes, kind: int) -> None:
    """Whatever a file holds: an array, or a ValueError."""
    prefix, reader = [
        (b"\0\0\x08\x01", readers.read_idx),
        (b"P6 ", readers.read_image),
        (b"\x93NUMPY\x01\0", readers.read_image),
        (b"a,b\n", readers.CSV),
    ][kind]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / ["x", "x.ppm", "x.npy", "x.csv"][kind]
        path.write_bytes(prefix + content)
        with contextlib.suppress(ValueError):
            assert len(reader(path)) >= 0  # type: ignore[arg-type, operator]


def test_mnist(tmp_path: Path) -> None:
    pictures, digits = RNG.integers(0, 256, (20, 28, 28)).astype("u1"), RNG.integers(0, 10, 20).astype("u1")
    put(tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz", idx(pictures))
    put(tmp_path / "MNIST/raw/train-labels-idx1-ubyte", idx(digits))
    put(tmp_path / "t10k-images-idx3-ubyte", idx(pictures[:5]))
    put(tmp_path / "t10k-labels-idx1-ubyte.gz", idx(digits[:5]))
    train = readers.MNIST(tmp_path, transform=transforms.ToTensor(), target_transform=str)
    picture, digit = train[3]
    assert (picture.shape, picture.dtype, digit) == ((1, 28, 28), T.float32, str(digits[3]))
    assert np.allclose(picture.numpy()[0], pictures[3] / 255, rtol=1e-6)
    test = readers.MNIST(tmp_path, train=False)
    assert (len(test), test.data.shape, test.targets.tolist()) == (5, (5, 28, 28), digits[:5].tolist())
    (batch,) = DataLoader(test, 5)
    assert [x.dtype for x in batch] == [T.uint8, T.int64]
    put(tmp_path / "t10k-labels-idx1-ubyte.gz", idx(digits[:4]))
    with pytest.raises(ValueError, match=r"MNIST: expected pictures .* got \[5, 28, 28\] and \[4\] up to \d"):
        readers.MNIST(tmp_path, train=False)
    put(tmp_path / "t10k-labels-idx1-ubyte.gz", idx(np.full(5, 10, "u1")))
    with pytest.raises(ValueError, match=r"classes below 10, .* up to 10"):
        readers.MNIST(tmp_path, train=False)


def test_a_missing_file_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        readers.FashionMNIST(tmp_path)
    text = str(caught.value)
    for part in (
        "train-images-idx3-ubyte.gz",
        f"{tmp_path}/FashionMNIST/raw",
        "https://github.com/zalandoresearch/fashion-mnist",
    ):
        assert part in text
    with pytest.raises(FileNotFoundError, match=r"CSV: no such file: .*/none.csv"):
        readers.CSV(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match=r"TextWindows: no such file: .*/none.txt"):
        readers.TextWindows(tmp_path / "none.txt", 3)
    with pytest.raises(FileNotFoundError, match="ImageFolder: expected a folder of pictures for each class in"):
        readers.ImageFolder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"ImageFolder: found no pictures in .*/empty; it looks for .bmp"):
        readers.ImageFolder(tmp_path)


# --- CIFAR -----------------------------------------------------------------------------------------------------------


def test_cifar(tmp_path: Path) -> None:
    pictures = RNG.integers(0, 256, (10, 3, 32, 32)).astype("u1")
    labels = RNG.integers(0, 10, (10, 1)).astype("u1")
    records = np.concatenate([labels, pictures.reshape(10, -1)], axis=1)
    names = b"airplane automobile bird cat deer dog frog horse ship truck".replace(b" ", b"\n")
    for i in range(5):
        put(tmp_path / f"cifar-10-batches-bin/data_batch_{i + 1}.bin", records[2 * i : 2 * i + 2].tobytes())
    put(tmp_path / "cifar-10-batches-bin/batches.meta.txt", names)
    train = readers.CIFAR10(tmp_path)
    assert train.classes[3] == "cat"
    assert train.targets.tolist() == labels[:, 0].tolist()
    assert (train[4][0] == pictures[4].transpose(1, 2, 0)).all()
    with pytest.raises(FileNotFoundError, match=r"test_batch.bin into .*/cifar-10-batches-bin or into .*cifar-10-binary.tar.gz"):
        readers.CIFAR10(tmp_path, train=False)
    put(tmp_path / "test_batch.bin", records.tobytes()[:-1])
    with pytest.raises(ValueError, match=r"test_batch.bin: expected records of 3073 bytes, got 30729 bytes"):
        readers.CIFAR10(tmp_path, train=False)
    put(tmp_path / "test_batch.bin", b"\x0a" + records.tobytes()[1:])
    with pytest.raises(ValueError, match="expected classes below 10, got 10"):
        readers.CIFAR10(tmp_path, train=False)
    put(tmp_path / "cifar-100-binary/fine_label_names.txt", names)
    put(tmp_path / "cifar-100-binary/test.bin", np.concatenate([labels + 50, records], axis=1).astype("u1").tobytes())
    assert readers.CIFAR100(tmp_path, train=False).targets.tolist() == labels[:, 0].tolist()


def test_cifar_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path / "sprung").touch, ()

    for name in ("data_batch_1", "data_batch_1.bin", "batches.meta", "batches.meta.txt"):
        for folder in ("cifar-10-batches-py", "."):
            put(tmp_path / folder / name, pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="expected records of 3073 bytes"):
        readers.CIFAR10(tmp_path)
    (tmp_path / "batches.meta.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"in cifar-10-batches-py is a pickle, which may run code .*: take the binary version"
    ):
        readers.CIFAR10(tmp_path)
    assert not (tmp_path / "sprung").exists()


# --- pictures --------------------------------------------------------------------------------------------------------


def test_image_folder(tmp_path: Path) -> None:
    red = np.zeros((2, 3, 3), "u1")
    red[..., 0] = 200
    put(tmp_path / "red/deep/a.ppm", b"P6\n# a comment\n3 2\n255\n" + red.tobytes())
    put(tmp_path / "red/notes.txt", b"no picture")
    put(tmp_path / "grey/b.pgm", b"P5 2 1 255\n" + bytes([7, 9]))
    np.save(tmp_path / "grey" / "c.npy", np.ones((2, 2)))
    folder = readers.ImageFolder(tmp_path, target_transform=lambda t: t * 10)
    assert (folder.classes, folder.class_to_idx, folder.targets) == (["grey", "red"], {"grey": 0, "red": 1}, [0, 0, 1])
    assert folder[0][0].tolist() == [[[7, 7, 7], [9, 9, 9]]]
    assert folder[1][0].dtype == np.float64
    assert (folder[2][0] == red).all()
    assert folder[2][1] == 10
    np.save(tmp_path / "grey" / "c.npy", np.array([print], object))
    with pytest.raises(ValueError, match=r"c.npy: not a readable .npy file: Object arrays cannot be loaded"):
        folder[1]
    put(tmp_path / "grey/b.pgm", b"P5 2 2 255\n" + bytes([7, 9]))
    with pytest.raises(ValueError, match=r"b.pgm: expected 4 bytes of pixels up to 255 for 2 x 2, got 2 up to 255"):
        folder[0]


def test_pictures_by_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = RNG.integers(0, 256, (4, 5, 3)).astype("u1")
    image.fromarray(pixels).save(tmp_path / "x.png")
    assert (readers.read_image(tmp_path / "x.png") == pixels).all()
    whole = (tmp_path / "x.png").read_bytes()
    for content in (whole[:50], b"no picture", whole[:40] + b"\0" * 30 + whole[70:]):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"x.png: not a readable picture"):
            readers.read_image(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError):
        readers.read_image(tmp_path / "none.png")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"reading .png files needs Pillow: pip install 'rlcore\[images\]'"):
        readers.read_image(tmp_path / "x.png")


# --- tables ----------------------------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('size, count ,"kind",price\n1.5,2,"big, red",3\n\n?,4,small,5\n', encoding="utf-8-sig")
    table = readers.CSV(path, target="kind", dtypes={"kind": "category", "price": T.float64})
    assert table.columns == ["size", "count", "price"]
    assert table.data.dtype == T.float64
    assert np.array_equal(table.data.numpy(), [[1.5, 2, 3], [np.nan, 4, 5]], equal_nan=True)
    assert table[0][1] == 0
    assert table.categories == {"kind": ["big, red", "small"]}
    assert table.targets is not None
    assert table.targets.tolist() == [0, 1]
    whole = readers.CSV(path, columns=["count"], target="price", transform=lambda row: row.sum(), target_transform=float)
    assert (whole.data.dtype, whole[1], len(whole)) == (T.int64, (4, 5.0), 2)
    assert readers.CSV(path, columns=["count", "size"], fill=-1).data.tolist() == [[2, 1.5], [4, -1]]
    path.write_text("1;2\n3;4\n")
    assert readers.CSV(path, header=False, delimiter=";", columns=[1]).data.tolist() == [[2], [4]]


@pytest.mark.parametrize(
    "content, options, text",
    [
        ("", {}, "expected rows, got an empty file"), ("a,b\n1,2\n\n3\n", {}, "line 4: expected 2 fields, got 1"), ("a,a\n", {}, "columns of different names, got a, a"),
        ("a,b\n1,x\n", {}, "line 2: column 'b': expected a number, got 'x'; leave text out with columns=, or give dtypes={'b': 'category'}"),
        ("a\n1\n", {"target": "b"}, "has no column 'b'; the only one is 'a'"), ("a\n1\n", {"dtypes": {"c": "category"}}, "has no column 'c'"),
        ("a\nNA\n", {"dtypes": {"a": T.int64}}, "line 2: column 'a': expected a value of int64, got 'NA'; give fill= for missing values"),
        ("a\n1.5\n", {"dtypes": {"a": T.int64}}, "column 'a': expected a value of int64, got '1.5'"), ("a\n300\n", {"dtypes": {"a": T.uint8}}, "expected a value of uint8, got '300'"),
        ('a\n"1\n', {}, "not a readable CSV file: unexpected end of data"), ("a\n\xff\n".encode("latin-1"), {}, "not a readable CSV file: 'utf-8' codec"),
    ],
)  # fmt: skip
def test_a_csv_file_that_is_not_as_expected(content: Any, options: Any, text: str, tmp_path: Path) -> None:
    path = put(tmp_path / "x.csv", content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"x\.csv") as caught:
        readers.CSV(path, **options)
    assert text in str(caught.value)


# --- text ------------------------------------------------------------------------------------------------------------


@given(st.text("ab c\n", min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 7))
def test_text_windows_cover_the_text(text: str, length: int, stride: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.txt"
        path.write_text(text)
        if len(text) <= length:
            with pytest.raises(
                ValueError, match=f"x.txt: expected more than {length} tokens, for one window and its target, got {len(text)}"
            ):
                readers.TextWindows(path, length, tokenize=list)
            return
        windows = readers.TextWindows(path, length, tokenize=list, stride=stride)
    decode = windows.vocabulary.decode
    assert "".join(decode(windows.tokens.tolist())) == text
    starts = range(0, len(text) - length, stride)
    assert len(windows) == len(starts)
    for window, start in zip((windows[i] for i in range(len(windows))), starts, strict=True):
        assert ["".join(decode(part)) for part in window] == [text[s : s + length] for s in (start, start + 1)]
    assert (windows[-1][0] == windows[len(windows) - 1][0]).all()
    with pytest.raises(IndexError, match="TextWindows: index 99 is out of range"):
        windows[99]


def test_vocabulary(tmp_path: Path) -> None:
    words = readers.Vocabulary.of(["b", "a", "c", "a", "b", "a", "<eos>"], special=["<eos>"], min_count=2)
    assert words.tokens == ["<unk>", "<eos>", "a", "b"]
    assert words.encode(["a", "c", "<eos>"]) == [2, 0, 1]
    assert (len(words), "a" in words, "c" in words) == (4, True, False)
    assert readers.Vocabulary.of("abca", size=2).tokens == ["<unk>", "a"]
    with pytest.raises(KeyError, match="z"):
        readers.Vocabulary("ab", unknown=None).encode("z")
    with pytest.raises(ValueError, match=r"Vocabulary: expected different tokens, '<unk>' among them, got \['a', 'a'\]"):
        readers.Vocabulary(["a", "a"])
    path = put(tmp_path / "x.txt.gz", b"to be or not")
    assert readers.TextWindows(path, 2, vocabulary=words).tokens.tolist() == [0] * 4
    put(path, b"\xff\xfe")
    with pytest.raises(ValueError, match=r"x.txt.gz: expected UTF-8 text"):
        readers.TextWindows(path, 2)
    with pytest.raises(ValueError, match="TextWindows: expected length and stride >= 1, got 0 and 0"):
        readers.TextWindows(path, 0)


# --- transforms ------------------------------------------------------------------------------------------------------


def both(array: Any) -> list[Any]:
    """A picture as an array [h, w] and as a tensor [1, h, w]."""
    return [array, T.tensor(array)[None]]


def plain(picture: Any) -> Any:
    return picture.numpy()[0] if isinstance(picture, T.Tensor) else picture


@pytest.mark.parametrize("which", [0, 1], ids=["array", "tensor"])
def test_crops_and_flips(which: int) -> None:
    picture = np.arange(1, 21).reshape(4, 5)
    given = both(picture)[which]
    assert plain(transforms.CenterCrop((2, 3))(given)).tolist() == picture[1:3, 1:4].tolist()
    assert plain(transforms.RandomHorizontalFlip(1.0)(given)).tolist() == picture[:, ::-1].tolist()
    assert plain(transforms.RandomHorizontalFlip(0.0)(given)).tolist() == picture.tolist()
    crop = transforms.RandomCrop(3, padding=1, generator=T.Generator().manual_seed(0))
    padded = np.pad(picture, 1)
    places = {(i, j): padded[i : i + 3, j : j + 3].tolist() for i in range(4) for j in range(5)}
    seen = [plain(crop(given)).tolist() for _ in range(300)]
    assert all(cut in places.values() for cut in seen)
    assert len({str(cut) for cut in seen}) == len(places) == 20
    flips = [plain(transforms.RandomHorizontalFlip()(given))[0, 0] for _ in range(200)]
    assert 70 < flips.count(1) < 130  # 4.2 standard deviations
    for wrong in (transforms.CenterCrop(6), transforms.RandomCrop(6)):
        with pytest.raises(ValueError, match=r"Crop: expected a picture of \[6, 6\] or more, got \[4, 5\]"):
            wrong(given)


def test_seeds_decide_random_transforms() -> None:
    def draw() -> Any:
        crop = transforms.Compose([transforms.RandomCrop(4), transforms.RandomHorizontalFlip()])
        return [crop(np.arange(400).reshape(20, 20)).tolist() for _ in range(5)]

    T.manual_seed(3)
    first = draw()
    assert draw() != first
    T.manual_seed(3)
    assert draw() == first


def test_to_tensor_and_normalize() -> None:
    picture = RNG.integers(0, 256, (4, 5, 3)).astype("u1")
    chain = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5, 0.4, 0.3], [0.2, 0.2, 0.1])])
    expected = (picture.transpose(2, 0, 1) / 255 - np.array([0.5, 0.4, 0.3])[:, None, None]) / np.array([0.2, 0.2, 0.1])[
        :, None, None
    ]
    assert chain(picture).dtype == T.float32
    assert np.allclose(chain(picture).numpy(), expected, atol=1e-6)
    assert transforms.ToTensor()(np.ones((2, 3), "i4")).dtype == T.int32
    assert transforms.Lambda(abs)(-2) == 2
    assert pickle.loads(pickle.dumps(chain))(picture).tolist() == chain(picture).tolist()


def test_resize() -> None:
    ramp = np.linspace(0, 1, 8, dtype="f")[None].repeat(8, 0)
    for picture in both(ramp):
        halved = plain(transforms.Resize((4, 4))(picture))
        # Each pixel of four: weights 1/8, 3/8, 3/8, 1/8 of its neighbours, which keep a straight line but for its ends.
        assert np.allclose(halved[0, 1:3], (ramp[0, 2:6:2] + ramp[0, 3:7:2]) / 2)
        assert np.allclose(plain(transforms.Resize((8, 8))(picture)), ramp)
        assert plain(transforms.Resize((16, 3))(picture)).shape == (16, 3)
    assert transforms.Resize((1, 1))(np.array([[0, 255], [0, 255]], "u1")).tolist() == [[128]]


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: transforms.ToTensor()([1]), TypeError, r"ToTensor: expected an array \[height, width\(, channels\)\], got list"),
        (lambda: transforms.Normalize([0], [0]), ValueError, r"Normalize: expected std without zeros, got \[0\]"),
        (lambda: transforms.Normalize([0], [1])(T.ones(2, 2)), TypeError, r"Normalize: expected a float tensor .* got Tensor \[2, 2\]"),
        (lambda: transforms.Normalize([0, 0], [1])(T.ones(3, 2, 2)), ValueError, "Normalize: expected mean and std of 3 channels, got 2 and 1"),
        (lambda: transforms.RandomCrop(0), ValueError, "RandomCrop: expected a size >= 1, or a height and a width, got 0"),
        (lambda: transforms.CenterCrop(2)(np.ones(3)), TypeError, r"CenterCrop: expected an array .* got ndarray \[3\]"),
        (lambda: transforms.RandomHorizontalFlip(2), ValueError, "RandomHorizontalFlip: expected a probability, got 2"),
        (lambda: transforms.Resize((1, 2, 3)), ValueError, r"Resize: expected a size .* got \(1, 2, 3\)"),
    ],
)  # fmt: skip
def test_wrong_transforms_say_so(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
