"""When something is due: at a step, or at the end of an epoch."""


def due(every_steps: int | None, every_epochs: int | None, step: int, epoch: int, epoch_ended: bool) -> str | None:
    """"epoch" or "step" if something that happens every so many of them happens now; an epoch wins over a step."""
    if every_epochs and epoch_ended and epoch % every_epochs == 0:
        return "epoch"
    if every_steps and step % every_steps == 0:
        return "step"
    return None
