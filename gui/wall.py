"""The login that stands before everything: pages, API, files and websockets."""

import hashlib
import hmac
import html
import ipaddress
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from gui.text import best_language, text

LOGIN_PATH = "/__login"  # /login is a route of Gradio
COOKIE = "darkroom_login"
LANGUAGE_COOKIE = "darkroom_language"
VALID_SECONDS = 7 * 24 * 3600
FREE_ATTEMPTS = 5
LONGEST_WAIT = 60  # seconds
LARGEST_FORM = 4096  # bytes
# The page itself needs inline scripts and styles; nothing from outside this machine is ever asked for.
POLICY = ("default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' ws: wss: data: blob:; "
          "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'")


@dataclass
class Attempts:
    """Counts wrong passwords, of everybody together: behind a tunnel all come from one address."""

    wrong: int = 0
    until: float = 0.0  # on time.monotonic's clock

    def wait(self) -> int:
        """Seconds until the next attempt is looked at; 0: now."""
        return max(0, int(self.until - time.monotonic() + 0.999))

    def failed(self) -> None:
        """Remember a wrong one; from the fifth on each doubles the wait."""
        self.wrong += 1
        if self.wrong >= FREE_ATTEMPTS:
            self.until = time.monotonic() + min(LONGEST_WAIT, 2 ** (self.wrong - FREE_ATTEMPTS + 1))

    def succeeded(self) -> None:
        """Begin anew."""
        self.wrong, self.until = 0, 0.0


@dataclass(frozen=True)
class Login:
    """Who may come in. The key lives as long as the process: a restarted page asks again."""

    username: str
    password: str = field(repr=False)
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def fits(self, username: str, password: str) -> bool:
        """Whether both are right, in a time that does not tell how nearly."""
        name_fits = hmac.compare_digest(digest(username), digest(self.username))
        word_fits = hmac.compare_digest(digest(password), digest(self.password))
        return name_fits and word_fits

    def cookie(self, now: float) -> str:
        """A signed cookie that is worth something until its time has come."""
        expiry = str(int(now) + VALID_SECONDS)
        return f"{expiry}.{self.signature(expiry)}"

    def admits(self, cookie: str, now: float) -> bool:
        """Whether a cookie was signed here and has not expired."""
        expiry, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self.signature(expiry).encode()):
            return False
        return expiry.isdigit() and int(expiry) > now

    def signature(self, expiry: str) -> str:
        """What only this process can write behind an expiry."""
        return hmac.new(self.key, expiry.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def digest(words: str) -> bytes:
    """Of one length, whatever the words' length is."""
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()


class Wall:
    """ASGI: nothing passes without the cookie, whoever asks and from wherever. Only the form itself is open."""

    def __init__(self, app: Any, login: Login, root_path: str = ""):
        self.app, self.login, self.root_path = app, login, root_path
        self.attempts = Attempts()

    async def __call__(self, scope, receive, send) -> None:
        """Let it through, show the form, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        is_form = scope["type"] == "http" and scope["path"] == self.root_path + LOGIN_PATH
        if not is_form and self.login.admits(HTTPConnection(scope).cookies.get(COOKIE, ""), time.time()):
            return await self.app(scope, receive, guarded(send))
        if scope["type"] == "websocket":
            return await refuse_websocket(receive, send)
        request = Request(scope, receive)
        response = await self.answer(request) if is_form else self.refusal(request)
        await response(scope, receive, guarded(send))

    def refusal(self, request: Request) -> Response:
        """The way to the form for a person who opens a page, 401 for everything else."""
        if request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(self.root_path + LOGIN_PATH, 303)
        return JSONResponse({"detail": "sign in first"}, 401)

    async def answer(self, request: Request) -> Response:
        """The form, or what comes of sending it."""
        language = language_of(request)
        if request.method != "POST":
            return form(language, self.root_path, "", 200)
        sent = await sent_form(request)
        if sent is None:
            return PlainTextResponse("too much was sent", 413)
        # Nothing is awaited from here on, so that many attempts at once are limited as well.
        if wait := self.attempts.wait():
            return form(language, self.root_path, text("login.wait", language, seconds=wait), 429)
        if not self.login.fits(sent.get("username", ""), sent.get("password", "")):
            self.attempts.failed()
            return form(language, self.root_path, text("login.wrong", language), 401)
        self.attempts.succeeded()
        response = RedirectResponse(f"{self.root_path}/", 303)
        # The header may be forged, but then only the forger's own cookie is kept back.
        is_https = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
        response.set_cookie(COOKIE, self.login.cookie(time.time()), max_age=VALID_SECONDS, httponly=True, samesite="lax", secure=is_https)
        return response


class LocalOnly:
    """ASGI: without a login only this machine's own browser is answered, and only for pages of ours.

    A foreign page in the same browser could otherwise reach this one under a name of its own (DNS rebinding), or send it forms.
    """

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        """Let it through, or refuse."""
        if scope["type"] not in ("http", "websocket") or is_from_here(Headers(scope=scope)):
            return await self.app(scope, receive, guarded(send) if scope["type"] == "http" else send)
        if scope["type"] == "websocket":
            return await refuse_websocket(receive, send)
        words = "Darkroom answers only under 127.0.0.1 or localhost. To reach it by another name, start it with --username and --password."
        await PlainTextResponse(words, 403)(scope, receive, send)


def is_from_here(headers: Headers) -> bool:
    """Whether the page was asked for by a name of this machine, and by no page of another."""
    host, origin = headers.get("host", ""), headers.get("origin")
    return is_this_machine(name_in(f"//{host}")) and (origin is None or urlsplit(origin).netloc == host)


def name_in(url: str) -> str:
    """The host's name in an address, or nothing where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_this_machine(name: str) -> bool:
    """Whether a host name or address means this machine alone."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def language_of(request: Request) -> str:
    """The language that a browser asks for."""
    return best_language(request.headers.get("accept-language", ""), request.cookies.get(LANGUAGE_COOKIE, ""))


async def refuse_websocket(receive, send) -> None:
    """Close before it is opened; the server answers 403."""
    await receive()
    await send({"type": "websocket.close", "code": 1008})


async def sent_form(request: Request) -> dict[str, str] | None:
    """The fields of the form that was sent, or None where it is far too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            return None
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).items()}


