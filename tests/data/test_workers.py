"""The worker processes of a loader: how many there are, how they end, and what happens when they are ended."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from backend.data.loader import BatchReader, Description, Loader
from backend.data.options import DataOptions
from backend.data.plan import Columns, RunPlan
from backend.data.records import scan
from backend.data.subsets import Dataset, Subset
from backend.faults import Faults

needs_threads = pytest.mark.skipif(len(psutil.Process().cpu_affinity() if sys.platform == "linux" else range(os.cpu_count() or 1)) < 3,
                                   reason="there are never more workers than processor threads less one")

SCRIPT = """
import os, signal, sys
from tests.data.test_workers import records_of, steps_of
from pathlib import Path

asked = []


def ask(*_):
    asked.append(1)
    os.write(1, b"asked\\n")


signal.signal(signal.SIGINT, ask)
steps = steps_of(records_of(Path(sys.argv[1])), workers=2, epochs=100_000)
for number, _ in enumerate(steps):
    if number == 2:
        print("going", flush=True)
    if asked:
        break
steps.close()
print("ended well", flush=True)
"""


@pytest.fixture()
def folder(tmp_path) -> Path:
    """Ten small pictures."""
    for number in range(10):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def records_of(folder: Path):
    return scan([Dataset((64, 64), 2, False, 64, 128, 8, False, (Subset(folder, class_tokens="x"),))], DataOptions())


def no_tokens(captions: list[str]) -> dict:
    return {}


def steps_of(records, workers: int, epochs: int, persistent: bool = True):
    options = DataOptions(max_data_loader_n_workers=workers, persistent_data_loader_workers=persistent)
    return Loader(records, options, no_tokens, 1).steps(RunPlan(Columns.of(records), 1, 1, 1, 1, epochs).steps())


def workers_now(before: set) -> set:
    return set(psutil.Process().children()) - before


@needs_threads
@pytest.mark.parametrize("persistent, different", [(True, 2), (False, 6)])
def test_workers_live_as_long_as_the_run_or_as_an_epoch(folder, persistent, different):
    before, seen = set(psutil.Process().children()), set()
    for step, _ in steps_of(records_of(folder), 2, epochs=3, persistent=persistent):
        if step.index < 3:  # later in an epoch some may have ended already
            assert len(workers_now(before)) == 2
        seen |= workers_now(before)
    assert len(seen) == different and not workers_now(before)


def test_there_are_never_as_many_workers_as_processor_threads(folder):
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert Loader(records_of(folder), DataOptions(max_data_loader_n_workers=1000), no_tokens, 1).workers == threads - 1


@needs_threads
def test_an_error_of_the_loop_leaves_no_worker_behind(folder):
    before = set(psutil.Process().children())
    steps = steps_of(records_of(folder), 2, epochs=50)
    next(steps)
    with pytest.raises(ZeroDivisionError):
        steps.throw(ZeroDivisionError())
    assert not workers_now(before)


@needs_threads
def test_a_fault_that_is_kept_keeps_no_worker(folder):
    before = set(psutil.Process().children())
    records = records_of(folder)
    (folder / "3.png").write_bytes(b"")
    with pytest.raises(Faults, match=r"3\.png cannot be read any more: the file is empty") as kept:
        list(steps_of(records, 2, epochs=1))
    assert kept.value.__traceback__ and not workers_now(before)


@needs_threads
@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize("pause", [0, 0.3])
def test_a_worker_that_was_killed_is_told_in_words_and_not_amid_a_step(folder, pause):
    before = set(psutil.Process().children())
    steps = steps_of(records_of(folder), 2, epochs=50)
    next(steps)
    workers_now(before).pop().kill()
    time.sleep(pause)  # a step is under way: it is not disturbed
    with pytest.raises(Faults, match="was ended from outside, most often for lack of memory. Lower max_data_loader_n_workers") as kept:
        list(steps)
    assert kept.value.__traceback__ and not workers_now(before)


@needs_threads
@pytest.mark.skipif(os.name == "nt", reason="there are no process groups")
def test_ctrl_c_ends_the_loop_in_order_though_it_reaches_the_workers_too(folder):
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                          cwd=Path(__file__).parents[2]) as process:
        assert process.stdout.readline() == "going\n"
        os.killpg(process.pid, signal.SIGINT)
        out, complaints = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "asked\nended well\n")  # asked once: the workers, which inherit the handler, ignore the signal
    assert "Traceback" not in complaints and "KeyboardInterrupt" not in complaints
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody of the group is left


def test_what_a_worker_is_given_can_be_sent_to_a_fresh_process(folder):
    reader = BatchReader(records_of(folder), 1, with_pixels=True)
    part = next(RunPlan(Columns.of(reader.records), 1, 1, 1, 1).steps()).micro_batches[0][0]
    sent, description = pickle.loads(pickle.dumps((reader, Description(1, part))))
    assert sent[description].seeds == reader[Description(1, part)].seeds
    assert (sent[description].pixels == reader[Description(1, part)].pixels).all()
