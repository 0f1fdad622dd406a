"""``dqm users``: who may change something on the page, and passwords."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say
from dqm.errors import InputError

__all__ = ["app"]

app = typer.Typer(
    help="Add, remove and list users, who may change something on the page.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name of the user.")]
Users = Annotated[Path, typer.Option("--file", "-f", help="The file that [web] users names.")]

DEFAULT = Path("users.toml")


@app.command()
def add(name: Name, file: Users = DEFAULT) -> None:
    """Add a user, or set a new password. It is asked for, or read from standard input."""
    if sys.stdin.isatty():
        password = getpass.getpass(f"New password of {name}: ")
        if getpass.getpass("The same again: ") != password:
            raise InputError("the two passwords differ", fix="Nothing was changed; try again")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    from dqm.web.auth.users import add_user

    is_new = add_user(file, name, password)
    say(f"{file}: {name} {'added' if is_new else 'has a new password, and is signed out'}")


@app.command()
def remove(name: Name, file: Users = DEFAULT) -> None:
    """Remove a user and end their sessions at once."""
    from dqm.web.auth.users import remove_user

    remove_user(file, name)
    say(f"{file}: {name} removed")


@app.command("list")
def list_users(file: Users = DEFAULT) -> None:
    """List the users."""
    from dqm.web.auth.users import UserFile

    for name in UserFile(file).names:
        say(name)
