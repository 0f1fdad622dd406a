"""The file of users: names and password hashes (argon2id). No text that this module makes contains a hash."""

from __future__ import annotations

import fcntl
import os
import tomllib
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from dqm.config import check_private
from dqm.errors import ConfigError, InputError

__all__ = ["UserFile", "add_user", "remove_user"]

log = structlog.get_logger(__name__)

_SHORTEST_PASSWORD, _LONGEST_PASSWORD = 8, 256
_LARGEST_BYTES = 2**20
_HASHER = PasswordHasher(parallelism=1)  # RFC 9106 with little memory, but on one core
_HEAD = "# Users of the daemon's page, mode 0600: 'dqm users add NAME --file THIS'.\n[users]\n"

_Name = Annotated[str, StringConstraints(pattern=r"^[\w.@+-]{1,64}$")]
_Hash = Annotated[str, StringConstraints(pattern=r"^\$argon2id\$v=19\$[A-Za-z0-9$=,+/]{10,200}$")]
_NAME: TypeAdapter[str] = TypeAdapter(_Name)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    users: dict[_Name, _Hash] = {}


class UserFile:
    """Users who may sign in; the file is read again whenever it has changed.

    A file that has become unusable lets nobody in until it is mended; the log says why.

    Parameters
    ----------
    path : Path
        Written by `add_user`.
    hasher : PasswordHasher, optional
        How costly it is to refuse a name that is not known: as costly as a known one.

    Raises
    ------
    ConfigError
        Here and in `reload`, if the file cannot be used.
    """

    def __init__(self, path: Path, hasher: PasswordHasher | None = None) -> None:
        self._path = path
        self._hasher = hasher or _HASHER
        self._hashes: dict[str, str] = {}
        self._seen: object = None
        self.reload()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all users."""
        return tuple(sorted(self._hashes))

    def reload(self) -> None:
        """Read the file again; may be called from any thread."""
        self._seen = self._stat()
        try:
            self._hashes = _read(self._path)
        except ConfigError:
            self._hashes = {}
            raise

    def find(self, name: str) -> str | None:
        """Give the present hash of a user's password, to compare with an earlier one; None if not known."""
        if self._stat() != self._seen:
            try:
                self.reload()
            except ConfigError as error:
                log.warning("nobody may sign in: the file of users cannot be used", why=str(error))
        return self._hashes.get(name)

    def verify(self, name: str, password: str) -> str | None:
        """Give the hash that a password fits, None if it is wrong; either takes 0.1 s or more and 64 MiB."""
        known = self.find(name)
        try:
            self._hasher.verify(known or self._nobody, normalise(password))
        except (VerificationError, InvalidHashError):
            return None
        return known

    @cached_property
    def _nobody(self) -> str:
        return self._hasher.hash(os.urandom(16))

    def _stat(self) -> object:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def normalise(text: str) -> str:
    """Give one form to what keyboards write in several, as RFC 7617 asks."""
    return unicodedata.normalize("NFC", text)


def add_user(path: Path, name: str, password: str, hasher: PasswordHasher | None = None) -> bool:
    """Add a user, or give one a new password.

    Parameters
    ----------
    path : Path
        The file; made with mode 0600 if it is not there.
    name : str
        Up to 64 letters, digits, ``.``, ``_``, ``@``, ``+``, ``-``.
    password : str
        8 to 256 characters.
    hasher : PasswordHasher, optional
        How it is hashed.

    Returns
    -------
    bool
        Whether the user is new.

    Raises
    ------
    InputError
        If name or password cannot be used; the text never holds the password.
    ConfigError
        If the file cannot be used.
    """
    name, password = normalise(name), normalise(password)
    try:
        _NAME.validate_python(name)
    except ValidationError:
        raise InputError(f"{name!r} is no name: letters, digits and . _ @ + - are, at most 64") from None
    if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise InputError(f"a password must have {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters")
    hashed = (hasher or _HASHER).hash(password)
    with _changing(path) as users:
        is_new = name not in users
        users[name] = hashed
    return is_new


def remove_user(path: Path, name: str) -> None:
    """Remove a user, who is signed out at once; raises `InputError` if there is none, else as `add_user`."""
    name = normalise(name)
    _read(path)
    with _changing(path) as users:
        if users.pop(name, None) is None:
            raise InputError(f"no user {name!r}", where=str(path), fix=f"Known: {', '.join(users) or 'none'}")


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, str]]:
    """Replace the file in one step; whoever changes it at the same time waits."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with _locked(path.parent):
            users = _read(path) if path.exists() else {}
            yield users
            lines = "".join(f'"{name}" = "{users[name]}"\n' for name in sorted(users))
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                os.fchmod(file.fileno(), 0o600)
                if path.exists():  # root writes it for the daemon
                    owner = path.stat()
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                file.write(_HEAD + lines)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(path)) from error


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, str]:
    fix = "Make it by 'dqm users add NAME --file FILE'"
    try:
        check_private(
            path, "the file of users", "give all of them new passwords if somebody may have read it"
        )
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES)
    except OSError as error:
        what = f"the file of users cannot be read: {error.strerror}"
        raise ConfigError(what, where=str(path), fix=fix) from error
    try:
        return dict(_File.model_validate(tomllib.loads(content.decode())).users)
    except (ValidationError, ValueError, RecursionError):  # whose texts may hold hashes
        raise ConfigError("not a file of users", where=str(path), fix=fix) from None
