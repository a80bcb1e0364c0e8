"""How much each noise level counts in the loss."""

from torch import Tensor


def min_snr(snr: Tensor, gamma: float, prediction: str) -> Tensor:
    """Weights min(SNR, gamma) / SNR for a denoiser that predicts epsilon, and / (SNR + 1) for v (Hang et al. 2023). snr: [B]."""
    clamped = snr.clamp(max=gamma)
    return clamped / (snr + 1) if prediction == "v" else clamped / snr
