"""Options of the noise that a model learns to remove."""

from backend.config.option import Options, option


class NoiseOptions(Options):
    """Noise and how much each noise level counts."""

    noise_offset: float | None = option(
        None, "Shift each channel's noise by a random amount of this strength, so that very dark and very bright pictures can be learned. 0.1 or less is usual.",
        minimum=0, example=(0.5, "result"), advanced=True)
    min_snr_gamma: float | None = option(
        None, "Weigh the noise levels by min(SNR, gamma) / SNR, so that nearly clean pictures do not dominate (Hang et al. 2023). The paper recommends 5. Empty: all alike.",
        above=0, example=(1.0, "result"))
