"""``dqm users``: who may sign in with a password, and what each may do."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say
from dqm.config import Role
from dqm.errors import InputError

__all__ = ["app"]

app = typer.Typer(
    help="Add, remove and list users of the page, and say what each may do.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name of the user.")]
Users = Annotated[
    Path, typer.Option("--file", "-f", help="The users file of the daemon: the key users in its table web.")
]

_ROLES = (
    "viewer: reads; shifter: acknowledges and shelves, too; expert: masks, amends, labels and signs, too; "
    "admin: users, too."
)

DEFAULT = Path("users.toml")


@app.command()
def add(
    name: Name,
    role: Annotated[
        Role | None, typer.Option(help=f"{_ROLES} Default: as before, expert for a new user.")
    ] = None,
    file: Users = DEFAULT,
) -> None:
    """Add a user, or set a new password. It is asked for, or read from standard input."""
    if sys.stdin.isatty():
        password = getpass.getpass(f"New password of {name}: ")
        if getpass.getpass("The same again: ") != password:
            raise InputError("the two passwords differ", fix="Nothing was changed; try again")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    from dqm.web.auth.users import UserFile, add_user

    is_new = add_user(file, name, password, role=role)
    given = UserFile(file).role(name)
    done = f"added as {given}" if is_new else f"has a new password, is signed out, and is {given}"
    say(f"{file}: {name} {done}")


@app.command()
def role(name: Name, role: Annotated[Role, typer.Argument(help=_ROLES)], file: Users = DEFAULT) -> None:
    """Give a user another role, at once."""
    from dqm.web.auth.users import set_role

    set_role(file, name, role)
    say(f"{file}: {name} is {role}")


@app.command()
def remove(name: Name, file: Users = DEFAULT) -> None:
    """Remove a user and end their sessions at once."""
    from dqm.web.auth.users import remove_user

    remove_user(file, name)
    say(f"{file}: {name} removed")


@app.command("list")
def list_users(file: Users = DEFAULT) -> None:
    """List the users, each with a role."""
    from dqm.web.auth.users import UserFile

    users = UserFile(file)
    for name in users.names:
        say(f"{name} {users.role(name)}")
