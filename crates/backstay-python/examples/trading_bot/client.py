"""The exchange as the bot sees it: three requests over HTTP, and what can go wrong with them."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 0.3
"""Seconds that an answer may take."""


class ExchangeError(Exception):
    """A request was in vain, and the exchange is to blame."""


class OurMistake(Exception):
    """The exchange is well, and refuses: such an error must not open the circuit."""


class Unknown(OurMistake):
    """404: there is no such thing."""


class Throttled(OurMistake):
    """429: we ask too much, and may come back after `pause` seconds."""

    def __init__(self, pause: float) -> None:
        super().__init__(f"429, Retry-After: {pause:g}")
        self.pause = pause


class Client:
    """A client of the exchange at `url`, such as http://127.0.0.1:8080."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.query:
            raise ValueError(f"{url!r} is not of the form http://HOST:PORT")
        self.host, self.port = parts.hostname, parts.port

    def price(self) -> float:
        """What one unit costs now."""
        return float(self._ask("GET", "/ticker")["price"])

    def order(self) -> int:
        """Buys one unit; the number of the new position."""
        return int(self._ask("POST", "/orders")["position"])

    def close(self, position: int) -> None:
        """Sells what was bought."""
        try:
            self._ask("DELETE", f"/positions/{position}")
        except Unknown:
            pass  # It is sold already: the answer that said so was lost.

    def _ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read(65536)
        except TimeoutError:
            raise ExchangeError(f"no answer within {PATIENCE * 1000:.0f}ms") from None
        except (OSError, http.client.HTTPException) as error:
            raise ExchangeError(str(error)) from error
        finally:
            connection.close()
        if answer.status == 429:
            raise Throttled(float(answer.headers.get("Retry-After", "1")))
        if answer.status >= 400:
            kind = Unknown if answer.status == 404 else ExchangeError if answer.status >= 500 else OurMistake
            raise kind(f"{answer.status} {answer.reason}")
        return json.loads(body) if body else None
