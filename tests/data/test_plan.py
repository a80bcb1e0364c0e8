"""The laws of the plan."""

from collections import Counter

import numpy as np
import pytest

from backend.data.plan import Columns, RunPlan, plan_epoch, steps_in_epoch


def random_columns(seed: int, regularised: bool = True) -> Columns:
    """Records of up to three datasets with buckets, repeats and batch sizes drawn by numpy."""
    draw = np.random.default_rng(seed)
    count, datasets = int(draw.integers(1, 60)), int(draw.integers(1, 4))
    dataset = np.sort(draw.integers(0, datasets, count))
    buckets = dataset * 4 + draw.integers(0, 4, count)  # a bucket belongs to one dataset
    is_reg = draw.random(count) < 0.3 if regularised else np.zeros(count, dtype=bool)
    is_reg[0] = False
    return Columns(dataset, buckets, draw.integers(1, 6, datasets)[dataset], draw.integers(1, 5, count), is_reg)


def uses(steps) -> Counter:
    """How often each (record, repeat) counts in some steps."""
    return Counter(use for step in steps for parts in step.micro_batches for use in counted(parts))


def counted(parts) -> list[tuple[int, int]]:
    """The uses of one global batch that count, in order."""
    return [(int(record), int(repeat)) for part in parts for record, repeat, count in zip(part.records, part.repeats, part.counts) if count]


def flat(step):
    return step.number, step.epoch, step.index, step.count, step.last_of_epoch, [counted(parts) for parts in step.micro_batches]


@pytest.mark.parametrize("seed", range(20))
def test_an_epoch_uses_every_training_picture_num_repeats_times(seed):
    columns = random_columns(seed)
    for epoch in (1, 2, 5):
        found = uses(plan_epoch(columns, processes=1 + seed % 3, accumulation=1 + seed % 4, seed=seed, epoch=epoch))
        wanted = {(record, repeat) for record in np.flatnonzero(~columns.is_reg) for repeat in range(columns.num_repeats[record])}
        assert {use for use in found if not columns.is_reg[use[0]]} == wanted
        assert set(found.values()) == {1}


@pytest.mark.parametrize("seed", range(20))
def test_regularisation_is_used_as_often_as_training_in_each_dataset(seed):
    columns = random_columns(seed)
    for epoch in (1, 2, 3):
        used = np.zeros(len(columns.dataset), dtype=int)
        for record, _ in uses(plan_epoch(columns, 2, 1, seed, epoch)):
            used[record] += 1
        for dataset in np.unique(columns.dataset[columns.is_reg]):
            inside = columns.dataset == dataset
            assert used[inside & columns.is_reg].sum() == columns.num_repeats[inside & ~columns.is_reg].sum()


def simple(training: int, regularisation: int, repeats: list[int], batch_size: int = 2) -> Columns:
    """One dataset and one bucket: training pictures used once, then regularisation pictures with their repeats."""
    count = training + regularisation
    is_reg = np.arange(count) >= training
    return Columns(np.zeros(count, int), np.zeros(count, int), np.full(count, batch_size), np.array([1] * training + repeats), is_reg)


def reg_records(columns: Columns, epoch: int) -> list[int]:
    return sorted(record for record, _ in uses(plan_epoch(columns, 1, 1, 0, epoch)) if columns.is_reg[record])


def test_surplus_regularisation_takes_turns_from_epoch_to_epoch():
    columns = simple(2, 5, [1] * 5)  # records 2 to 6, two an epoch
    assert [reg_records(columns, epoch) for epoch in (1, 2, 3, 4)] == [[2, 3], [4, 5], [2, 6], [3, 4]]


def test_scarce_regularisation_is_used_alike_often_and_the_rest_takes_turns():
    columns = simple(8, 3, [1] * 3)  # records 8, 9, 10: eight uses an epoch
    assert [Counter(reg_records(columns, epoch)) for epoch in (1, 2)] == [{8: 3, 9: 3, 10: 2}, {8: 3, 9: 2, 10: 3}]


