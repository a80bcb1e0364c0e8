"""The training loop. Start reading here.

`run` opens the run's folder and tells how it ended; `train` is the story itself. Neither knows which family of models or
which method it drives: those meet here, and only through `DiffusionModel` and `TrainingMethod`.
"""

import logging
import sys
import traceback
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from backend.checkpoints.saver import Saver
from backend.checkpoints.state import State, load_state
from backend.checkpoints.weights import save_weights
from backend.config.door import Prepared
from backend.data.batch import Batch
from backend.data.cache import LatentCache
from backend.data.loader import Loader
from backend.data.plan import Columns, RunPlan, Step
from backend.faults import Faults
from backend.methods.method import TrainingMethod
from backend.methods.registry import make_method
from backend.models.model import DiffusionModel, LatentDistribution
from backend.models.registry import load_model
from backend.noise.draws import draw_latents
from backend.noise.process import NoiseProcess
from backend.optimizers.build import build_optimizer, optimizer_label
from backend.optimizers.schedules import build_schedule, follow
from backend.runs.beginning import Beginning, Place, begin
from backend.runs.events import EventWriter
from backend.runs.facts import RunFacts
from backend.sampling.options import SamplingOptions
from backend.sampling.sampler import Sampler
from backend.training.due import due
from backend.training.loss import squared, step_loss
from backend.training.memory import peak_memory_mib
from backend.training.processes import Processes, seed_dropout
from backend.training.report import Report
from backend.training.stop import StopRequest

log = logging.getLogger("darkroom")

FINISHED, FAILED, STOPPED = 0, 1, 130
SMALLER = "Lower train_batch_size or resolution, or turn on gradient_checkpointing, cache_latents or mixed_precision bf16."


@dataclass
class Trained:
    """What a run trains, and how it moves. Made once, used at every step."""

    model: DiffusionModel
    method: TrainingMethod
    noise: NoiseProcess
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler

    def step(self, max_grad_norm: float) -> dict[str, float]:
        """Move the weights by the gradients there are; returns the learning rates that were used."""
        if max_grad_norm:
            nn.utils.clip_grad_norm_(self.parameters, max_grad_norm)
        rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(self.model)
        return rates


def train(beginning: Beginning, report: Report) -> int:
    """Train from the beginning, or from where a state left off, to the end; returns the exit code."""
    config, records, first = beginning.config, beginning.records, beginning.folder is not None
    processes = Processes(config.training)
    seed = processes.agree(config.training.seed)

    # Load: the model, and what is trained of it or beside it.
    model = load_model(config, processes.dtype)
    processes.suit(sum(parameter.numel() for part in model.parts.values() for parameter in part.parameters()))
    model.move(processes.device)
    model.save_memory(config.training.gradient_checkpointing, config.training.sdpa)
    method = make_method(config, seed)
    groups = method.prepare(model)

    # Plan: which picture is seen at which step, and how the weights move.
    plan = RunPlan(Columns.of(records), processes.count, config.training.gradient_accumulation_steps, seed,
                   config.training.max_train_steps, config.training.max_train_epochs)
    optimizer = build_optimizer(config.optimizer, groups)
    schedule = build_schedule(config.optimizer, optimizer, plan.total_steps)
    parameters = [parameter for group in groups for parameter in group.parameters]
    trained = Trained(model, method, model.noise_process(config.noise), parameters, optimizer, schedule)
    restored = restore(beginning.state, trained)
    done, epoch = restored.step, restored.epoch
    if first:
        announce(beginning, report, plan, processes, done)

    # Cache: what the pictures look like to the denoiser.
    cache = cache_latents(model, beginning, processes, report) if config.data.cache_latents else None
    loader = Loader(records, config.data, model.tokenize, seed, processes.index, cache)
    if first:
        facts = RunFacts(beginning, model.facts, plan, optimizer_label(config.optimizer, optimizer))
        saver = make_saver(beginning, report, facts, trained, restored.written)
        sampler = make_sampler(beginning, report, processes, trained)
        if config.sampling.sample_at_first and done == 0:
            sampler.draw(0, 0, "step")

    # Step: look at some pictures, move the weights, tell, draw, save.
    method.train_mode(True)
    with StopRequest(log.info) as request, closing(loader.steps(plan.steps(done))) as steps:
        for step, batches in steps:
            loss = look_at(batches, step, trained, processes, seed)
            asked = asks(beginning) if first else set()
            stopping = float(request.asked or bool(asked & {"stop", "pause"}))
            loss, stopping = processes.sum_gradients(parameters, torch.stack([loss, torch.full_like(loss, stopping)]))
            rates = trained.step(config.optimizer.max_grad_norm)
            done, epoch = step.number, step.epoch
            report.step(done, epoch, loss, rates)
            if first:
                draw_if_due(sampler, step, asked, config.sampling)
                save_if_due(saver, step, asked, plan.total_steps)
            # Where one process alone trains, nobody has to ask the device whether another was told to stop.
            if (processes.count > 1 or request.asked or asked) and stopping > 0 and done < plan.total_steps:
                return stopped(report, saver if first else None, step, "pause" in asked)

        report.flush()
        if first:
            path = saver.finish(done, epoch)
            report.tell("finished", step=done, path=path, device=device_name(processes.device), peak_memory_mib=peak_memory_mib(processes.device))
            saver.remove_rolling_states()
            log.info("Finished after %d steps. The trained file is %s", done, path)
    processes.end()
    return FINISHED


