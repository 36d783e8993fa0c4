"""CURVE keys: pairs, files, and lists of who is admitted. Without a listed key nobody hears and nobody is heard."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth

from envs.streams.errors import StreamAddressError

__all__ = ["Curve", "create_keys"]

_FILE = 'metadata\n    name = "{name}"\ncurve\n    public-key = "{public}"\n'
_SECRET_FILE = _FILE + '    secret-key = "{secret}"\n'


@dataclass(frozen=True)
class Curve:
    """Keys for one end, as `zmq.curve_keypair` makes them (Z85).

    A publisher needs ``allowed``, the public keys of those it admits; a subscriber needs ``server``, the publisher's public key.
    """

    public: bytes
    secret: bytes
    server: bytes = b""
    allowed: frozenset[bytes] = frozenset()

    @classmethod
    def load(cls, secret: str | Path, *, server: str | Path | None = None, allowed: str | Path | None = None) -> Curve:
        """From the files that `create_keys` writes: our secret one, the publisher's public one, a folder of admitted public ones.

        Raises:
            StreamAddressError: a file that is missing, or holds no such key; an empty folder.
        """
        public, own = _read(Path(secret))
        if own is None:
            msg = f"{secret}: expected a secret key file, as run-agent keys writes it, got a public one"
            raise StreamAddressError(msg)
        friends = frozenset[bytes]()
        if allowed is not None:
            friends = frozenset(_read(path)[0] for path in sorted(Path(allowed).glob("*.key")))
            if not friends:
                msg = f"{allowed}: expected a folder with the public keys (*.key) of those who are admitted, got none"
                raise StreamAddressError(msg)
        return cls(public, own, b"" if server is None else _read(Path(server))[0], friends)


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        msg = f"{path}: expected a CURVE key file, as run-agent keys writes it, got {error}"
        raise StreamAddressError(msg) from None


def create_keys(folder: str | Path, name: str) -> tuple[Path, Path]:
    """A new pair as ``name.key`` (to be given away) and ``name.key_secret`` (readable by its owner alone); their paths.

    The files are ZeroMQ's own certificates, which other languages read too. Nothing is overwritten: FileExistsError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     public, secret = create_keys(folder, "car")
    ...     keys = Curve.load(secret, server=public)
    >>> public.name, secret.name, keys.server == keys.public
    ('car.key', 'car.key_secret', True)
    """
    public, secret = (key.decode() for key in zmq.curve_keypair())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = (folder / f"{name}.key_secret", 0o600, _SECRET_FILE), (folder / f"{name}.key", 0o644, _FILE)
    for path, mode, text in files:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text.format(name=name, public=public, secret=secret))
    return files[1][0], files[0][0]