def guarded(send):
    """Adds what browsers are told with every answer."""
    async def send_guarded(message):
        if message["type"] == "http.response.start":
            headers = [(b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        await send(message)

    return send_guarded


def form(language: str, root_path: str, fault: str, status: int) -> HTMLResponse:
    """The page with the form."""
    words = {key: html.escape(text(f"login.{key}", language)) for key in ("title", "username", "password", "submit")}
    page = FORM.format(language=language, action=html.escape(root_path + LOGIN_PATH), fault=html.escape(fault), **words)
    return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})


FORM = """<!doctype html><html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>
:root{{color-scheme:light dark;--ground:#f6f6f4;--card:#fff;--ink:#1c1c1a;--line:#d8d8d4;--bad:#b3261e}}
@media(prefers-color-scheme:dark){{:root{{--ground:#161615;--card:#212120;--ink:#ecece8;--line:#3a3a38;--bad:#ff8a80}}}}
body{{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--ground);color:var(--ink);font:16px system-ui,sans-serif}}
form{{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:28px;width:min(320px,calc(100vw - 32px));box-sizing:border-box}}
h1{{font-size:18px;margin:0 0 20px}}label{{display:block;margin:0 0 14px;font-size:14px}}
input{{display:block;width:100%;box-sizing:border-box;margin-top:5px;padding:9px;font:inherit;color:inherit;background:var(--ground);border:1px solid var(--line);border-radius:6px}}
button{{width:100%;padding:10px;font:inherit;font-weight:600;color:#fff;background:#cf3f24;border:0;border-radius:6px;cursor:pointer}}
p{{color:var(--bad);font-size:14px;min-height:1.2em;margin:0 0 10px}}</style></head>
<body><form method="post" action="{action}"><h1>{title}</h1>
<label>{username}<input name="username" autocomplete="username" autofocus required></label>
<label>{password}<input name="password" type="password" autocomplete="current-password" required></label>
<p role="alert">{fault}</p><button>{submit}</button></form></body></html>"""
