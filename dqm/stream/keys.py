"""Key files: which collectors may send which streams. No message of this module contains a secret.

A key consists of two TOML files. ``NAME.secret`` (mode 0600) stays with its owner; ``NAME.public`` is copied
to the other side. In the daemon's directory, the public file of a collector also lists the streams that the
collector may send.
"""

from __future__ import annotations

import os
import struct
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, TypeVar

import zmq
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from zmq.utils import z85

from dqm.config import NAME_PATTERN, CollectorSection, DaemonSection, check_private
from dqm.errors import ConfigError

__all__ = [
    "DAEMON_SECRET",
    "CollectorKey",
    "KeyPair",
    "KeyRing",
    "SenderKeys",
    "make_keys",
    "open_key_ring",
    "read_public",
    "read_secret",
    "read_sender_keys",
]

DAEMON_SECRET = "daemon.secret"  # noqa: S105 - the name of a file
"""Default name of the daemon's secret file, in its directory of keys."""

_LARGEST_BYTES = 65_536


def _check_z85(text: str) -> str:
    """Refuse groups of five characters above 32 bits; ZeroMQ's own error does not say what is wrong."""
    try:
        z85.decode(text)
    except struct.error:
        raise ValueError("not Z85") from None
    return text


_Z85 = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}$"),
    AfterValidator(_check_z85),
]
_Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
_Pattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._*-]{1,64}$")]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Model = TypeVar("Model", bound=_File)


class _Secret(_File):
    public: _Z85
    secret: _Z85


class _Public(_File):
    public: _Z85
    streams: tuple[_Pattern, ...] = Field((), max_length=10_000)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Public and secret key of one owner.

    Parameters
    ----------
    public, secret : str
        Z85, 40 characters each; the secret is not in the representation.
    """

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CollectorKey:
    """Public key of a collector in the daemon's directory: its name and its streams.

    Parameters
    ----------
    name : str
        Name of the file.
    streams : tuple of str
        Streams that the collector may send; ``*`` stands for any characters.
    """

    name: str
    streams: tuple[str, ...]

    def may_send(self, stream: str) -> bool:
        """Whether the collector may send a stream."""
        return any(fnmatchcase(stream, pattern) for pattern in self.streams)


@dataclass(frozen=True, slots=True)
class SenderKeys:
    """Keys of a sender.

    Parameters
    ----------
    own : KeyPair
        Its own key.
    daemon : str
        Public key of the daemon, Z85.
    """

    own: KeyPair
    daemon: str

    def set_on(self, socket: zmq.Socket[bytes]) -> None:
        """Set the keys of a socket before it connects."""
        socket.curve_publickey = self.own.public.encode()
        socket.curve_secretkey = self.own.secret.encode()
        socket.curve_serverkey = self.daemon.encode()


class KeyRing:
    """Keys of a daemon: its own key, and the public keys of all collectors.

    Parameters
    ----------
    directory : Path
        Directory with one file ``NAME.public`` for each collector.
    secret : Path
        Secret file of the daemon.

    Raises
    ------
    ConfigError
        Here and in `reload`, if a file cannot be used. A failed `reload` does not change the keys.
    """

    def __init__(self, directory: Path, secret: Path) -> None:
        self._directory = directory
        self.own = read_secret(secret)
        self._collectors = self._read()

    def find(self, public: str) -> CollectorKey | None:
        """Find the collector that has a public key (Z85); None if there is none."""
        return self._collectors.get(public)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all collectors."""
        return tuple(sorted(collector.name for collector in self._collectors.values()))

    @property
    def collectors(self) -> tuple[CollectorKey, ...]:
        """All collectors, by name."""
        return tuple(sorted(self._collectors.values(), key=lambda collector: collector.name))

    def reload(self) -> None:
        """Read the directory again; may be called from any thread."""
        self._collectors = self._read()

    def _read(self) -> dict[str, CollectorKey]:
        found: dict[str, CollectorKey] = {}
        try:
            files = sorted(self._directory.glob("*.public"))
            self._directory.stat()
        except OSError as error:
            raise ConfigError(
                f"the directory of public keys cannot be read: {error.strerror}",
                where=str(self._directory),
                fix="Correct [daemon] keys, or the rights of the directory",
            ) from error
        for path in files:
            known = _read(path, _Public)
            if known.public == self.own.public:
                continue
            if known.public in found:
                raise ConfigError(
                    f"{found[known.public].name} has the same key",
                    where=str(path),
                    fix="Remove one of the files",
                )
            found[known.public] = CollectorKey(path.stem, known.streams)
        return found


