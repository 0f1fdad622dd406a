"""The file of users: names, password hashes (argon2id) and roles.

No text that this module makes contains a hash.
"""

from __future__ import annotations

import fcntl
import os
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Annotated

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from dqm.config import Role, check_private
from dqm.errors import ConfigError, InputError

__all__ = ["ROLE_BEFORE_ROLES", "UserFile", "add_user", "remove_user", "set_role"]

log = structlog.get_logger(__name__)

ROLE_BEFORE_ROLES = Role.EXPERT
"""Role of users whom the file gives none: before there were roles every user could do what experts may."""

_SHORTEST_PASSWORD = 8
_LONGEST_PASSWORD = 256
_LARGEST_BYTES = 2**20
_HASHER = PasswordHasher(parallelism=1)  # RFC 9106 with little memory, but on one core
_HEAD = "# Users of the daemon's page, mode 0600: 'dqm users add NAME --role ROLE --file THIS'.\n"

_Name = Annotated[str, StringConstraints(pattern=r"^[\w.@+-]{1,64}$")]
_Hash = Annotated[str, StringConstraints(pattern=r"^\$argon2id\$v=19\$[A-Za-z0-9$=,+/]{10,200}$")]
_NAME: TypeAdapter[str] = TypeAdapter(_Name)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    users: dict[_Name, _Hash] = {}
    roles: dict[_Name, Role] = {}


@dataclass(frozen=True, slots=True)
class _User:
    hash: str
    role: Role


Users = Mapping[str, _User]


class UserFile:
    """Users who may sign in; the file is read again whenever it has changed.

    A file that has become unusable lets nobody in until it is corrected; the log says why.

    Parameters
    ----------
    path : Path
        Written by `add_user`.
    hasher : PasswordHasher, optional
        Time to refuse an unknown name: the same as for a known one.
    on_change : callable
        Called with action and user for each change of the file that is noticed, from any thread.

    Raises
    ------
    ConfigError
        Here and in `reload`, if the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        hasher: PasswordHasher | None = None,
        on_change: Callable[[str, str], None] = lambda _action, _user: None,
    ) -> None:
        self._path = path
        self._hasher = hasher or _HASHER
        self._on_change = on_change
        self._users: Users = {}
        self._usable: Users = {}
        self._seen: object = None
        self._reading = Lock()
        self.reload()
        self._usable = self._users

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all users."""
        return tuple(sorted(self._users))

    def reload(self) -> None:
        """Read the file again; may be called from any thread."""
        self._seen = self._stat()
        try:
            self._users = _read(self._path)
        except ConfigError:
            self._users = {}
            raise

    def find(self, name: str) -> str | None:
        """Give the present hash of a user's password, to compare with an earlier one; None if not known."""
        found = self._present().get(name)
        return found.hash if found else None

    def role(self, name: str) -> Role | None:
        """Give the present role of a user; None if not known."""
        found = self._present().get(name)
        return found.role if found else None

    def set_role(self, name: str, role: Role) -> None:
        """Give a user another role; raises as the function `set_role`."""
        with self._changing_here():
            set_role(self._path, name, role)

    def remove(self, name: str) -> None:
        """Remove a user; raises as `remove_user`."""
        with self._changing_here():
            remove_user(self._path, name)

    @contextmanager
    def _changing_here(self) -> Iterator[None]:
        """Change the file without telling that it has changed."""
        self._present()
        with self._reading:
            yield
            self.reload()
            self._usable = self._users

    def _present(self) -> Users:
        """Give the users, after a check whether the file has changed."""
        if self._stat() == self._seen:
            return self._users
        with self._reading:
            if self._stat() == self._seen:
                return self._users
            try:
                self.reload()
            except ConfigError as error:
                log.warning("nobody may sign in: the file of users cannot be used", why=str(error))
                return self._users
            before, self._usable = self._usable, self._users
        for action, user in _differences(before, self._users):
            log.info("the file of users has changed", action=action, user=user)
            self._on_change(action, user)
        return self._users

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
    """Normalise characters that keyboards write in several forms, as RFC 7617 asks."""
    return unicodedata.normalize("NFC", text)


def add_user(
    path: Path,
    name: str,
    password: str,
    hasher: PasswordHasher | None = None,
    role: Role | None = None,
) -> bool:
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
    role : Role, optional
        What the user may do; left out: as before, `ROLE_BEFORE_ROLES` for a new one.

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
        raise InputError(f"{name!r} is not a name: letters, digits and . _ @ + - are, at most 64") from None
    if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise InputError(f"a password must have {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters")
    hashed = (hasher or _HASHER).hash(password)
    with _changing(path) as users:
        known = users.get(name)
        users[name] = _User(hashed, role or (known.role if known else ROLE_BEFORE_ROLES))
    return known is None


def set_role(path: Path, name: str, role: Role) -> None:
    """Give a user another role, at once; raises `InputError` if there is none, else as `add_user`."""
    name = normalise(name)
    _read(path)
    with _changing(path) as users:
        users[name] = replace(_known(users, name, path), role=role)


def remove_user(path: Path, name: str) -> None:
    """Remove a user, who is signed out at once; raises `InputError` if there is none, else as `add_user`."""
    name = normalise(name)
    _read(path)
    with _changing(path) as users:
        _known(users, name, path)
        del users[name]


def _known(users: Users, name: str, path: Path) -> _User:
    if name not in users:
        raise InputError(f"no user {name!r}", where=str(path), fix=f"Known: {', '.join(users) or 'none'}")
    return users[name]


def _differences(before: Users, after: Users) -> Iterator[tuple[str, str]]:
    """Say what was changed, without hashes."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if new is None:
            yield "remove user", name
        elif old is None:
            yield "add user", f"{name} ({new.role})"
        else:
            if old.hash != new.hash:
                yield "set password", name
            if old.role != new.role:
                yield "set role", f"{name} ({new.role})"


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, _User]]:
    """Replace the file in one step; whoever changes it at the same time waits."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with _locked(path.parent):
            try:
                users = dict(_read(path)) if path.exists() else {}
                yield users
                _write_private(fresh, path, users)
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)  # left by a failure or Ctrl-C
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            fix="Free space on the disk, or change the rights of the directory",
        ) from error


def _write_private(fresh: Path, path: Path, users: dict[str, _User]) -> None:
    """Write the users to a file that will replace another one; root leaves it to the owner of that one."""
    fresh.unlink(missing_ok=True)  # of one that was killed; or a link, which must not be followed
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        if path.exists():
            owner = path.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(_write(users))
        file.flush()
        os.fsync(file.fileno())


def _write(users: Users) -> str:
    names = sorted(users)
    hashes = "".join(f'"{name}" = "{users[name].hash}"\n' for name in names)
    roles = "".join(f'"{name}" = "{users[name].role}"\n' for name in names)
    return f"{_HEAD}[users]\n{hashes}\n[roles]\n{roles}"


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> Users:
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
        found = _File.model_validate(tomllib.loads(content.decode()))
    except (ValidationError, ValueError, RecursionError):  # whose texts may hold hashes
        raise ConfigError("not a file of users", where=str(path), fix=fix) from None
    strangers = sorted(found.roles.keys() - found.users.keys())
    if strangers:  # who may be meant has the role of those without one
        what = f"a role for {strangers[0]!r}, who is not a user"
        raise ConfigError(what, where=f"{path} [roles]", fix="Set roles by 'dqm users role NAME ROLE'")
    return {
        name: _User(hashed, found.roles.get(name, ROLE_BEFORE_ROLES)) for name, hashed in found.users.items()
    }