def look_at(batches: list[Batch], step: Step, trained: Trained, processes: Processes, seed: int) -> Tensor:
    """Gradients of this process's share of a step; returns its share of the loss, on the device."""
    loss = torch.zeros((), device=processes.device)
    for number, batch in enumerate(batches):
        seed_dropout(seed, step.number, number, processes.index)
        with processes.accelerator.autocast():
            losses, weights = sample_losses(trained.model, trained.noise, batch.to(processes.device))
        share = step_loss(losses, weights, batch.counts.to(losses), step.count)
        share.backward()
        loss += share.detach()
    return loss


def sample_losses(model: DiffusionModel, noise: NoiseProcess, batch: Batch) -> tuple[Tensor, Tensor]:
    """How wrong the denoiser is on each sample of a batch, and how much that counts: both [B], float32.

    A sample's latents, noise and time are drawn from its own seed.
    """
    if batch.latents is None:
        distribution = model.encode_images(batch.pixels)
    else:
        distribution = LatentDistribution(*batch.latents.chunk(2, dim=1))
    x = model.latents.normalise(draw_latents(distribution, batch.seeds))
    t = noise.draw_times(batch.seeds).to(x.device, non_blocking=True)
    noised = noise.draw_noise(x, batch.seeds)
    conditioning = batch.conditioning or model.encode_text(batch.tokens)
    said = model.predict(noise.mix(x, noised, t), t, conditioning.with_sizes(batch.sizes))
    return squared(said, noise.target(x, noised, t)), batch.loss_weights * noise.weights(t)


@dataclass
class Restored:
    """Where a run goes on: after how many steps, in which epoch, and what it has written so far."""

    step: int = 0
    epoch: int = 0
    written: list[str] = field(default_factory=list)


def restore(path: Path | None, trained: Trained) -> Restored:
    """Put back what a state holds, if there is one."""
    if path is None:
        return Restored()
    state = load_state(path)
    trained.method.load(trained.model, state.weights)
    trained.optimizer.load_state_dict(state.optimizer)
    trained.schedule.load_state_dict(state.schedule)
    follow(trained.schedule)
    return Restored(state.step, state.epoch, list(state.extras["written"]))


def announce(beginning: Beginning, report: Report, plan: RunPlan, processes: Processes, done: int) -> None:
    """Tell what will happen."""
    described, records = plan.describe(), beginning.records
    if done:
        report.tell("resumed", step=done, state=beginning.state)
    for warning in beginning.warnings:
        log.warning(warning)
    if done >= plan.total_steps:
        log.warning("The state has %d steps already and the run is to have %d: there is nothing left to train. Raise max_train_steps or max_train_epochs "
                    "to go on.", done, plan.total_steps)
    buckets = [{"dataset": bucket.dataset, "width": bucket.width, "height": bucket.height, "pictures": count}
               for bucket, count in records.bucket_counts()]
    report.planned(plan.total_steps, described["steps_per_epoch"], plan.epochs, done, device=device_name(processes.device),
                   processes=processes.count, buckets=buckets, left_out=len(records.left_out), seed=beginning.config.training.seed,
                   **{name: value for name, value in described.items() if name.endswith(("images", "epoch")) and name != "steps_per_epoch"})
    log.info("%d pictures, %d steps in an epoch, %d steps and %d epoch%s in all, on %s. The run is in %s", len(records), described["steps_per_epoch"],
             plan.total_steps, plan.epochs, "s" * (plan.epochs > 1), device_name(processes.device), beginning.folder.path)


def cache_latents(model: DiffusionModel, beginning: Beginning, processes: Processes, report: Report) -> LatentCache:
    """Encode every picture once; the VAE then leaves the device."""
    log.info("Encoding %d pictures.", len(beginning.records))
    cache = LatentCache.build(beginning.records, model.encode_images, beginning.config.data.vae_batch_size, processes.device, report.counter("Encoded"))
    model.move(torch.device("cpu"), ["vae"])
    return cache