@pytest.mark.parametrize("training, regularisation", [(3, 7), (4, 6), (5, 12), (9, 4), (10, 7)])
def test_in_the_long_run_all_regularisation_pictures_are_used_alike_often(training, regularisation):
    columns = simple(training, regularisation, [1] * regularisation)
    total = Counter(record for epoch in range(1, regularisation + 1) for record in reg_records(columns, epoch))
    assert total == {training + number: training for number in range(regularisation)}


def test_datasets_balance_their_regularisation_each_for_itself():
    # Two training pictures and three others; three training pictures, used twice each, and one other.
    columns = Columns(np.array([0] * 5 + [1] * 4), np.array([0] * 5 + [1] * 4), np.array([2] * 5 + [3] * 4), np.array([1] * 5 + [2, 2, 2, 1]),
                      np.array([False, False, True, True, True, False, False, False, True]))
    assert [Counter(reg_records(columns, epoch)) for epoch in (1, 2)] == [{2: 1, 3: 1, 8: 6}, {2: 1, 4: 1, 8: 6}]
    for parts in (parts for step in plan_epoch(columns, 1, 1, 0, 1) for parts in step.micro_batches):
        assert len(parts[0].records) == (2 if parts[0].records[0] < 5 else 3) and len(set(columns.dataset[parts[0].records])) == 1


def test_repeats_of_regularisation_come_before_further_rounds():
    columns = simple(6, 2, [3, 1])  # 3 + 1 uses, and two more: one for each
    assert Counter(reg_records(columns, 1)) == {6: 4, 7: 2}


@pytest.mark.parametrize("seed", range(12))
def test_processes_see_together_what_one_process_with_a_larger_batch_sees(seed):
    columns, processes = random_columns(seed), 2 + seed % 3
    larger = Columns(columns.dataset, columns.bucket, columns.batch_size * processes, columns.num_repeats, columns.is_reg)
    alone = plan_epoch(larger, 1, 2, seed, 3)
    together = plan_epoch(columns, processes, 2, seed, 3)
    assert [flat(step) for step in together] == [flat(step) for step in alone]


@pytest.mark.parametrize("seed", range(12))
def test_micro_batches_are_even_never_empty_and_of_one_bucket(seed):
    columns, processes = random_columns(seed), 4
    for step in plan_epoch(columns, processes, 3, seed, 1):
        assert 1 <= len(step.micro_batches) <= 3
        assert step.count == sum(part.counts.sum() for parts in step.micro_batches for part in parts)
        for parts in step.micro_batches:
            assert len(parts) == processes and len({len(part.records) for part in parts}) == 1
            records = np.concatenate([part.records for part in parts])
            assert len(np.unique(columns.bucket[records])) == 1
            assert 1 <= len(parts[0].records) <= columns.batch_size[records[0]]
            assert parts[0].records.dtype == parts[0].repeats.dtype == np.int64 and parts[0].counts.dtype == np.float32
            padding = {int(record) for part in parts for record in part.records[part.counts == 0]}
            assert padding <= {record for record, _ in counted(parts)}


def test_short_tails_are_kept_and_a_step_may_hold_fewer_batches():
    steps = plan_epoch(simple(7, 0, []), 1, 3, 0, 1)  # batches of 2, 2, 2, 1 in steps of 3
    assert [len(step.micro_batches) for step in steps] == [3, 1]
    assert sorted(len(parts[0].records) for step in steps for parts in step.micro_batches) == [1, 2, 2, 2]
    assert [step.last_of_epoch for step in steps] == [False, True] and sum(step.count for step in steps) == 7


@pytest.mark.parametrize("seed", range(6))
def test_each_bucket_has_no_more_than_one_short_batch(seed):
    columns, processes = random_columns(seed, regularised=False), 1 + seed % 2
    found = [[record for record, _ in counted(parts)] for step in plan_epoch(columns, processes, 2, seed, 1) for parts in step.micro_batches]
    for bucket in np.unique(columns.bucket):
        lengths = [len(records) for records in found if columns.bucket[records[0]] == bucket]
        inside = columns.bucket == bucket
        full = processes * int(columns.batch_size[inside][0])
        whole, rest = divmod(int(columns.num_repeats[inside].sum()), full)
        assert sorted(lengths, reverse=True) == [full] * whole + [rest] * bool(rest)


