"""Ways to go from noise to a picture: diffusers' schedulers under the names that prompts and options use."""

import warnings
from typing import Any

# Stable Diffusion's own noise table (Rombach et al. 2022). Samples always use the plain table.
TABLE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# Stable Diffusion's settings for the two samplers that take every so many times, counted from 1 on.
LEADING = {"steps_offset": 1, "set_alpha_to_one": False}
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}

# name -> (class in diffusers, its settings beside TABLE)
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {**LEADING, "clip_sample": False}),
    "pndm": ("PNDMScheduler", {**LEADING, "skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm_2": ("KDPM2DiscreteScheduler", {}),
    "dpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    # This algorithm divides by the last noise level, which therefore must not be 0.
    "dpmsolver": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmsingle": ("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
}


def make_scheduler(name: str, prediction: str) -> Any:
    """The scheduler of a sampler's name (k_euler is euler) for a denoiser that predicts `prediction`: epsilon or v."""
    import diffusers

    kind, settings = SAMPLERS[name.removeprefix("k_")]
    with warnings.catch_warnings():
        # diffusers means to drop the first DPM-Solver one day; until then it is a choice like the others.
        warnings.simplefilter("ignore", FutureWarning)
        return getattr(diffusers, kind)(**TABLE, **settings, prediction_type=PREDICTIONS[prediction])