def open_key_ring(section: DaemonSection) -> KeyRing | None:
    """Read the keys of a daemon; None if it has none, raises `ConfigError` if they cannot be used."""
    if section.keys is None:
        return None
    return KeyRing(section.keys, section.key or section.keys / DAEMON_SECRET)


def read_sender_keys(section: CollectorSection) -> SenderKeys | None:
    """Read the keys of a collector; None if it has none, raises `ConfigError` if they cannot be used."""
    if section.key is None or section.daemon_key is None:
        return None
    return SenderKeys(read_secret(section.key), read_public(section.daemon_key))


def make_keys(directory: Path, name: str, streams: Sequence[str] = ()) -> tuple[Path, Path]:
    """Make a new key.

    Parameters
    ----------
    directory : Path
        Directory of both files; created if it does not exist.
    name : str
        Name of the collector, or of the daemon.
    streams : sequence of str
        Streams that a collector may send; ``*`` stands for any characters.

    Returns
    -------
    tuple of Path
        Secret and public file.

    Raises
    ------
    ConfigError
        If a name cannot be used, or if a file exists or cannot be written.
    """
    public, secret = (key.decode() for key in zmq.curve_keypair())
    try:
        checked = _Public(public=public, streams=tuple(streams))
        _Named(name=name)
    except ValidationError as error:
        raise ConfigError(
            f"not a valid name of a key or stream: {error.errors()[0]['input']!r}",
            fix="Use 1 to 64 letters, digits, '.', '_' and '-'; '*' in streams",
        ) from None
    files = directory / f"{name}.secret", directory / f"{name}.public"
    listed = ", ".join(f'"{stream}"' for stream in checked.streams)
    texts = (
        f'# Secret key of {name}, mode 0600.\npublic = "{public}"\nsecret = "{secret}"\n',
        f'# Public key of {name}.\npublic = "{public}"\n'
        f'# Streams this collector may send; "*" stands for any characters.\nstreams = [{listed}]\n',
    )
    for path in files:
        if path.exists():
            raise ConfigError(
                "a key of this name already exists", where=str(path), fix="Move its files away first"
            )
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text, mode in zip(files, texts, (0o600, 0o644), strict=True):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:  # half of a key would be in the way of the next try
            path.unlink(missing_ok=True)
        where = str(error.filename or directory)
        raise ConfigError(
            f"cannot be written: {error.strerror}",
            where=where,
            fix="Choose another directory, or change its rights",
        ) from error
    return files


class _Named(_File):
    name: _Name


def read_secret(path: Path) -> KeyPair:
    """Read a secret file.

    Raises
    ------
    ConfigError
        If it cannot be read, is not a secret key, or can be read by others.
    """
    try:
        check_private(path, "the secret key", "make a new key if somebody may have read it")
    except OSError as error:
        raise _unreadable(path, error) from error
    known = _read(path, _Secret)
    if zmq.curve_public(known.secret.encode()).decode() != known.public:
        raise ConfigError(
            "public and secret key are not a pair", where=str(path), fix="Make a new key with 'dqm keys new'"
        )
    return KeyPair(known.public, known.secret)


def read_public(path: Path) -> str:
    """Read a public key (Z85) from its file; raises `ConfigError` if it cannot be read or is not a key."""
    return _read(path, _Public).public


def _read(path: Path, model: type[Model]) -> Model:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        return model.model_validate(tomllib.loads(content[:_LARGEST_BYTES].decode()))
    except (ValidationError, ValueError, RecursionError):  # their messages may contain the secret
        kind = "secret" if model is _Secret else "public"
        raise ConfigError(
            f"not a {kind} key", where=str(path), fix="Make one with 'dqm keys new NAME'"
        ) from None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"the key cannot be read: {error.strerror}", where=str(path), fix="Make one with 'dqm keys new NAME'"
    )
