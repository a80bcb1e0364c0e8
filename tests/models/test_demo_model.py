import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from backend.demo.layout import SDSizes, sd_layout
from backend.demo.model import demo_model, make_demo_model
from backend.models.recognise import recognise
from backend.models.sd.model import SDModel
from backend.models.sd.options import SDOptions


@pytest.mark.parametrize("prefix, parameters", [
    ("model.diffusion_model.", 859_520_964), ("first_stage_model.", 83_653_863), ("cond_stage_model.transformer.text_model.", 123_060_480)])
def test_the_layout_has_as_many_parameters_as_the_real_model(prefix, parameters):
    assert sum(np.prod(shape, dtype=int) for name, shape in sd_layout(SDSizes()).items() if name.startswith(prefix)) == parameters


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first, second, other = (make_demo_model(tmp_path / name, seed).read_bytes() for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == second != other
    assert len(first) < 24_000_000


def test_the_demo_model_is_made_once(tmp_path):
    path = demo_model(tmp_path)
    before = path.stat().st_mtime_ns
    assert demo_model(tmp_path) == path and path.stat().st_mtime_ns == before
    assert recognise(path).family == "sd"


def test_a_photograph_becomes_latents_of_sane_scale(tmp_path):
    model = SDModel.load(demo_model(tmp_path), SDOptions(), torch.float32)
    pixels = torch.stack([torch.from_numpy(np.array(Image.fromarray(picture).resize((128, 128)))).permute(2, 0, 1) / 127.5 - 1 for picture in (data.astronaut(), data.coffee())])
    found = model.encode_images(pixels)
    latents = model.latents.normalise(found.mean)
    assert latents.shape == (2, 4, 16, 16) and latents.isfinite().all() and 0.3 < latents.std() < 2
    assert (found.log_variance < -4).all()
    assert not torch.allclose(latents[0], latents[1], atol=0.1)
    with torch.no_grad():
        found = model.predict(latents, torch.tensor([1, 900]), model.encode_text(model.tokenize(["a", "b"])))
    assert model.decode(latents).isfinite().all() and 0.1 < found.std() < 2