def test_accumulation_only_draws_batches_together():
    columns = random_columns(4)
    single, triple = (plan_epoch(columns, 2, accumulation, 4, 2) for accumulation in (1, 3))
    assert [batch for step in triple for batch in flat(step)[5]] == [flat(step)[5][0] for step in single]
    assert {len(step.micro_batches) for step in triple[:-1]} <= {3}


def test_five_samples_for_four_processes_are_shared_out_as_two_each():
    parts, = plan_epoch(simple(5, 0, []), 4, 1, 0, 1)[0].micro_batches
    assert [part.counts.tolist() for part in parts] == [[1, 1], [1, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("seed", range(12))
def test_a_resumed_plan_is_the_tail_of_the_whole_one(seed):
    columns = random_columns(seed)
    plan = RunPlan(columns, 2, 2, seed, max_train_steps=4 * steps_in_epoch(columns, 2, 2, 1) + 1)
    whole = [flat(step) for step in plan.steps(0)]
    assert [step[0] for step in whole] == list(range(1, plan.total_steps + 1))
    assert whole[-1][1] == plan.epochs
    for done in {0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1, len(whole)}:
        assert [flat(step) for step in plan.steps(done)] == whole[done:]


@pytest.mark.parametrize("seed", range(12))
def test_epochs_decide_the_steps_where_they_are_given(seed):
    columns = random_columns(seed)
    plan = RunPlan(columns, 1, 2, seed, max_train_steps=1, max_train_epochs=3)
    steps = list(plan.steps())
    assert plan.total_steps == len(steps) and steps[-1].epoch == plan.epochs == 3 and steps[-1].last_of_epoch
    by_epoch = [flat(step) for epoch in (1, 2, 3) for step in plan_epoch(columns, 1, 2, seed, epoch)]
    assert by_epoch == [flat(step) for step in steps]
    assert [sum(step.epoch == epoch for step in steps) for epoch in (1, 2, 3)] == [steps_in_epoch(columns, 1, 2, epoch) for epoch in (1, 2, 3)]


def test_seeds_and_epochs_change_the_order():
    columns = simple(40, 0, [])
    orders = [[use for step in plan_epoch(columns, 1, 1, seed, epoch) for use in flat(step)[5]] for seed, epoch in ((1, 1), (1, 2), (2, 1), (1, 1))]
    assert orders[0] == orders[3] and orders[0] != orders[1] and orders[0] != orders[2]


def test_every_place_in_an_epoch_is_as_likely_for_every_picture():
    columns, counts = simple(6, 0, []), np.zeros((6, 6), dtype=int)
    for epoch in range(1, 1201):
        order = [record for step in plan_epoch(columns, 1, 1, 7, epoch) for batch in flat(step)[5] for record, _ in batch]
        counts[order, range(6)] += 1
    assert counts.min() > 140 and counts.max() < 260  # 200 wanted, standard deviation 13


def test_the_buckets_of_an_epoch_are_mixed():
    columns = Columns(np.zeros(80, int), np.repeat([0, 1], 40), np.full(80, 2), np.ones(80, int), np.zeros(80, bool))
    first_half = plan_epoch(columns, 1, 1, 0, 1)[:20]
    share = np.mean([columns.bucket[step.micro_batches[0][0].records[0]] for step in first_half])
    assert 0.2 < share < 0.8


def test_the_figures_of_a_plan_are_told():
    told = RunPlan(simple(4, 6, [1] * 6), 1, 2, 0, max_train_steps=5).describe()
    assert told == {"train_images": 4, "reg_images": 6, "train_samples_per_epoch": 4, "reg_samples_per_epoch": 4, "reg_samples_unused_per_epoch": 2,
                    "batches_per_epoch": 4, "steps_per_epoch": 2, "epochs": 3, "total_steps": 5}


def test_a_million_records_are_planned_in_the_middle_of_a_run():
    draw = np.random.default_rng(0)
    count = 1_000_000
    columns = Columns(np.zeros(count, int), draw.integers(0, 17, count), np.full(count, 4), np.ones(count, int), np.zeros(count, bool))
    plan = RunPlan(columns, 2, 1, 0, max_train_steps=10 * count)
    first = next(plan.steps(3 * plan.plans.length(1) + 5))
    assert first.epoch == 4 and first.index == 6
