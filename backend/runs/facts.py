"""What the files of a run tell of it. Imports no torch."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from backend.checkpoints.data_facts import Pictures, data_metadata, picture_counts
from backend.checkpoints.metadata import TrainingFacts, file_facts, network_metadata
from backend.data.plan import RunPlan
from backend.data.records import Records
from backend.randomness import seed_for
from backend.runs.beginning import Beginning


class RunFacts:
    """The metadata of a run's files. The model's hashes, which take seconds, are made beside the training."""

    def __init__(self, beginning: Beginning, family, plan: RunPlan, optimizer: str):
        self.beginning, self.family, self.optimizer = beginning, family, optimizer
        self.counts = plan.describe()
        self.total_steps, self.total_epochs = plan.total_steps, plan.epochs
        self.pictures = pictures_of(beginning.records)
        worker = ThreadPoolExecutor(1)
        model = beginning.config.model
        self.hashed: list[Future] = [worker.submit(file_facts, path) for path in (model.pretrained_model_name_or_path, model.vae)]
        worker.shutdown(wait=False)

    def metadata(self, step: int, epoch: int, method_metadata: dict[str, str]) -> dict[str, str]:
        """What a file saved now tells."""
        config, records = self.beginning.config, self.beginning.records
        started = self.beginning.started_at
        train_images, reg_images = picture_counts(records.datasets, self.pictures)
        model, vae = (future.result() for future in self.hashed)
        facts = TrainingFacts(
            family=self.family, session_id=seed_for(config.training.seed, "session", int(started * 1000)) % 2**32, started_at=started,
            finished_at=time.time(), seed=config.training.seed, steps=step, epoch=epoch, total_steps=self.total_steps,
            total_epochs=self.total_epochs, batches_per_epoch=self.counts["batches_per_epoch"], train_images=train_images, reg_images=reg_images,
            optimizer=self.optimizer, resolution=tuple(records.datasets[0].resolution), model=model, vae=vae,
            data=data_metadata(records.datasets, self.pictures, bool(config.data.dataset_config), self.beginning.settings["processes"]))
        return network_metadata(config, facts, method_metadata)


def pictures_of(records: Records) -> Pictures:
    """The records as the metadata wants them."""
    buckets = np.array([[bucket.width, bucket.height] for bucket in records.buckets])
    return Pictures(records.dataset, records.subset, records.num_repeats, records.caption,
                    np.stack([records.width, records.height], axis=1), buckets[records.bucket])
