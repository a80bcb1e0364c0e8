"""Events are whole lines of JSON, whatever killed the writer."""

import json
import os

import numpy as np
import pytest

from backend.runs.events import EventWriter, read_events


def lines_of(path):
    return path.read_bytes().split(b"\n")


def kinds_and_steps(path):
    return [(event["kind"], event.get("step")) for event in read_events(path)]


def test_each_event_is_one_line_of_json_with_time_and_kind(tmp_path):
    path = tmp_path / "run" / "events.jsonl"
    with EventWriter(path) as events:
        events.write("started", name="äß\ncat", path=tmp_path)
        events.write("step", step=1, loss=0.5)
    first, second, rest = lines_of(path)
    assert rest == b""
    assert json.loads(first)["name"] == "äß\ncat"
    assert json.loads(first)["path"] == str(tmp_path)
    event = json.loads(second)
    assert (event["kind"], event["step"], event["loss"], event["time"] > 1.6e9) == ("step", 1, 0.5, True)


def test_an_event_is_in_the_file_before_the_writer_is_closed(tmp_path):
    events = EventWriter(tmp_path / "events.jsonl")
    events.write("started")
    assert kinds_and_steps(tmp_path / "events.jsonl") == [("started", None)]
    events.close()
    events.close()


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as events:
        events.write("step", step=np.int64(3), loss=float("nan"), lr={"unet": float("inf")}, list=[np.float32(0.5), -float("inf")])

    def refuse(word):
        raise AssertionError(word)

    event = json.loads(lines_of(path)[0], parse_constant=refuse)
    assert (event["step"], event["loss"], event["lr"], event["list"]) == (3, None, {"unet": None}, [0.5, None])


def test_an_unknown_kind_is_refused(tmp_path):
    with EventWriter(tmp_path / "events.jsonl") as events, pytest.raises(ValueError, match="stepped"):
        events.write("stepped")


def test_a_torn_last_line_is_ignored(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"time": 1, "kind": "started"}\n{"time": 2, "kind": "step", "st')
    assert kinds_and_steps(path) == [("started", None)]


def test_a_writer_begins_on_a_new_line_after_a_torn_one(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes('{"time": 1, "kind": "started"}\n{"time": 2, "kind": "warning", "text": "ä'.encode()[:-1])
    with EventWriter(path) as events:
        events.write("step", step=1)
        events.write("step", step=2)
    assert kinds_and_steps(path) == [("started", None), ("step", 1), ("step", 2)]
    assert len(lines_of(path)) == 5


def test_every_cut_of_the_file_reads_as_the_events_before_the_cut(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as events:
        for step in range(1, 4):
            events.write("step", step=step, text="ü")
    data = path.read_bytes()
    ends = [at for at, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        assert len(read_events(path)) == sum(end <= cut for end in ends)


def test_what_a_resumed_run_does_again_is_dropped(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as events:
        events.write("started")
        for step in (1, 2, 3):
            events.write("step", step=step)
        events.write("saved", step=2, path="a")
        events.write("sample", step=3, path="b")
        events.write("saved", step=3, path="c")
        events.write("warning", step=3, text="w")
        events.write("failed", text="power cut")
        events.write("resumed", step=2)
        events.write("step", step=3)
    assert kinds_and_steps(path) == [
        ("started", None), ("step", 1), ("step", 2), ("saved", 2), ("warning", 3), ("failed", None), ("resumed", 2), ("step", 3)]


def test_a_run_without_events_has_none(tmp_path):
    assert read_events(tmp_path / "events.jsonl") == []


def test_two_writers_never_mix_their_lines(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as one, EventWriter(path) as two:
        for step in range(50):
            one.write("step", step=step, who="one", filler="x" * 2000)
            two.write("step", step=step, who="two", filler="y" * 3000)
    assert len(read_events(path)) == 100
    assert os.path.getsize(path) > 250_000
