"""What a run tells is complete, in order, and stops at the first loss that is not a number."""

import io
import logging

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backend.runs.events import EventWriter, read_events
from backend.training.report import FETCH_STEPS, NonFiniteLoss, Report

LOG = logging.getLogger("darkroom")


@pytest.fixture
def told(tmp_path):
    """A report over a file of events, and a way to read them."""
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as events:
        report = Report(events)
        yield report, lambda: read_events(path)
        report.close()


def take(report, losses, first=1, epoch=1):
    for step, loss in enumerate(losses, start=first):
        report.step(step, epoch, torch.tensor(loss), {"unet": 0.5 / step})


def curve(folder, name):
    """step -> value, as TensorBoard's own reader sees it."""
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {event.step: event.value for event in reader.Scalars(name)}


def test_every_step_is_told_with_its_loss_and_learning_rates(told):
    report, events = told
    report.planned(total_steps=3, steps_per_epoch=2, epochs=2)
    take(report, [1.0, 2.0, 6.0])
    report.flush()
    steps = events()[1:]
    assert [(event["step"], event["epoch"], event["loss"]) for event in steps] == [(1, 1, 1.0), (2, 1, 2.0), (3, 1, 6.0)]
    assert steps[1]["lr"] == {"unet": 0.25}


def test_the_average_is_over_the_last_epochs_worth_of_steps(told):
    report, events = told
    report.planned(total_steps=9, steps_per_epoch=2, epochs=5)
    take(report, [1.0, 2.0, 6.0, 0.0])
    report.flush()
    assert [event["average"] for event in events()[1:]] == [1.0, 1.5, 4.0, 3.0]


def test_losses_wait_on_the_device_and_are_told_together(told):
    report, events = told
    report.planned(total_steps=100, steps_per_epoch=50, epochs=2)
    take(report, [1.0] * (FETCH_STEPS - 1))
    assert len(events()) == 1
    take(report, [1.0], first=FETCH_STEPS)
    assert [event["step"] for event in events()[1:]] == list(range(1, FETCH_STEPS + 1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_within_a_few_steps(told, bad):
    report, events = told
    report.planned(total_steps=100, steps_per_epoch=50, epochs=2)
    with pytest.raises(NonFiniteLoss, match=f"The loss at step 3 is {bad}") as caught:
        take(report, [0.5, 0.5, bad] + [0.5] * FETCH_STEPS)
    assert caught.value.step == 3
    assert [event["step"] for event in events()[1:]] == [1, 2]


def test_a_silent_report_still_stops_at_a_loss_that_is_not_finite():
    report = Report.silent()
    report.planned(total_steps=5, steps_per_epoch=5, epochs=1)
    take(report, [0.5, float("nan")])
    with pytest.raises(NonFiniteLoss):
        report.saving("file", 2)


def test_losses_of_any_number_format_and_shape_are_taken(told):
    report, events = told
    report.planned(total_steps=2, steps_per_epoch=2, epochs=1)
    report.step(1, 1, torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True), {})
    report.step(2, 1, torch.tensor(0.25, dtype=torch.float64), {})
    report.flush()
    assert [event["loss"] for event in events()[1:]] == [0.5, 0.25]


def test_files_samples_and_warnings_are_told(told, tmp_path):
    report, events = told
    report.saving(tmp_path / "a.safetensors", 4)
    report.saved(tmp_path / "a.safetensors", 4, epoch=2)
    report.sample(tmp_path / "b.png", 1, 4)
    report.warning("from the loop")
    LOG.warning("from %s", "anywhere")
    LOG.info("not this")
    report.close()
    LOG.warning("nor this, after the end")
    saving, saved, sample, *warnings = events()
    assert (saving["kind"], saved["path"], saved["step"], saved["epoch"]) == ("saving", str(tmp_path / "a.safetensors"), 4, 2)
    assert (sample["kind"], sample["path"], sample["prompt_index"], sample["step"]) == ("sample", str(tmp_path / "b.png"), 1, 4)
    assert [event["text"] for event in warnings] == ["from the loop", "from anywhere"]


def test_steps_are_told_before_the_file_that_was_saved_after_them(told):
    report, events = told
    report.planned(total_steps=9, steps_per_epoch=9, epochs=1)
    take(report, [1.0, 2.0])
    report.saving("file", 2)
    assert [event["kind"] for event in events()] == ["planned", "step", "step", "saving"]


def test_curves_are_written_for_tensorboard(tmp_path):
    report = Report(tensorboard=tmp_path / "curves")
    report.planned(total_steps=3, steps_per_epoch=2, epochs=2)
    report.step(1, 1, torch.tensor(1.0), {"unet": 0.5, "text_encoder": 0.25})
    report.step(2, 1, torch.tensor(2.0), {"unet": 0.125, "text_encoder": 0.0625})
    report.flush()
    report.close()
    assert curve(tmp_path / "curves", "loss/current") == {1: 1.0, 2: 2.0}
    assert curve(tmp_path / "curves", "loss/average") == {1: 1.0, 2: 1.5}
    assert curve(tmp_path / "curves", "lr/unet") == {1: 0.5, 2: 0.125}
    assert curve(tmp_path / "curves", "lr/text_encoder") == {1: 0.25, 2: 0.0625}


def test_a_resumed_run_takes_back_the_curve_after_its_step(tmp_path):
    for first, losses in ((0, [1.0, 2.0, 3.0, 4.0]), (2, [7.0])):
        report = Report(tensorboard=tmp_path / "curves")
        report.planned(total_steps=4, steps_per_epoch=4, epochs=1, first_step=first)
        take(report, losses, first=first + 1)
        report.flush()
        report.close()
    assert curve(tmp_path / "curves", "loss/current") == {1: 1.0, 2: 2.0, 3: 7.0}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_step_epoch_and_loss():
    screen = Terminal()
    report = Report(stream=screen)
    report.planned(total_steps=40, steps_per_epoch=20, epochs=2, first_step=10)
    take(report, [0.5] * 20, first=11, epoch=2)
    report.close()
    last = screen.getvalue().split("\r")[-1]
    assert "epoch 2/2" in last and "30/40" in last and "loss 0.5000" in last


def test_a_file_gets_plain_lines_at_the_first_and_the_last_step():
    screen = io.StringIO()
    report = Report(stream=screen)
    report.planned(total_steps=20, steps_per_epoch=10, epochs=2)
    take(report, [0.5] * 20)
    report.close()
    lines = screen.getvalue().splitlines()
    assert lines[0] == "step 1 of 20, epoch 1 of 2"
    assert len(lines) == 2 and lines[1].startswith("step 20 of 20, epoch 1 of 2, loss 0.5000, ")
