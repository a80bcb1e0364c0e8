"""How far a prediction is from its target, for each sample of a batch."""

from torch import Tensor


def squared(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of each sample, in float32. prediction, target: [B, ...]; result: [B]."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


LOSSES = {"l2": squared}


def step_loss(losses: Tensor, weights: Tensor, counts: Tensor, step_count: float) -> Tensor:
    """A micro-batch's share of the step's loss: its weighted losses over the number of samples in the whole step.

    losses, weights, counts: [B]. counts is 1, or 0 where a sample only pads the batch; step_count is the sum of counts over
    all processes and micro-batches. A weight below 1 (regularisation, min-SNR) makes a sample count less for good: it
    is not divided out again, or a batch of regularisation pictures alone would count in full.
    """
    return (losses * weights * counts).sum() / step_count
