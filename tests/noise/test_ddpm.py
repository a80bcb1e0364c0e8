import numpy as np
import pytest
import torch

from backend.models.model import LatentDistribution
from backend.noise.ddpm import DDPM
from backend.noise.draws import draw_latents
from backend.noise.options import NoiseOptions

SEEDS = list(range(100, 108))


@pytest.fixture(scope="module")
def their_scheduler():
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


@pytest.fixture
def samples():
    draw = torch.Generator().manual_seed(5)
    x, noise = torch.randn(2, 8, 4, 6, 5, generator=draw)
    return x, noise, torch.tensor([0, 1, 10, 250, 500, 750, 998, 999])


def test_mixing_equals_diffusers(samples, their_scheduler):
    x, noise, t = samples
    assert torch.allclose(DDPM(NoiseOptions()).mix(x, noise, t), their_scheduler.add_noise(x, noise, t), atol=1e-6)


def test_the_v_target_equals_diffusers(samples, their_scheduler):
    x, noise, t = samples
    assert torch.allclose(DDPM(NoiseOptions(), "v").target(x, noise, t), their_scheduler.get_velocity(x, noise, t), atol=1e-6)


def test_the_epsilon_target_is_the_noise(samples):
    x, noise, t = samples
    assert torch.equal(DDPM(NoiseOptions()).target(x, noise, t), noise)


def test_the_signal_to_noise_ratio_equals_diffusers(samples, their_scheduler):
    from diffusers.training_utils import compute_snr

    t = samples[2]
    assert torch.allclose(DDPM(NoiseOptions()).snr(t), compute_snr(their_scheduler, t), rtol=1e-6)


def test_v_and_epsilon_say_the_same_of_the_clean_latents(samples):
    """x = sqrt(abar) * noisy - sqrt(1 - abar) * v (Salimans & Ho 2022, appendix D)."""
    x, noise, t = samples
    process = DDPM(NoiseOptions(), "v")
    alphas_bar = (process.snr(t) / (1 + process.snr(t))).view(-1, 1, 1, 1)
    found = alphas_bar.sqrt() * process.mix(x, noise, t) - (1 - alphas_bar).sqrt() * process.target(x, noise, t)
    assert torch.allclose(found, x, atol=1e-5)


def numpy_snr(t):
    betas = np.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2
    alphas_bar = np.cumprod(1 - betas)[t]
    return alphas_bar / (1 - alphas_bar)


@pytest.mark.parametrize("prediction, extra", [("epsilon", 0.0), ("v", 1.0)])
def test_min_snr_weights_follow_the_paper(prediction, extra):
    t = np.array([0, 50, 200, 400, 600, 999])
    snr = numpy_snr(t)
    expected = np.minimum(snr, 3.0) / (snr + extra)
    found = DDPM(NoiseOptions(min_snr_gamma=3.0), prediction).weights(torch.tensor(t)).numpy()
    assert found == pytest.approx(expected, rel=1e-4)
    assert len(set(expected.round(6))) >= 4  # both sides of gamma are seen


def test_without_gamma_every_level_counts_the_same():
    assert DDPM(NoiseOptions()).weights(torch.tensor([0, 500, 999])).tolist() == [1.0, 1.0, 1.0]


def test_times_reach_every_level_evenly():
    times = DDPM(NoiseOptions()).draw_times(range(100_000)).numpy()
    counts = np.bincount(times, minlength=1000)
    assert len(counts) == 1000 and counts.min() > 50 and counts.max() < 160  # 100 on average, standard deviation 10
    assert abs(times.mean() - 499.5) < 4


def test_noise_is_standard_normal():
    noise = DDPM(NoiseOptions()).draw_noise(torch.zeros(16, 4, 32, 32), list(range(16)))
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


def test_a_samples_noise_does_not_depend_on_its_batch():
    process = DDPM(NoiseOptions(noise_offset=0.3))
    together = process.draw_noise(torch.zeros(8, 4, 6, 5), SEEDS)
    alone = process.draw_noise(torch.zeros(1, 4, 6, 5), SEEDS[5:6])
    assert torch.equal(together[5:6], alone) and not torch.equal(together[4:5], alone)
    assert process.draw_times(SEEDS)[5] == process.draw_times(SEEDS[5:6])[0]


def test_noise_has_the_latents_number_format():
    assert DDPM(NoiseOptions()).draw_noise(torch.zeros(2, 4, 8, 8, dtype=torch.bfloat16), [1, 2]).dtype == torch.bfloat16


def test_the_noise_offset_shifts_each_channel_as_a_whole():
    x = torch.zeros(256, 4, 6, 5)
    seeds = list(range(256))
    shift = DDPM(NoiseOptions(noise_offset=0.5)).draw_noise(x, seeds) - DDPM(NoiseOptions()).draw_noise(x, seeds)
    shift = shift.numpy()
    assert np.ptp(shift, axis=(2, 3)).max() < 1e-6  # the same for all of a channel
    assert shift[:, :, 0, 0].std() == pytest.approx(0.5, rel=0.1)  # N(0, 1) times the strength
    assert abs(np.corrcoef(shift[:, 0, 0, 0], shift[:, 1, 0, 0])[0, 1]) < 0.2  # each channel its own


def test_latents_are_drawn_from_the_vaes_gaussian_by_seed():
    mean, log_variance = torch.full((64, 4, 8, 8), 3.0), torch.full((64, 4, 8, 8), 2 * np.log(0.5))
    seeds = list(range(64))
    drawn = draw_latents(LatentDistribution(mean, log_variance), seeds)
    assert abs(drawn.mean() - 3.0) < 0.02 and abs(drawn.std() - 0.5) < 0.02
    assert torch.equal(draw_latents(LatentDistribution(mean[7:8], log_variance[7:8]), [7]), drawn[7:8])


def test_the_draws_of_one_sample_are_unrelated():
    latents = draw_latents(LatentDistribution(torch.zeros(1, 4, 64, 64), torch.zeros(1, 4, 64, 64)), [3])
    noise = DDPM(NoiseOptions()).draw_noise(latents, [3])
    assert abs(np.corrcoef(latents.flatten(), noise.flatten())[0, 1]) < 0.05
