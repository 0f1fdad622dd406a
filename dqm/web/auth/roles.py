"""Which role each action needs, and which role groups give: both are decided only here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dqm.config import Role, WebSection

__all__ = ["NEEDED", "role_of_groups"]

NEEDED: Mapping[str, Role] = {
    "acknowledge": Role.SHIFTER,
    "shelve": Role.SHIFTER,
    "unshelve": Role.SHIFTER,
    "accept": Role.SHIFTER,
    "compare": Role.SHIFTER,
    "mask": Role.EXPERT,
    "unmask": Role.EXPERT,
    "amend": Role.EXPERT,
    "label": Role.EXPERT,
    "withdraw": Role.EXPERT,
    "sign": Role.EXPERT,
    "users": Role.ADMIN,
}
"""Role that an action needs, by `action` of `dqm.alarm.Command` and `dqm.alarm.CertifyCommand`.

``users``: see users, change and sign them out. ``compare``: let the daemon compare kept events, which takes
time of its machine, and end that.

Reading needs any role, from this host none.
"""


def role_of_groups(groups: Iterable[str], section: WebSection) -> Role | None:
    """Give the highest role of a user's groups.

    Parameters
    ----------
    groups : iterable of str
        As a proxy or a provider names them.
    section : WebSection
        Its `roles` and `unmapped` decide.

    Returns
    -------
    Role or None
        None if the user is refused.
    """
    found = [section.roles[group] for group in groups if group in section.roles]
    if found:
        return max(found, key=list(Role).index)
    return Role.VIEWER if section.unmapped == "viewer" else None
