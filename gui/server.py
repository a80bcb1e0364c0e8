"""The web server: one page for each language, the files of runs, and the login before all of it."""

import asyncio
import os
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import Any

import gradio
import uvicorn
from fastapi import APIRouter, FastAPI
from gradio.networking import setup_tunnel
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

from backend.faults import Faults
from backend.runs.queue import Queue
from backend.runs.worker import ensure_worker
from gui.downloads import answer_with, file_of_run
from gui.options import PageOptions, resolved
from gui.text import LANGUAGES, best_language
from gui.theme import look
from gui.wall import LANGUAGE_COOKIE, Login, LocalOnly, Wall, is_this_machine
from gui.window import PageState, build

ICON = Path(__file__).with_name("icon.svg")
IDLE_SECONDS = 0.05  # between two looks into Gradio's queue; its own 0.001 costs a tenth of a processor
YEAR = 365 * 24 * 3600


def serve(options: PageOptions) -> None:
    """Open the page and keep it open until Ctrl-C. Raises Faults where it cannot be opened."""
    listener = bind(options)
    login = login_for(options)
    state = page_state(options)
    state.state_dir.mkdir(parents=True, exist_ok=True)
    if any(job.status in ("waiting", "running") for job in Queue(state.state_dir).jobs()):
        ensure_worker(state.state_dir)  # what was left waiting goes on
    app = wall_around(application(state, options), login, options)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False))
    asyncio.run(run(server, listener, options, login))


def bind(options: PageOptions) -> socket.socket:
    """The socket to listen at, taken before anything slow is done. Raises Faults."""
    family = socket.AF_INET6 if ":" in options.listen else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name != "nt":  # there it would let two programs share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.listen, options.server_port))
        listener.listen(128)
    except OSError as fault:
        listener.close()
        raise Faults(f"The page cannot listen at {options.listen}, port {options.server_port}: {fault.strerror or fault}. "
                     f"Close what uses the port, or choose another: --server_port {min(options.server_port + 1, 65535)}.") from None
    return listener


def login_for(options: PageOptions) -> Login | None:
    """The login that is asked for or needed; what of it was not given is made up. None: only this machine can reach the page."""
    if not (is_open(options) or options.username or options.password):
        return None
    return Login(options.username or "darkroom", options.password or secrets.token_urlsafe(12))


def is_open(options: PageOptions) -> bool:
    """Whether others than this machine's own people can reach the page."""
    return options.share or not is_this_machine(options.listen)


def page_state(options: PageOptions) -> PageState:
    """What every page needs to know, with whole paths."""
    state_dir, runs_dir = resolved(options.state_dir), resolved(options.runs_dir)
    allowed = [*(resolved(path) for path in options.allowed_paths), runs_dir, state_dir / "demo"]
    return PageState(state_dir, runs_dir, allowed, is_open(options))


def application(state: PageState, options: PageOptions) -> FastAPI:
    """All routes, without the login."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_routes(app, state, options)
    for language in LANGUAGES:
        mount_page(app, language, state, options)
    return app


def add_routes(app: FastAPI, state: PageState, options: PageOptions) -> None:
    """The ways that are not Gradio's: to the page of one's language, and to the files of runs."""
    ways = APIRouter(prefix=options.root_path)

    @ways.get("/")
    def home(request: Request) -> Response:
        remembered = request.cookies.get(LANGUAGE_COOKIE) or options.language or ""
        language = best_language(request.headers.get("accept-language", ""), remembered)
        return RedirectResponse(f"{options.root_path}/{language}/", 303, headers={"Cache-Control": "no-store"})

    @ways.get("/favicon.ico")
    def icon() -> Response:
        return FileResponse(ICON, media_type="image/svg+xml")

    @ways.get("/lang/{language}")
    def choose_language(language: str) -> Response:
        if language not in LANGUAGES:
            return PlainTextResponse("no such language", 404)
        response = RedirectResponse(f"{options.root_path}/{language}/", 303)
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=YEAR, httponly=True, samesite="lax")
        return response

    @ways.get("/files/{job}/{name:path}")
    def file(job: int, name: str) -> Response:
        known = {known.id: known for known in Queue(state.state_dir).jobs()}
        path = file_of_run(name, known[job].run_dir) if job in known else None
        return answer_with(path) if path else PlainTextResponse("no such file", 404)

    app.include_router(ways)


def mount_page(app: FastAPI, language: str, state: PageState, options: PageOptions) -> None:
    """One language's page under its own path."""
    page = build(language, state)
    path = f"{options.root_path}/{language}"
    gradio.mount_gradio_app(app, page, path, server_name=options.listen, server_port=options.server_port, show_error=True, **look())
    if hasattr(page._queue, "sleep_when_free"):
        page._queue.sleep_when_free = IDLE_SECONDS


def wall_around(app: Any, login: Login | None, options: PageOptions) -> Any:
    """The app behind its login, or open to this machine alone."""
    guarded = Wall(app, login, options.root_path) if login else LocalOnly(app)
    return Below(guarded, options.root_path) if options.root_path else guarded


class Below:
    """ASGI: every path lies below root_path, whether or not the web server in front takes that off."""

    def __init__(self, app: Any, root_path: str):
        self.app, self.root_path = app, root_path

    async def __call__(self, scope, receive, send) -> None:
        """Put root_path back in front where it is missing."""
        path = scope.get("path", "")
        if path == self.root_path:
            scope = {**scope, "path": f"{path}/"}
        elif scope["type"] != "lifespan" and not path.startswith(f"{self.root_path}/"):
            scope = {**scope, "path": self.root_path + path}
        await self.app(scope, receive, send)


async def run(server: uvicorn.Server, listener: socket.socket, options: PageOptions, login: Login | None) -> None:
    """Serve, and say where once it can be reached."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    if server.started:
        await asyncio.to_thread(tell, options, login)
    await serving


def tell(options: PageOptions, login: Login | None) -> None:
    """Print where the page is and how to get in; open it where that is wanted."""
    address = f"http://{address_to_open(options.listen)}:{options.server_port}"
    print(f"Darkroom is open at {address} (Ctrl-C ends it; runs go on).", flush=True)
    if login:
        print(f"Sign in as {login.username} with the password {'you gave' if options.password else login.password}", flush=True)
    if options.inbrowser and not options.headless:
        webbrowser.open(address)
    if options.share:
        print(shared_address(options), flush=True)


def address_to_open(listen: str) -> str:
    """A host at which this machine's own browser finds the page."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)
    return f"[{host}]" if ":" in host else host


def shared_address(options: PageOptions) -> str:
    """Open the tunnel; what to print about it."""
    try:
        host = address_to_open(options.listen).strip("[]")
        return f"Public address: {setup_tunnel(host, options.server_port, secrets.token_urlsafe(32), None, None)}"
    except Exception as fault:  # Gradio's tunnel raises errors of many kinds; the page itself is open all the same
        return f"No public address could be had: {fault}. The page stays open at this machine's own address."
