"""The page's server, asked by a real client over real sockets: nobody gets anything without the login, and files only of runs."""

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

import uvicorn
from starlette.routing import Mount

from backend.config.config import make_config
from backend.faults import Faults
from backend.runs.queue import Queue
from gui import server
from gui.options import PageOptions
from gui.wall import COOKIE, FREE_ATTEMPTS, LOGIN_PATH, VALID_SECONDS, Attempts, Login, is_this_machine

ROOT = Path(__file__).resolve().parents[2]
NAME, WORD = "ann", "a wörd of 'some' length"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Page:
    """The page, served in a thread of this process."""

    def __init__(self, options):
        self.options, self.login = options, server.login_for(options)
        self.listener = server.bind(options)
        self.app = server.application(server.page_state(options), options)
        self.wall = server.wall_around(self.app, self.login, options)
        self.server = uvicorn.Server(uvicorn.Config(self.wall, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)
        self.address = f"http://127.0.0.1:{options.server_port}"

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        return self

    def __exit__(self, *error):
        self.server.should_exit = True
        self.thread.join(10)

    def client(self, signed_in=False):
        client = httpx.Client(base_url=self.address, timeout=20)
        if signed_in:
            # Anew, so that what another test tried does not matter.
            client.cookies.set(COOKIE, self.login.cookie(time.time()))
        return client


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A page behind a login."""
    place = tmp_path_factory.mktemp("closed")
    options = PageOptions(server_port=free_port(), username=NAME, password=WORD, state_dir=str(place / "state"), runs_dir=str(place / "runs"))
    with Page(options) as page:
        yield page


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A page for this machine alone, without a login."""
    place = tmp_path_factory.mktemp("local")
    with Page(PageOptions(server_port=free_port(), state_dir=str(place / "state"), runs_dir=str(place / "runs"))) as page:
        yield page


@pytest.fixture(autouse=True)
def patience(closed):
    """Wrong passwords of one test are not counted in the next."""
    closed.wall.attempts = Attempts()


def routes_of(routes, before=""):
    """Every path with its methods, also those of mounted apps; places for values are filled."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes, before)
        elif isinstance(route, Mount):
            yield from routes_of(route.routes, before + route.path)
        else:
            path = re.sub(r"{[^}]*}", "1", before + route.path)
            yield from ((method, path) for method in getattr(route, "methods", None) or {"WEBSOCKET"})


def test_every_route_refuses_who_has_not_signed_in(closed):
    found = sorted(set(routes_of(closed.app.routes)))
    paths = {path for _, path in found}
    assert {"/", "/files/1/1", "/en/", "/ja/config", "/zh-CN/gradio_api/queue/join", "/en/gradio_api/upload", "/en/gradio_api/startup-events"} <= paths and len(found) > 100
    assert "WEBSOCKET" not in {method for method, _ in found}
    more = ["//en/config", "/%2e%2e/en/config", "/en/../en/config", "/nothing", "/__login/", "/__LOGIN", "/__login/../en/config", "/docs", "/openapi.json",
            "/en/gradio_api/file=/etc/passwd", "/tensorboard/"]
    with closed.client() as client:
        for method, path in [*found, *(("GET", path) for path in more)]:
            answer = client.request(method, path)
            assert answer.status_code == 401 and (method == "HEAD" or answer.json() == {"detail": "sign in first"}), (method, path)


def test_a_person_is_sent_to_the_form_in_their_language(closed):
    with closed.client() as client:
        sent = client.get("/en/", headers={"Accept": "text/html"})
        assert sent.status_code == 303 and sent.headers["location"] == LOGIN_PATH
        form = client.get(LOGIN_PATH, headers={"Accept-Language": "ja"})
    assert form.status_code == 200 and 'lang="ja"' in form.text and "パスワード" in form.text


def test_a_websocket_is_refused_without_the_cookie(closed):
    with socket.create_connection(("127.0.0.1", closed.options.server_port), timeout=10) as line:
        line.sendall(b"GET /en/gradio_api/x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        assert line.recv(100).split()[1] in (b"401", b"403")


def test_a_forged_or_expired_cookie_is_worth_nothing(closed):
    good = closed.login.cookie(time.time())
    expiry, _, signature = good.partition(".")
    stale = closed.login.cookie(time.time() - VALID_SECONDS - 1)
    foreign = Login(NAME, WORD).cookie(time.time())
    with closed.client() as client:
        for cookie in ("", ".", "1.1", expiry, f"{int(expiry) + 1}.{signature}", f"{expiry}.{signature[:-1]}", stale, foreign):
            assert client.get("/en/config", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 401, cookie
        assert client.get("/en/config", headers={"Cookie": f"{COOKIE}={good}"}).status_code == 200


def test_signing_in_opens_the_page_and_keeps_the_cookie_from_scripts_and_other_sites(closed):
    with closed.client() as client:
        done = client.post(LOGIN_PATH, data={"username": NAME, "password": WORD})
        assert done.status_code == 303 and done.headers["location"] == "/"
        words = done.headers["set-cookie"].lower()
        assert "httponly" in words and "samesite=lax" in words and "secure" not in words
        assert client.get("/", follow_redirects=True).status_code == 200
        assert client.get("/en/config").json()["version"]
        by_https = client.post(LOGIN_PATH, data={"username": NAME, "password": WORD}, headers={"X-Forwarded-Proto": "https"})
    assert "secure" in by_https.headers["set-cookie"].lower()


@pytest.mark.parametrize("sent", [{}, {"username": NAME}, {"password": WORD}, {"username": NAME, "password": WORD + " "},
                                  {"username": "bob", "password": WORD}, {"username": "", "password": ""}])
def test_a_wrong_word_or_name_lets_nobody_in(closed, sent):
    with closed.client() as client:
        answer = client.post(LOGIN_PATH, data=sent)
    assert answer.status_code == 401 and "set-cookie" not in answer.headers and "wrong" in answer.text


def test_attempts_are_limited_for_the_right_word_too(closed):
    with closed.client() as client:
        codes = [client.post(LOGIN_PATH, data={"username": NAME, "password": str(number)}).status_code for number in range(FREE_ATTEMPTS + 1)]
        assert codes == [401] * FREE_ATTEMPTS + [429]
        assert client.post(LOGIN_PATH, data={"username": NAME, "password": WORD}, headers={"X-Forwarded-For": "10.1.2.3"}).status_code == 429
        time.sleep(closed.wall.attempts.wait())
        assert client.post(LOGIN_PATH, data={"username": NAME, "password": WORD}).status_code == 303
    with closed.client(signed_in=True) as client:
        assert client.get("/en/config").status_code == 200


def test_many_attempts_at_once_are_limited_as_well(closed):
    codes = []

    def attempt(number):
        with closed.client() as client:
            codes.append(client.post(LOGIN_PATH, data={"username": NAME, "password": str(number)}).status_code)

    threads = [threading.Thread(target=attempt, args=[number]) for number in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert codes.count(401) == FREE_ATTEMPTS and codes.count(429) == 20 - FREE_ATTEMPTS


def test_a_far_too_long_form_is_not_read(closed):
    with closed.client() as client:
        assert client.post(LOGIN_PATH, content=b"password=" + b"x" * 100_000).status_code == 413


@pytest.fixture
def run(closed):
    """A run in the queue, with files, and a secret beside it."""
    state = server.page_state(closed.options)
    place = state.runs_dir.parent
    (place / "pictures").mkdir(exist_ok=True)
    config = make_config("train_network", {"pretrained_model_name_or_path": "model", "train_data_dir": str(place / "pictures"), "runs_dir": str(state.runs_dir)})
    queue = Queue(state.state_dir)
    job = queue.job(queue.add(config, "cat"))
    samples = job.run_dir / "samples"
    samples.mkdir(parents=True)
    (samples / "a ü#1.png").write_bytes(b"\x89PNG picture")
    (job.run_dir / "page.html").write_text("<script>1</script>", encoding="utf-8")
    (place / "secret.txt").write_text("secret", encoding="utf-8")
    (place / "out").mkdir(exist_ok=True)
    for name in ("cat.safetensors", "other.safetensors"):
        (place / "out" / name).write_bytes(name.encode())
    event = {"time": 1.0, "kind": "saved", "step": 1, "path": str(place / "out" / "cat.safetensors")}
    (job.run_dir / "events.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
    yield job
    queue.remove(job.id)


def test_files_of_a_run_are_sent(closed, run):
    with closed.client(signed_in=True) as client:
        picture = client.get(f"/files/{run.id}/samples/{quote('a ü#1.png')}")
        assert picture.content == b"\x89PNG picture" and picture.headers["content-type"] == "image/png"
        weights = client.get(f"/files/{run.id}/cat.safetensors")
        assert weights.content == b"cat.safetensors" and weights.headers["content-disposition"].startswith("attachment")
        page = client.get(f"/files/{run.id}/page.html")
        assert page.headers["content-disposition"].startswith("attachment") and page.headers["x-content-type-options"] == "nosniff"
        assert client.get(f"/files/{run.id}/cat.safetensors", headers={"Range": "bytes=0-2"}).content == b"cat"


def as_it_stands(page, path):
    """The answer to a path whose dots are not tidied away, as httpx would."""
    line = http.client.HTTPConnection("127.0.0.1", page.options.server_port, timeout=20)
    line.request("GET", path, headers={"Cookie": f"{COOKIE}={page.login.cookie(time.time())}"})
    answer = line.getresponse()
    return answer.status, answer.read()


def test_nothing_but_files_of_a_run_is_sent(closed, run):
    place = run.run_dir.parents[1]
    (run.run_dir / "link.txt").symlink_to(place / "secret.txt")
    (run.run_dir / "folder").symlink_to(place)
    (run.run_dir / "samples" / "inner.png").symlink_to(run.run_dir / "page.html")
    whole = str(place / "secret.txt")
    names = ["../../secret.txt", "..%2f..%2fsecret.txt", "%2e%2e/%2e%2e/secret.txt", "samples/../../../secret.txt", "samples/%2e%2e/page.html", "..%5c..%5csecret.txt",
             "....//....//secret.txt", whole, quote(whole, safe=""), f"/{whole}", "%2f" + quote(whole, safe=""), "link.txt", "folder/secret.txt", "samples/inner.png",
             "", ".", "..", "samples", "samples/", "page.html/", "page.html%00.png", "./page.html", "samples//x", "C:%5cx", "page.html::$DATA", "other.safetensors",
             "x" * 5000, "%252e%252e/%252e%252e/secret.txt"]
    for name in names:
        code, content = as_it_stands(closed, f"/files/{run.id}/{name}")
        assert code == 404 and b"secret" not in content, name
    assert as_it_stands(closed, f"/files/{run.id}/page.html")[0] == 200
    with closed.client(signed_in=True) as client:
        for job in ("0", "-1", "999", "x", "..", "1e0"):
            assert client.get(f"/files/{job}/page.html").status_code in (404, 422), job


def test_a_link_in_the_record_of_a_run_is_not_followed(closed, run):
    place = run.run_dir.parents[1]
    (place / "out" / "cat.safetensors").unlink()
    (place / "out" / "cat.safetensors").symlink_to(place / "secret.txt")
    with closed.client(signed_in=True) as client:
        assert client.get(f"/files/{run.id}/cat.safetensors").status_code == 404


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "app.py"), "app.py", "../../etc/passwd"])
def test_gradios_own_file_route_sends_nothing_of_the_machine(closed, path):
    with closed.client(signed_in=True) as client:
        assert client.get(f"/en/gradio_api/file={path}").status_code in (403, 404)


@pytest.mark.parametrize("header, wanted", [("ja", "/ja/"), ("zh-CN,zh;q=0.9", "/zh-CN/"), ("de", "/en/")])
def test_the_first_page_is_in_the_browsers_language(local, header, wanted):
    with local.client() as client:
        assert client.get("/", headers={"Accept-Language": header}).headers["location"] == wanted
        page = client.get(wanted)
    assert page.status_code == 200 and "<html" in page.text


def test_the_page_has_an_icon(local):
    with local.client() as client:
        assert client.get("/favicon.ico").headers["content-type"].startswith("image/svg")


def test_a_chosen_language_is_remembered(local):
    with local.client() as client:
        assert client.get("/lang/ja").headers["location"] == "/ja/"
        assert client.get("/", headers={"Accept-Language": "zh-CN"}).headers["location"] == "/ja/"
        assert client.get("/lang/tlh").status_code == 404


def test_the_page_asks_for_nothing_outside_this_machine(local):
    with local.client() as client:
        answer = client.get("/en/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy and "*" not in policy
    asked = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:)?//(?!127\.0\.0\.1)[^"]*"', answer.text)
    assert asked == []


@pytest.mark.parametrize("headers, code", [
    ({}, 200), ({"Host": "localhost:7860"}, 200), ({"Host": "[::1]:7860"}, 200), ({"Host": "evil.example"}, 403), ({"Host": "127.0.0.1.evil.example"}, 403),
    ({"Host": "192.168.1.2"}, 403), ({"Host": ""}, 403), ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
    ({"Host": "localhost:7860", "Origin": "http://localhost:7860"}, 200)])
def test_without_a_login_only_this_machines_own_pages_are_answered(local, headers, code):
    with local.client() as client:
        assert client.get("/en/config", headers=headers).status_code == code


@pytest.mark.parametrize("given, name, word", [
    ({"share": True}, "darkroom", None), ({"listen": "0.0.0.0"}, "darkroom", None), ({"listen": "192.168.1.5"}, "darkroom", None), ({"listen": "::"}, "darkroom", None),
    ({"username": "ann"}, "ann", None), ({"password": "x"}, "darkroom", "x")])
def test_a_login_is_needed_beyond_this_machine_and_made_up_where_not_given(given, name, word):
    first, second = server.login_for(PageOptions(**given)), server.login_for(PageOptions(**given))
    assert first.username == name and (first.password == word if word else len(first.password) >= 16 and first.password != second.password)
    assert first.password not in repr(first)


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_no_login_is_needed_on_this_machine_alone(listen):
    assert server.login_for(PageOptions(listen=listen)) is None


def test_names_that_only_look_like_this_machine_are_not():
    assert not any(map(is_this_machine, ("", "0.0.0.0", "::", "127.evil.example", "localhost.evil.example", "1270.0.0.1", "2130706433")))


def test_a_shared_page_may_read_the_allowed_folders_the_runs_and_the_demo_and_not_the_queue(tmp_path):
    state = server.page_state(PageOptions(share=True, allowed_paths=[str(tmp_path / "pictures")], state_dir=str(tmp_path / "state"), runs_dir=str(tmp_path / "runs")))
    assert state.shared and state.allowed == [tmp_path / "pictures", tmp_path / "runs", tmp_path / "state" / "demo"]


def test_a_taken_port_is_told_in_words(closed):
    with pytest.raises(Faults, match="--server_port"):
        server.bind(closed.options)


def test_under_a_path_of_a_web_server_all_ways_begin_with_it(tmp_path):
    options = PageOptions(server_port=free_port(), username=NAME, password=WORD, root_path="/dark", state_dir=str(tmp_path / "state"))
    with Page(options) as page, page.client() as client:
        for before in ("", "/dark"):
            client.cookies.clear()
            assert client.get(f"{before}/en/").status_code == 401
            assert client.get(f"{before}/en/", headers={"Accept": "text/html"}).headers["location"] == f"/dark{LOGIN_PATH}"
            assert f'action="/dark{LOGIN_PATH}"' in client.get(f"{before}{LOGIN_PATH}").text
            assert client.post(f"{before}{LOGIN_PATH}", data={"username": NAME, "password": WORD}).headers["location"] == "/dark/"
            assert client.get(f"{before}/").headers["location"] == "/dark/en/"
            assert f'"root":"{page.address}/dark/en"' in client.get(f"{before}/en/").text
            assert client.get(f"{before}/files/1/x").status_code == 404


def test_the_page_starts_by_its_words_without_torch_and_ends(tmp_path):
    port = free_port()
    words = [sys.executable, "-X", "importtime", str(ROOT / "app.py"), "--server_port", str(port), "--password", WORD, "--state_dir", str(tmp_path / "state"),
             "--runs_dir", str(tmp_path / "runs"), "--headless"]
    imported = tmp_path / "imported.txt"
    with open(imported, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=tmp_path)
    try:
        told = [process.stdout.readline(), process.stdout.readline()]
        assert f"http://127.0.0.1:{port}" in told[0] and "darkroom" in told[1] and WORD not in "".join(told)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/en/").status_code == 401
            client.post(LOGIN_PATH, data={"username": "darkroom", "password": WORD})
            assert client.get("/en/").status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=20)
    modules = {line.rpartition("|")[2].strip() for line in imported.read_text(encoding="utf-8").splitlines() if line.startswith("import time:")}
    assert "gradio" in modules and not modules & {"torch", "diffusers", "transformers", "accelerate"}
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert WORD.encode() not in path.read_bytes(), path
