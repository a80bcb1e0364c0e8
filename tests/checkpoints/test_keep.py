"""Names of saved files, and which go when others come."""

import pytest

from backend.checkpoints.keep import outdated, state_name, weights_name
from backend.checkpoints.options import SavingOptions


def saving(**values):
    return SavingOptions(output_name="cat", **values)


def test_names_are_the_community_s():
    options = saving()
    assert weights_name(options) == "cat.safetensors" and state_name(options) == "cat-state"
    assert weights_name(options, epoch=2) == "cat-000002.safetensors" and state_name(options, epoch=2) == "cat-000002-state"
    assert weights_name(saving(save_model_as="pt"), step=500) == "cat-step00000500.pt" and state_name(options, step=500) == "cat-step00000500-state"


def kept_by_epoch(options, epochs):
    """What is left after saving at these epochs, removing as told each time."""
    names = []
    for epoch in epochs:
        names += [weights_name(options, epoch=epoch), state_name(options, epoch=epoch)]
        gone = outdated(names, options, epoch=epoch)
        names = [name for name in names if name not in gone]
    return names


def test_of_epochs_the_last_so_many_files_stay():
    options = saving(save_every_n_epochs=2, save_last_n_epochs=2)
    names = kept_by_epoch(options, [2, 4, 6, 8])
    assert names == ["cat-000006.safetensors", "cat-000006-state", "cat-000008.safetensors", "cat-000008-state"]


def test_states_have_their_own_number_where_it_is_given():
    names = kept_by_epoch(saving(save_every_n_epochs=1, save_last_n_epochs=3, save_last_n_epochs_state=1), [1, 2, 3, 4])
    assert names == ["cat-000002.safetensors", "cat-000003.safetensors", "cat-000004.safetensors", "cat-000004-state"]
    names = kept_by_epoch(saving(save_every_n_epochs=1, save_last_n_epochs_state=1), [1, 2])
    assert names == ["cat-000001.safetensors", "cat-000002.safetensors", "cat-000002-state"]


@pytest.mark.parametrize("last,kept", [(4, [6, 8, 10]), (3, [8, 10]), (1, [10]), (100, [2, 4, 6, 8, 10])])
def test_of_steps_those_stay_that_are_at_most_so_many_steps_old(last, kept):
    options = saving(save_every_n_steps=2, save_last_n_steps=last)
    names = [weights_name(options, step=step) for step in (2, 4, 6, 8, 10)]
    gone = outdated(names, options, step=10)
    assert [name for name in names if name not in gone] == [weights_name(options, step=step) for step in kept]


def test_without_a_limit_everything_stays():
    options = saving(save_every_n_epochs=1)
    assert outdated([weights_name(options, epoch=1), state_name(options, epoch=1)], options, epoch=9) == []
    assert outdated([weights_name(options)], saving(save_last_n_epochs=1)) == []


def test_names_of_others_are_never_removed():
    others = [
        "cat.safetensors", "cat-state", "cats-000001.safetensors", "my-cat-000001.safetensors", "cat-000001.pt", "cat-000001.safetensors.bak",
        "cat-1.safetensors", "cat-0000001.safetensors", "cat-00000١.safetensors", "cat-000001-000002.safetensors", "cat-step00000001.safetensors",
        "cat-000001", "rolling-state", "cat-000009.safetensors"]
    options = saving(save_every_n_epochs=1, save_last_n_epochs=1)
    assert outdated([*others, "cat-000004.safetensors"], options, epoch=5) == ["cat-000004.safetensors"]
    assert outdated(["catx-000004.safetensors", "catx-000004-state"], SavingOptions(output_name="cat.", save_every_n_epochs=1, save_last_n_epochs=1), epoch=5) == []
