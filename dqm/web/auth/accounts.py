"""Users and their sign-ins, which admins can list and change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dqm.config import Role
from dqm.errors import ConfigError, InputError
from dqm.web import models as m
from dqm.web.auth.sessions import Sessions
from dqm.web.auth.users import UserFile, normalise

__all__ = ["Accounts"]


class Accounts:
    """Everybody who has a password here or is signed in; safe to use from several threads.

    Parameters
    ----------
    users : UserFile or None
        Users with passwords.
    sessions : Sessions
        Who is signed in.
    """

    def __init__(self, users: UserFile | None, sessions: Sessions) -> None:
        self._users = users
        self._sessions = sessions

    def all(self) -> m.AccountList:
        """Give all of them, in the order of their names."""
        sessions = self._sessions.all()
        n_sessions = Counter(session.user for session in sessions)
        roles = {session.user: session.role for session in sessions if session.role is not None}
        with_password = {name: self._users.role(name) for name in self._users.names} if self._users else {}
        return m.AccountList(
            accounts=tuple(
                m.Account(
                    name=name, role=role, has_password=name in with_password, n_sessions=n_sessions[name]
                )
                for name, role in sorted((roles | with_password).items())
                if role is not None
            )
        )

    def set_role(self, name: str, role: Role) -> None:
        """Give a user of the file another role; raises `InputError`."""
        self._change(lambda users: users.set_role(name, role))

    def remove(self, name: str) -> None:
        """Remove a user from the file, and sign them out; raises `InputError`."""
        self._change(lambda users: users.remove(name))
        self._sessions.end_all(normalise(name))

    def sign_out(self, name: str) -> None:
        """End all sessions of a user; raises `InputError` if there is none."""
        if not self._sessions.end_all(normalise(name)):
            raise InputError(f"{name!r} is not signed in", where="name", fix="Choose a user of the list")

    def _change(self, change: Callable[[UserFile], None]) -> None:
        if self._users is None:
            raise InputError(
                "there is no file of users",
                where="[web] users",
                fix="Configure one, and add users with 'dqm users add'",
            )
        try:
            change(self._users)
        except ConfigError as error:
            raise InputError(
                error.what,
                where=error.where,
                fix="Let the daemon write it and its directory, or use 'dqm users' as its owner",
            ) from None
