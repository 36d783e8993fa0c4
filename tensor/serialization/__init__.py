"""Tensors in files: `save` and `load`, as safetensors or as NumPy's ``.npz``. Never a pickle: loading a file runs nothing in it.

=================== ==========================================================================================================
a flat dict         plain safetensors under the same names, for any tool that reads them; PyTorch's weights load unchanged
any other state     safetensors too; what is no array lies as JSON in the header (lists, tuples, numbers, strings, nested dicts)
``.npz``            a flat dict of arrays as `numpy.savez` writes it
=================== ==========================================================================================================
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.serialization.container import FILE_DTYPES, SerializationError, chunks, parse, replacing, to_json
from tensor.serialization.tree import decode, encode

__all__ = ["SerializationError", "load", "save"]

_FORMAT = "tensor/1"
_TREE = "tensor.tree"


def save(obj: Any, f: str | Path | BinaryIO) -> None:
    """Write tensors, or any nesting of them in dicts, lists and tuples with numbers and strings, to a file.

    A file at a path is replaced at once when the new one is whole. ``requires_grad`` and history are not saved.

    Args:
        obj: a tensor, a module's or an optimizer's ``state_dict()``, or a tree of such.
        f: a path, ``.npz`` for NumPy's format, anything else for safetensors; or a file open for writing bytes (safetensors).

    Raises:
        TypeError: the object holds something else; the message says where.
        OSError: the file cannot be written; an older one stays.

    >>> import tempfile, tensor as T
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     T.save({"weight": T.arange(3.0), "step": 7}, directory + "/a.safetensors")
    ...     T.load(directory + "/a.safetensors")
    {'weight': tensor([0., 1., 2.]), 'step': 7}
    """
    if isinstance(f, (str, Path)) and Path(f).suffix == ".npz":
        arrays = _flat(obj)
        if arrays is None:
            message = f"save: expected a flat dict of tensors or arrays for {Path(f).name}, got {type(obj).__name__}"
            raise TypeError(message)
        with replacing(Path(f)) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return
    plain = _flat(obj)
    if plain is not None and all(a.dtype.name in FILE_DTYPES for a in plain.values()):
        pieces = chunks({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in plain.items()}, {})
    else:
        aside: dict[str, NDArray[Any]] = {}
        tree = to_json(encode(obj, "", aside, "save"))
        pieces = chunks(aside, {"format": _FORMAT, _TREE: tree})
    if isinstance(f, (str, Path)):
        with replacing(Path(f)) as file:
            file.writelines(pieces)
    else:
        f.writelines(pieces)


def load(f: str | Path | BinaryIO, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """Read what `save`, safetensors' or NumPy's own writers wrote. Nothing in the file is run.

    Args:
        f: a path, or a file open for reading bytes.
        map_location: the device for the tensors; None: the CPU.
        weights_only: for PyTorch's signature; only True, since there is nothing else to load.

    Returns:
        A dict of tensors, or the tree that was saved. bfloat16 comes as float32.

    Raises:
        FileNotFoundError: no such file.
        SerializationError: damaged, of another kind, or a pickle (as ``torch.save`` writes), which is never loaded.
    """
    if not weights_only:
        message = "load: files are never unpickled, so that weights_only can only be True"
        raise ValueError(message)
    if isinstance(f, (str, Path)):
        where, data = str(f), Path(f).read_bytes()
    else:
        where, data = getattr(f, "name", "load"), f.read()
    if data[:2] == b"PK":
        loaded: Any = _load_zip(data, where)
    elif data[:1] == b"\x80" and data[8:9] != b"{":  # a pickle's first byte may also be a length's
        raise SerializationError(_pickle(where))
    else:
        arrays, metadata = parse(data, where)
        loaded = _from_tree(metadata[_TREE], arrays, where) if _TREE in metadata else {k: Tensor(a) for k, a in arrays.items()}
    return loaded if map_location is None else _moved(loaded, map_location)


def _flat(obj: Any) -> dict[str, NDArray[Any]] | None:
    """The arrays of a flat dict of tensors or arrays under string keys, else None."""
    if not isinstance(obj, Mapping) or not all(isinstance(k, str) and k != "__metadata__" for k in obj):
        return None
    if not all(isinstance(v, (Tensor, np.ndarray)) for v in obj.values()):
        return None
    arrays = {k: cuda.to_host(v._array) if isinstance(v, Tensor) else v for k, v in obj.items()}
    return None if any(a.dtype.hasobject for a in arrays.values()) else arrays


def _from_tree(text: str, arrays: dict[str, NDArray[Any]], where: str) -> Any:
    try:
        return decode(json.loads(text), arrays)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        message = f"{where}: the description of its contents is damaged: {error}"
        raise SerializationError(message) from None


def _load_zip(data: bytes, where: str) -> dict[str, Tensor]:
    """NumPy's ``.npz``; PyTorch's own files are zips too, with a pickle inside."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(name.endswith("data.pkl") for name in archive.namelist()):
                raise SerializationError(_pickle(where))
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: Tensor(arrays[name]) for name in arrays.files}
    except SerializationError:
        raise
    except Exception as error:  # a damaged zip makes its reader raise nearly anything
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"{where}: not a whole .npz file of plain arrays: {why}"
        raise SerializationError(message) from None


def _pickle(where: str) -> str:
    return (
        f"{where}: expected safetensors or .npz, got a pickle, which could run code and is never loaded; "
        "where it was made, convert it: safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"
    )


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(device=device)
    if isinstance(value, dict):
        return {k: _moved(v, device) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(v, device) for v in value)
    return value
