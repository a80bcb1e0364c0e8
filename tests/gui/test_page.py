"""The page in a real browser: what a person does by clicks, and that nothing is lost on the way."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from backend.runs.events import read_events
from backend.runs.queue import Queue
from backend.runs.worker import worker_lock

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 240.0  # seconds, for a page that starts or a demo that trains
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: ./setup.sh test brings it")
# In continuous integration nothing is skipped: without a browser these fail.
pytestmark = pytest.mark.skipif(not CHROMIUM and not os.environ.get("CI"), reason="there is no Chromium: apt-get install chromium")


class Page:
    """A page that is served, and where it keeps its things."""

    def __init__(self, folder: Path):
        self.folder, self.port, self.process = folder, free_port(), None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/en/"

    @property
    def queue(self) -> Queue:
        return Queue(self.folder / "state")

    def start(self) -> None:
        words = ["--server_port", str(self.port), "--state_dir", str(self.folder / "state"), "--runs_dir", str(self.folder / "runs"), "--headless"]
        with open(self.folder / "page.log", "ab") as log:
            self.process = subprocess.Popen([sys.executable, str(ROOT / "app.py"), *words], cwd=ROOT, stdout=log, stderr=log)
        wait_for(self.answers, lambda: (self.folder / "page.log").read_text())

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "page.log").read_text()
        try:
            return urllib.request.urlopen(self.address, timeout=5).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Nothing of it may live on."""
        self.kill()
        left = [worker_lock(self.folder / "state").holder(), *(job.trainer and job.trainer["pid"] for job in self.queue.running())]
        for pid in filter(None, left):
            with_children = psutil.Process(pid).children(recursive=True) + [psutil.Process(pid)] if psutil.pid_exists(pid) else []
            for process in with_children:
                process.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(condition, told=lambda: "", seconds=PATIENCE):
    """Until something is so."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    served = Page(tmp_path_factory.mktemp("page"))
    served.start()
    yield served
    served.end()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@contextmanager
def visit(browser, page, width=1440, **context):
    """A browser of its own, with nothing kept from others; what goes wrong in its scripts fails the test."""
    own = browser.new_context(viewport={"width": width, "height": 900}, locale="en-US", accept_downloads=True, **context)
    tab, wrong = own.new_page(), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.set_default_timeout(60_000)
    tab.goto(page.address)
    tab.wait_for_selector("#plan h3")
    yield tab
    assert wrong == []
    own.close()


def field(tab, name):
    return tab.locator(f"#f-{name} input, #f-{name} textarea").first


def try_demo(tab):
    tab.click("#try-demo")
    tab.wait_for_selector("#plan:has-text('Steps in all')")


def test_the_demo_by_clicks_alone_through_a_reload_and_a_killed_page(page, browser):
    with visit(browser, page) as tab:
        try_demo(tab)
        tab.click("#start")
        tab.wait_for_selector("#run-head :text('running')")
        tab.wait_for_selector("#run-samples img")
        tab.reload()
        tab.wait_for_selector("#run-head h3:text('demo')")
        page.kill()
        page.start()
        tab.goto(page.address)
        tab.wait_for_selector("#run-head h3:text('demo')")
        tab.wait_for_selector("#run-head :text('finished')", timeout=PATIENCE * 1000)
        assert "150 / 150" in tab.inner_text("#run-head")
        assert tab.evaluate("[...document.querySelectorAll('#run-samples img')].every(picture => picture.complete && picture.naturalWidth > 0)")
        with tab.expect_download() as download:
            tab.click("#run-files a:text-is('demo.safetensors')")
        fetched = download.value.path().read_bytes()
    job = page.queue.jobs()[-1]
    assert job.status == "finished" and fetched == (job.run_dir / "demo.safetensors").read_bytes()
    assert [event["step"] for event in read_events(job.run_dir / "events.jsonl") if event["kind"] == "step"] == list(range(1, 151))


def test_a_second_browser_of_a_phones_width_sees_the_same_run(page, browser):
    with visit(browser, page, width=390, color_scheme="dark") as tab:
        tab.get_by_role("tab", name="Runs").click()
        tab.wait_for_selector("#run-head h3:text('demo')")
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        tab.get_by_role("tab", name="Train").click()
        tab.wait_for_selector("#start")
        assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_pause_and_resume_by_clicks(page, browser):
    with visit(browser, page) as tab:
        try_demo(tab)
        tab.click("#start")
        tab.wait_for_selector("#run-head :text('running')")
        tab.wait_for_selector("#run-samples img")
        tab.click("[data-act=pause]")
        tab.wait_for_selector("#run-head :text('paused')")
        job = page.queue.jobs()[-1]
        assert read_events(job.run_dir / "events.jsonl")[-1]["reason"] == "paused"
        tab.click("[data-act=resume]")
        tab.wait_for_selector("#run-head :text('finished')", timeout=PATIENCE * 1000)
    steps = [event["step"] for event in read_events(job.run_dir / "events.jsonl") if event["kind"] == "step"]
    assert steps == list(range(1, 151))


def test_a_draft_survives_a_reload_and_reset_forgets_it(page, browser):
    with visit(browser, page) as tab:
        field(tab, "train_batch_size").fill("3")
        tab.wait_for_selector("#sec-data > button")
        wait_for(lambda: json.loads(tab.evaluate("localStorage.getItem('darkroom.draft.1') || '{}'")).get("train_batch_size") == "3")
        tab.reload()
        tab.wait_for_selector("#plan h3")
        wait_for(lambda: field(tab, "train_batch_size").input_value() == "3", seconds=10)
        tab.click("#reset")
        wait_for(lambda: field(tab, "train_batch_size").input_value() == "1", seconds=10)


def test_start_shows_each_fault_at_its_field_and_starts_nothing(page, browser):
    before = len(page.queue.jobs())
    with visit(browser, page) as tab:
        try_demo(tab)
        field(tab, "train_batch_size").fill("-1")
        field(tab, "train_data_dir").fill("/there is/no such folder")
        tab.click("#start")
        shown = "name => getComputedStyle(document.querySelector('#f-' + name), '::after').content"
        wait_for(lambda: "must be" in tab.evaluate(shown, "train_batch_size"), seconds=10)
        assert "no such folder" in tab.evaluate(shown, "train_data_dir")
        assert tab.evaluate(shown, "resolution") in ("none", "normal")
        assert "train_batch_size is -1" in tab.inner_text("#plan")
    assert len(page.queue.jobs()) == before


def test_a_preset_fills_the_form_and_what_it_does_not_name_goes_back_to_its_default(page, browser):
    preset = json.loads((ROOT / "presets" / "lora" / "sd15_style.json").read_text())["options"]
    with visit(browser, page) as tab:
        tab.check("#f-flip_aug input")
        tab.click("#preset input")
        tab.get_by_role("option", name="SD 1.5 style").click()
        wait_for(lambda: field(tab, "train_batch_size").input_value() == str(preset["train_batch_size"]), seconds=10)
        wait_for(lambda: not tab.is_checked("#f-flip_aug input"), seconds=10)
        assert field(tab, "caption_extension").input_value() == preset["caption_extension"]


def test_the_page_asks_for_nothing_outside_the_machine(page, browser):
    asked = []
    with visit(browser, page) as tab:
        tab.on("request", lambda request: asked.append(request.url))
        tab.reload()
        tab.wait_for_selector("#plan h3")
        tab.get_by_role("tab", name="Runs").click()
        tab.wait_for_selector("#run-list > *")
    assert asked and [url for url in asked if not url.startswith((f"http://127.0.0.1:{page.port}/", "data:", "blob:"))] == []
