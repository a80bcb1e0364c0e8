"""The form: what it shows is what it means, and faults stand where they belong."""

import json
import shlex
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.config.command_line import read_command_line
from backend.config.commands import fields_of
from backend.config.option import default_of, facts_of
from backend.config.values import read_value
from backend.runs.events import EventWriter, read_events
from gui.draft import check, command_line, read_draft
from gui.form import is_offered, shown
from gui.history import History, progress
from gui.marks import faults_by_field, idle_fields, quoted, stylesheet
from gui.watch import chart, job_card

COMMAND = "train_network"
OFFERED = {name: info for name, (_, info) in fields_of(COMMAND).items() if is_offered(name, info)}


@pytest.mark.parametrize("name", OFFERED)
def test_what_a_field_shows_reads_back_as_the_value(name):
    info = OFFERED[name]
    for value in (default_of(info, COMMAND), facts_of(info).example[0]):
        assert read_value(name, info, shown(value), COMMAND) == value


def test_a_draft_keeps_only_fields_of_the_form():
    written = json.dumps({"network_dim": "8", "run_dir": "/elsewhere", "constructor": "x", "learning_rate": {"a": 1}, "_preset": "lora/demo"})
    draft = read_draft(written, {"network_dim": "4", "learning_rate": "1e-4"})
    assert draft.fields == {"network_dim": "8"} and draft.preset == "lora/demo"
    assert read_draft("not json", {}).fields == read_draft("[1]", {}).fields == {}


def test_only_fields_that_say_something_else_than_the_default_are_given():
    draft = read_draft(json.dumps({"network_dim": " 4 ", "network_alpha": "2", "flip_aug": False}), {"network_dim": "4", "network_alpha": "1", "flip_aug": False})
    assert draft.given({"network_dim": "4", "network_alpha": "1", "flip_aug": False}) == {"network_alpha": "2"}


def test_words_in_the_stylesheet_cannot_break_out_of_it():
    nasty = '</style><script>alert("1")</script>\\"; } a{} \n'
    for sheet in (quoted(nasty), stylesheet({"model": nasty}, [], {"vae": nasty})):
        assert "</" not in sheet and "<script" not in sheet and "\n" not in sheet
    inside = quoted(nasty)[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inside


def test_a_fault_belongs_to_the_option_that_it_begins_with_or_names():
    names = ["learning_rate", "seed", "save_last_n_steps", "train_data_dir"]
    faults = ["learning_rate is -1.0, but must be 0 or more.", "There is a seed of doubt.", "Of these, train_data_dir is missing."]
    assert faults_by_field(faults, names) == {"learning_rate": faults[0], "train_data_dir": faults[2]}


def test_a_shared_page_leads_to_no_folder_that_is_not_allowed(tmp_path):
    inside = tmp_path / "pictures"
    inside.mkdir()
    (inside / "way_out").symlink_to("/")
    for values, named in (({"train_data_dir": "/etc"}, "train_data_dir"), ({"train_data_dir": f"{inside}/../.."}, "train_data_dir"),
                          ({"train_data_dir": f"{inside}/way_out/etc"}, "train_data_dir"), ({"output_name": "../../cat"}, "output_name"),
                          ({"log_prefix": "../x", "logging_dir": str(inside)}, "log_prefix"), ({"dataset_config": f"{inside}/any.toml"}, "dataset_config")):
        told = check(COMMAND, values, tmp_path / "runs", [inside])
        assert told.prepared is None and [fault for fault in told.faults if fault.startswith(named)], (values, told.faults)
    assert not [fault for fault in check(COMMAND, {"train_data_dir": str(inside)}, tmp_path / "runs", [inside]).faults if "this page is shared" in fault]


def test_the_command_says_the_same_as_the_form(tmp_path):
    values = {"resolution": "128,64", "flip_aug": True, "sdpa": False, "output_name": "my cat's", "optimizer_args": "a=1 b=2"}
    told = check(COMMAND, values, tmp_path / "runs", None)
    words = shlex.split(command_line(COMMAND, told.config, list(values)))
    assert words[:2] == ["./setup.sh", COMMAND]
    read = read_command_line(words[1:]).config.values()
    assert {name: read[name] for name in values} == {name: told.config.values()[name] for name in values}


def test_history_reads_on_and_drops_what_a_resumed_run_takes_back(tmp_path):
    path, history = tmp_path / "events.jsonl", History(tmp_path / "events.jsonl")
    assert history.look() == []
    with EventWriter(path) as events:
        events.write("planned", total_steps=8, epochs=2, steps_per_epoch=4)
        for step in (1, 2, 3):
            events.write("step", step=step, epoch=1, loss=0.5, average=0.5, lr={"unet": 1e-4}, time=1000 + step)
            assert history.look() == read_events(path)
        with open(path, "ab") as file:
            file.write(b'{"kind": "step", "st')
        assert [event["step"] for event in history.look()[1:]] == [1, 2, 3]
    with EventWriter(path) as events:
        events.write("resumed", step=1)
        events.write("step", step=2, epoch=1, loss=0.25, average=0.25, lr={"unet": 1e-4}, time=2000)
    assert history.look() == read_events(path)
    assert progress(history.look()).step == 2


def test_many_that_look_at_once_read_each_event_once(tmp_path):
    history = History(tmp_path / "events.jsonl")
    with EventWriter(history.path) as events:
        for step in range(1, 3001):
            events.write("step", step=step)
    threads = [threading.Thread(target=history.look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event["step"] for event in history.look()] == list(range(1, 3001))


def test_speed_and_time_left_follow_from_the_times_of_the_steps():
    events = [{"kind": "planned", "time": 0, "total_steps": 100, "epochs": 2}]
    events += [{"kind": "step", "time": 10 + 0.5 * step, "step": step, "epoch": 1, "average": 0.1, "lr": {}} for step in range(1, 21)]
    told = progress(events)
    assert told.speed == pytest.approx(2.0) and told.seconds_left == pytest.approx(40.0)


def test_a_curve_ends_where_the_run_stands_and_one_outlier_does_not_flatten_it():
    line = [(step, 1.0 if step % 2 else 0.5) for step in range(1, 201)]
    drawn = chart([[], [*line[:100], (101, 1e6), *line[101:]]], 400)
    points = drawn.split('d="M')[1].split('"')[0].split(" L")
    assert points[-1].split(" ")[0] == "200.0"
    heights = {float(point.split(" ")[1]) for point in points}
    assert min(heights) == 8.0 and max(heights) == 112.0


def test_a_runs_name_cannot_bring_tags_into_the_page():
    job = SimpleNamespace(id=1, name="<img src=x onerror=alert(1)>", status="waiting", added_at=0.0, run_dir=Path("x"))
    assert "<img" not in job_card(job, progress([]), True, "en")


def test_a_field_is_hidden_while_the_option_it_needs_is_off_unless_it_is_set(tmp_path):
    for values, hidden in (({}, True), ({"shuffle_caption": True}, False), ({"keep_tokens": "2"}, False)):
        config = check(COMMAND, values, tmp_path / "runs", None).config
        assert ("keep_tokens" in idle_fields(config, OFFERED, values)) == hidden
        assert "network_dim" not in idle_fields(config, OFFERED, values)