def make_saver(beginning: Beginning, report: Report, facts: RunFacts, trained: Trained, written: list[str]) -> Saver:
    """A saver that knows how to write this run's weights and states."""
    options, method, model = beginning.config.saving, trained.method, trained.model

    def write_weights(path: Path, step: int, epoch: int) -> None:
        metadata = facts.metadata(step, epoch, method.metadata())
        save_weights(path, method.weights(model), metadata, options.save_precision, options.save_model_as)

    def capture(step: int, epoch: int) -> State:
        return State(step, epoch, method.weights(model), trained.optimizer.state_dict(), trained.schedule.state_dict(), settings=beginning.settings)

    return Saver(options, beginning.output_dir, beginning.folder.path, report, write_weights, capture, written)


def make_sampler(beginning: Beginning, report: Report, processes: Processes, trained: Trained) -> Sampler:
    """A sampler that leaves the training as it was."""
    @contextmanager
    def as_trained() -> Iterator[None]:
        trained.method.train_mode(False)
        try:
            with processes.accelerator.autocast():
                yield
        finally:
            trained.method.train_mode(True)

    config = beginning.config
    return Sampler(trained.model, config.sampling, beginning.prompts, beginning.folder.samples, config.saving.output_name, config.training.seed,
                   report, as_trained)


def asks(beginning: Beginning) -> set[str]:
    """What somebody put into the run's folder as a request; taken as heard."""
    asked = beginning.folder.requests()
    for request in asked:
        beginning.folder.answered(request)
    return asked


def draw_if_due(sampler: Sampler, step: Step, asked: set[str], options: SamplingOptions) -> None:
    """Sample pictures, if it is time or somebody asked. Epochs win over steps."""
    every_steps = None if options.sample_every_n_epochs else options.sample_every_n_steps
    by = due(every_steps, options.sample_every_n_epochs, step.number, step.epoch, step.last_of_epoch)
    if by or "sample_now" in asked:
        sampler.draw(step.number, step.epoch, by or "step")


def save_if_due(saver: Saver, step: Step, asked: set[str], total_steps: int) -> None:
    """Files, if it is time or somebody asked. The last epoch's is the final file."""
    options, last = saver.options, step.number == total_steps
    if not last and due(None, options.save_every_n_epochs, step.number, step.epoch, step.last_of_epoch):
        saver.save(step.number, step.epoch, "epoch")
    if due(options.save_every_n_steps, None, step.number, step.epoch, step.last_of_epoch) or "save_now" in asked and not last:
        saver.save(step.number, step.epoch, "step")
    if not last:
        saver.roll(step.number, step.epoch)


def stopped(report: Report, saver: Saver | None, step: Step, paused: bool) -> int:
    """End before the end, as was asked, with a state to go on from."""
    report.flush()
    if saver:
        path = saver.stop(step.number, step.epoch)
        report.tell("stopped", step=step.number, state=path, reason="paused" if paused else "asked")
        log.info("Stopped after step %d. To go on: train_network --config_file %s --resume %s", step.number, saver.rolling_dir / "config.toml", path)
    return STOPPED


def device_name(device: torch.device) -> str:
    """The device as a person knows it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def run(prepared: Prepared, place: Place = Place()) -> int:
    """Train as a checked config says, in the run's folder; returns the exit code. place: this process among its fellows."""
    with ExitStack() as opened:
        beginning = begin(prepared, place)
        report = Report.silent()
        if beginning.folder:
            opened.enter_context(beginning.folder.lock)
            opened.enter_context(beginning.folder.logged())
            events = opened.enter_context(EventWriter(beginning.folder.events))
            report = Report(events, beginning.folder.tensorboard, sys.stderr)
            report.tell("started", command=prepared.config.command, name=prepared.config.saving.output_name)
        opened.callback(report.close)
        try:
            return train(beginning, report)
        except KeyboardInterrupt:
            log.warning("Ended before the first step; there is nothing to save.")
            report.tell("stopped", step=0, reason="interrupted")
            return STOPPED
        except Faults as faults:
            return failed(report, *faults.messages)
        except torch.OutOfMemoryError as fault:
            return failed(report, f"The device has too little memory ({first_line(fault)}). {SMALLER} The newest state is whole: --resume goes on from it.")
        except OSError as fault:
            return failed(report, f"{fault.filename or 'A file'} could not be written or read: {fault.strerror or fault}. "
                                  "Free some space or mend the place; what was saved before is whole, and --resume goes on from the newest state.")
        except Exception as fault:
            log.error("%s", traceback.format_exc().rstrip())
            report.tell("failed", messages=[f"{type(fault).__name__}: {fault}"])
            return FAILED


def failed(report: Report, *messages: str) -> int:
    """Tell why the run ended; returns the exit code."""
    for message in messages:
        log.error(message)
    report.tell("failed", messages=list(messages))
    return FAILED


def first_line(fault: BaseException) -> str:
    """What an error says, without the advice that follows."""
    return str(fault).strip().split("\n")[0]
