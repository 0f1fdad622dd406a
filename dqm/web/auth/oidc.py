"""Signing in at a provider of OpenID Connect: authorization code with PKCE, state and nonce, by authlib.

1. `OidcProvider.begin` sends the browser to the provider. The values that the answer must match (state,
   nonce, code verifier) are in a signed cookie of the browser, valid for ten minutes: strangers who begin and
   never finish take no memory here.
2. The provider sends the browser back with a code. `OidcProvider.finish` compares the state, exchanges the
   code for an ID token, and authlib checks signature, issuer, audience, expiry and nonce of that token.
3. Name and groups are claims of the ID token or of the user information. Tokens are not used after that; the
   ID token is kept with the session, because the provider wants it at the sign-out.

The provider is first asked when somebody signs in, so a daemon starts without it. Its metadata are kept for
an hour; after a failure it is asked again after ten seconds.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from starlette.requests import Request

from dqm.config import OidcSection, read_secret
from dqm.web.auth.bounded_transport import BoundedTransport
from dqm.web.auth.proxies import LONGEST_NAME
from dqm.web.auth.users import normalise
from dqm.web.problems import NotSignedInError, ProviderError

__all__ = ["Beginning", "Identity", "OidcProvider"]

log = structlog.get_logger(__name__)

_KEPT_SECONDS = 3600.0
_RETRY_SECONDS = 10.0
_TIMEOUT_SECONDS = 10.0
_SIGN_IN_SECONDS = 600
_LEEWAY_SECONDS = 60
_REQUIRED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_OPTIONAL = ("userinfo_endpoint", "end_session_endpoint")
_SIGNATURES = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
_OUR_FAULT = ("invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type")
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RuntimeError)
"""Errors of authlib for answers that do not follow the standards."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, as the provider knows them.

    Parameters
    ----------
    name : str
        The user's name.
    groups : tuple of str
        The user's groups.
    id_token : str
        By which the provider knows the sign-in; a secret.
    """

    name: str
    groups: tuple[str, ...]
    id_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Beginning:
    """A sign-in that has begun.

    Parameters
    ----------
    address : str
        Where the browser goes.
    cookie : str
        What it must bring back.
    seconds : int
        For how long the cookie is good, s.
    """

    address: str
    cookie: str = field(repr=False)
    seconds: int = _SIGN_IN_SECONDS


class OidcProvider:
    """A provider of OpenID Connect; one loop uses it.

    Parameters
    ----------
    section : OidcSection
        Where it is, and who we are there.
    monotonic : callable
        Seconds that never go back.

    Raises
    ------
    ConfigError
        If the file with the secret cannot be used.
    """

    def __init__(self, section: OidcSection, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._section = section
        self._monotonic = monotonic
        self._secret = read_secret(section.client_secret, "the secret of [web.oidc]")
        self._cookie_key = OctKey.import_key(secrets.token_bytes(32))
        self._trusted = ssl.create_default_context()  # once: authlib makes a client for each request
        self._lock = asyncio.Lock()
        self._client: Any = None
        self._kept_until = self._silent_until = -1.0
        self._trouble = ""

    async def begin(self, return_address: str, after: str) -> Beginning:
        """Begin a sign-in.

        Parameters
        ----------
        return_address : str
            Where the provider shall send the browser; registered there.
        after : str
            Page to go on to, see `finish`.

        Returns
        -------
        Beginning
            Where the browser goes now, and what it must bring back.

        Raises
        ------
        ProviderError
            If the provider cannot be used at present.
        """
        client = await self._connect()
        try:
            begun = await client.create_authorization_url(return_address)
        except (httpx2.HTTPError, AuthlibBaseError, *_MALFORMED) as error:
            raise self._unusable(error) from None
        # what authlib keeps in a session, see `_session_of`
        kept = {key: begun[key] for key in ("nonce", "code_verifier")} | {"redirect_uri": return_address}
        claims = {
            "state": begun["state"],
            "data": kept,
            "after": after,
            "ends": self._monotonic() + _SIGN_IN_SECONDS,
        }
        return Beginning(begun["url"], jwt.encode({"alg": "HS256"}, claims, self._cookie_key))

    async def finish(self, request: Request, cookie: str) -> tuple[Identity, str]:
        """End a sign-in.

        Parameters
        ----------
        request : Request
            With the provider's answer in its query.
        cookie : str
            Of the `Beginning`.

        Returns
        -------
        tuple of Identity and str
            Who has signed in, and the page to go on to.

        Raises
        ------
        NotSignedInError
            If the answer is not one to a sign-in of this browser, or the provider did not let the user in.
        ProviderError
            If the provider cannot be used at present.
        """
        begun = self._read_cookie(cookie)
        query = request.query_params
        issuer = self._section.issuer
        if query.get("state") != begun["state"] or query.get("iss", issuer) != issuer:
            raise _not_begun()
        if "error" in query or "code" not in query:
            # whoever has begun may have written it: it says nothing about the provider
            raise self._refused(query.get("error"))
        client = await self._connect()
        request.scope["session"] = _session_of(client, begun)
        try:
            token = await client.authorize_access_token(
                request,
                claims_options={
                    "iss": {"essential": True, "value": issuer},
                    "aud": {"essential": True, "value": self._section.client_id},
                },
                leeway=_LEEWAY_SECONDS,
            )
            identity = await self._identify(client, token)
        except NotSignedInError:
            raise
        except AuthlibBaseError as error:
            if error.error in _OUR_FAULT:
                raise self._unusable(error) from None
            raise self._refused(error.error) from None
        except JoseError as error:
            log.warning("sign-in refused: the ID token is not valid", why=f"{error!r:.200}")
            raise NotSignedInError("the provider's ID token is not valid", fix="Sign in again") from None
        except (httpx2.HTTPError, *_MALFORMED) as error:
            raise self._unusable(error) from None
        return identity, str(begun["after"])

    async def end_address(self, id_token: str, after: str) -> str | None:
        """Give where the browser ends its sign-in at the provider; None if it cannot.

        Parameters
        ----------
        id_token : str
            Of the `Identity`.
        after : str
            Address to come back to; registered at the provider.
        """
        try:
            client = await self._connect()
            if "end_session_endpoint" not in client.server_metadata:
                return None
            made = await client.create_logout_url(after, id_token, client_id=self._section.client_id)
        except (ProviderError, httpx2.HTTPError, *_MALFORMED):  # logged already; here the user is signed out
            return None
        return str(made["url"])

    async def _connect(self) -> Any:
        """Give authlib's client, after the provider has described itself."""
        async with self._lock:
            now = self._monotonic()
            if now < self._kept_until:
                return self._client
            if now < self._silent_until:
                raise self._error()
            client = self._make_client()
            try:
                self._adopt(await client.load_server_metadata())
            except (httpx2.HTTPError, *_MALFORMED) as error:
                self._silent_until = now + _RETRY_SECONDS
                raise self._unusable(error) from None
            self._client = client
            self._kept_until = now + _KEPT_SECONDS
            return client

    def _make_client(self) -> Any:
        section = self._section
        return OAuth().register(
            "provider",
            client_id=section.client_id,
            client_secret=self._secret,
            server_metadata_url=f"{section.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(section.scopes),
                "code_challenge_method": "S256",
                "timeout": _TIMEOUT_SECONDS,
                "transport": BoundedTransport(self._trusted),
            },
        )

    def _adopt(self, metadata: dict[str, Any]) -> None:
        """Check how the provider describes itself; raises `ValueError`."""
        issuer = self._section.issuer
        if metadata.get("issuer") != issuer:
            raise ValueError(f"it calls itself {metadata.get('issuer')!r:.200}, not {issuer!r}")
        scheme = issuer.partition("://")[0]
        for key in (*_REQUIRED, *_OPTIONAL):
            address = metadata.get(key)
            if (address is None and key in _REQUIRED) or not str(address or "https://").startswith(
                ("https://", f"{scheme}://")
            ):
                raise ValueError(f"its {key} is {address!r:.200}")
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        usable = [name for name in offered if name in _SIGNATURES]
        if not usable:
            raise ValueError(f"it signs ID tokens by {offered!r:.200} alone, not by one of {_SIGNATURES}")
        metadata["id_token_signing_alg_values_supported"] = usable

    async def _identify(self, client: Any, token: Mapping[str, Any]) -> Identity:
        """Find name and groups in the ID token, or in the user information where it lacks them."""
        section = self._section
        if "userinfo" not in token:
            raise ValueError("it gave no ID token")
        claims = dict(token["userinfo"])
        lacks = section.name_claim not in claims or section.groups_claim not in claims
        if lacks and "userinfo_endpoint" in client.server_metadata:
            # without its expiry: authlib would refuse to use a token of a minute
            access = {key: token[key] for key in ("access_token", "token_type")}
            told = await client.userinfo(token=access)
            if told.get("sub") != claims["sub"]:
                raise ValueError("its user information is about another user")
            claims = dict(told) | claims
        return Identity(
            self._name(claims.get(section.name_claim)),
            self._groups(claims.get(section.groups_claim, [])),
            str(token["id_token"]),
        )

    def _name(self, claim: object) -> str:
        if (
            not isinstance(claim, str)
            or not claim.strip()
            or len(claim) > LONGEST_NAME
            or not claim.isprintable()
        ):
            raise self._useless(self._section.name_claim, claim)
        return normalise(claim.strip())

    def _groups(self, claim: object) -> tuple[str, ...]:
        groups = [claim] if isinstance(claim, str) else claim
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise self._useless(self._section.groups_claim, claim)
        return tuple(groups)

    def _useless(self, key: str, claim: object) -> NotSignedInError:
        log.warning("sign-in refused: a claim cannot be used", claim=key, value=f"{claim!r:.200}")
        return NotSignedInError(
            f"the provider's claim {key!r} cannot be used",
            fix="Ask whoever runs the daemon: its log has the value, [web.oidc] names the claims",
        )

    def _read_cookie(self, cookie: str) -> dict[str, Any]:
        try:
            begun: dict[str, Any] = jwt.decode(cookie, self._cookie_key, algorithms=["HS256"]).claims
        except (JoseError, ValueError):
            raise _not_begun() from None
        if begun["ends"] < self._monotonic():
            raise _not_begun()
        return begun

    def _refused(self, code: str | None) -> NotSignedInError:
        """Say that the provider refused the sign-in; its own words go only to the log."""
        log.warning("sign-in refused by the provider", why=f"{code!r:.100}")
        what = "the provider did not let you in"
        if code == "invalid_grant":
            what = "the provider does not know this sign-in, or it was used before"
        return NotSignedInError(what, fix="Sign in again, or ask whoever runs the provider")

    def _unusable(self, error: Exception) -> ProviderError:
        """Say that the provider cannot be used; the reason goes only to the log."""
        is_silent = isinstance(error, httpx2.HTTPError)
        self._trouble = "does not answer" if is_silent else "cannot be used: the daemon's log says why"
        log.warning(
            "the provider of OpenID Connect cannot be used",
            issuer=self._section.issuer,
            why=f"{error!r:.300}",
        )
        return self._error()

    def _error(self) -> ProviderError:
        return ProviderError(
            f"single sign-on {self._trouble}", fix="Try again later, or sign in in another way"
        )


def _session_of(client: Any, begun: Mapping[str, Any]) -> dict[str, Any]:
    """Give what authlib looks for in the session of Starlette."""
    return {f"_state_{client.name}_{begun['state']}": {"data": begun["data"]}}


def _not_begun() -> NotSignedInError:
    return NotSignedInError(
        "this is not an answer to a sign-in that this browser began in the last ten minutes",
        fix="Begin again; the browser must accept cookies of this page",
    )
