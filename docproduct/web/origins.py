"""Origins: the web sites whose pages may call the service from a browser (CORS), as browsers name them."""

import re
import urllib.parse
from collections.abc import Iterable

EVERY = "*"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_NO_SITES = ("file", "ftp")
_PORTS = {"http": 80, "https": 443}  # a browser leaves these out


def normal(origins: Iterable[str]) -> tuple[str, ...]:
    """Returns origins as browsers send them: in lower case, in punycode, without the scheme's own port.

    Args:
      origins: Each is scheme://host, scheme://host:port, or `*` for pages of every web site.

    Raises:
      ValueError: an origin is something else, which no browser would send.
    """
    return tuple(dict.fromkeys(map(_normal, origins)))


def _normal(origin: str) -> str:
    origin = origin.strip()
    if origin == EVERY:
        return origin
    scheme, separator, rest = origin.partition("://")
    scheme = scheme.lower()
    if not separator or not _SCHEME.fullmatch(scheme) or scheme in _NO_SITES:
        raise _wrong(origin, "it has no scheme of a web site")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if authority != rest:
        raise _wrong(origin, f"it has a path; a browser sends {scheme}://{authority} for all of them")
    try:
        parts = urllib.parse.urlsplit(f"//{authority}")
        host, port = authority.removesuffix(f":{parts.port}"), parts.port
        host = host.lower() if host.isascii() else host.encode("idna").decode()
    except ValueError as error:
        raise _wrong(origin, str(error)) from error
    if not _HOST.fullmatch(host) or host.startswith("."):
        raise _wrong(origin, f"{host!r} is not the name of a host; patterns are not supported")
    return f"{scheme}://{host}" if port is None or port == _PORTS.get(scheme) else f"{scheme}://{host}:{port}"


def _wrong(origin: str, reason: str) -> ValueError:
    return ValueError(
        f"cors_origins has {origin!r}; expected scheme and host without a path, such as https://a.example or "
        f"http://localhost:3000, or * for every site: {reason}."
    )
