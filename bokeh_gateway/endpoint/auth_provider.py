"""An OpenID provider, as its discovery document tells: where it is asked, and whether its id tokens are good.

Sources: OpenID Connect Core 1.0 sections 3.1.3 and 12, Discovery 1.0 section 4, RFC 7636 (PKCE).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from base64 import b64encode
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlencode

from bokeh_gateway.config.fields import is_http_url
from bokeh_gateway.endpoint.auth_token import read_header, verify
from bokeh_gateway.policy.identity import Identity
from bokeh_gateway.policy.jwt_claims import ClaimRules
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.signer.fetch import Fetcher, Unreachable
from bokeh_gateway.signer.source import KeySource

if TYPE_CHECKING:
    from bokeh_gateway.config.auth import Oidc

log = logging.getLogger(__name__)

METADATA_AGE: Final = 24 * 3600.0
"""Seconds for which a discovery document is believed."""
KEYS_AGE: Final = 3600.0


class Provider:
    """Asks the provider; remembers what it published."""

    def __init__(self, settings: Oidc, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.keys = KeySource(self._keys_url, fetcher, clock, KEYS_AGE)
        self._fetcher = fetcher
        self._clock = clock
        self._metadata: dict[str, Any] | None = None
        self._fetched = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._algorithms: frozenset[str] = frozenset(settings.algorithms)
        self._rules = ClaimRules(
            method="oidc",
            issuers=frozenset({settings.issuer}),
            audiences=frozenset({settings.client_id}),
            leeway=settings.leeway,
            require=("sub", "iat"),
            user=settings.user_claim,
            groups=settings.groups_claim,
            headers=tuple(settings.headers.items()),
        )

    def inherit(self, before: Provider) -> None:
        """Takes over what one before it, of the same issuer, has published: a reload is no reason to be without."""
        if before.settings.issuer == self.settings.issuer:
            self._metadata, self._fetched = before._metadata, before._fetched
            self.keys.restore(before.keys.document)

    async def metadata(self) -> dict[str, Any]:
        """The discovery document.

        Raises:
            Unreachable: there is none, and never was.
        """
        if self._metadata is None or self._clock() - self._fetched > METADATA_AGE:
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._discover())
                self._task.add_done_callback(self._discovered)
            task = self._task
            await asyncio.wait([task])
            if self._metadata is None:
                raise Unreachable(f"{self.settings.issuer}: its discovery document could not be fetched")
        return self._metadata

    def known(self, name: str) -> str | None:
        """An endpoint of the discovery document, as far as it is known now."""
        value = (self._metadata or {}).get(name)
        return value if isinstance(value, str) and is_http_url(value) else None

    @property
    def names_itself(self) -> bool:
        """Whether it says its name with each answer to a login."""
        return (self._metadata or {}).get("authorization_response_iss_parameter_supported") is True

    async def tokens(self, form: dict[str, str]) -> dict[str, Any]:
        """The answer of the token endpoint to a grant.

        Raises:
            Unreachable: no answer.
            Answered: it refused.
        """
        metadata = await self.metadata()
        url = self.known("token_endpoint")
        assert url is not None
        settings = self.settings
        headers: dict[str, str] = {}
        secret = settings.client_secret.get_secret_value() if settings.client_secret is not None else None
        offered = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret is not None and "client_secret_basic" in offered:
            pair = f"{quote_plus(settings.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        else:
            form = {**form, "client_id": settings.client_id, **({"client_secret": secret} if secret else {})}
        answer = await self._fetcher.json(url, body=urlencode(form), headers=headers)
        if not isinstance(answer, dict):
            raise Unreachable(f"{url}: no JSON object")
        return answer

    async def identify(self, id_token: object, nonce: str | None) -> tuple[Identity, str] | Deny:
        """Whom an id token is of, and his `sub`; `nonce`: the one that was sent, None after a refresh."""
        if not isinstance(id_token, str):
            return Deny(401, "id-token-missing", "the provider's answer holds no id token")
        token = id_token.encode("utf-8", "replace")
        header = read_header(token, self._algorithms, "oidc")
        if isinstance(header, Deny):
            return header
        keys = self.keys
        keys.freshen()
        if not any(key.kid == header.kid for key in keys.keys) and (not keys.keys or not keys.pause):
            await keys.look_again()
        claims = verify(token, header, keys.keys, "oidc")
        if claims is None:
            return Deny(503 if not keys.keys else 401, "token-key", "no key of the provider fits its id token")
        if isinstance(claims, Deny):
            return claims
        found = self._rules.check(claims, time())
        if isinstance(found, Deny):
            return found
        audience, party = claims["aud"], claims.get("azp")
        several = isinstance(audience, list) and len(audience) > 1
        if (party is not None or several) and party != self.settings.client_id:
            return Deny(401, "token-audience", "the id token was made for another client (azp)")
        if nonce is not None and not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            return Deny(401, "token-nonce", "the id token answers another sign-in")
        return found, str(claims["sub"])

    def close(self) -> None:
        self.keys.close()
        if self._task is not None:
            self._task.cancel()

    def _keys_url(self) -> str | None:
        return self.known("jwks_uri")

    def _discovered(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.warning("the OpenID provider cannot be used: %s", task.exception())

    async def _discover(self) -> None:
        url = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        document = await self._fetcher.json(url)
        if not isinstance(document, dict) or document.get("issuer") != self.settings.issuer:
            said = document.get("issuer") if isinstance(document, dict) else None
            raise Unreachable(f"{url} names the issuer {said!r}, [auth.oidc] issuer = {self.settings.issuer!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            value = document.get(name)
            if not isinstance(value, str) or not is_http_url(value):
                raise Unreachable(f"{url}: no {name}")
        self._metadata = document
        self._fetched = self._clock()
