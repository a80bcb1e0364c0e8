"""What a run will do, said before it starts."""

from html import escape

from backend.config.config import Config
from backend.data.plan import Columns, RunPlan
from gui.draft import Checked
from gui.text import text


def plan_html(checked: Checked, language: str, insist: bool) -> str:
    """The Plan card. insist: Start was pressed, so what is missing is a fault and no longer a hint."""
    rows = plan_rows(checked, language) if checked.prepared else []
    notes = [note(words, "bad" if insist else "todo") for words in checked.faults] + [note(words, "warn") for words in checked.warnings]
    title = f"<h3>{escape(text('page.plan', language))}</h3>"
    if not rows:
        title += f"<p class=soft>{escape(text('page.plan_needs', language))}</p>"
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f"{title}<dl class=kv>{body}</dl><div role=status>{''.join(notes)}</div>"


def note(words: str, kind: str) -> str:
    """One remark."""
    return f'<div class="note {kind}">{escape(words)}</div>'


def plan_rows(checked: Checked, language: str) -> list[tuple[str, str]]:
    """The figures, in words and numbers."""
    config, records = checked.config, checked.prepared.records
    training = config.training
    plan = RunPlan(Columns.of(records), 1, training.gradient_accumulation_steps, training.seed or 0, training.max_train_steps, training.max_train_epochs)
    told = plan.describe()
    buckets = [f"{bucket.width}×{bucket.height}" for bucket, count in records.bucket_counts() if count]
    rows = [("pictures", f"{told['train_images']:,} → {told['train_samples_per_epoch']:,}")]
    if told["reg_images"]:
        rows.append(("reg", f"{told['reg_images']:,} → {told['reg_samples_per_epoch']:,}"))
    rows += [("buckets", f"{len(buckets)}: {', '.join(buckets[:4])}{' …' if len(buckets) > 4 else ''}"),
             ("epoch_steps", f"{told['steps_per_epoch']:,}"), ("epochs", f"{told['epochs']:,}"), ("total_steps", f"{told['total_steps']:,}"),
             ("files", files_words(config, told, language))]
    return [(text(f"page.plan_{key}", language), value) for key, value in rows]


def files_words(config: Config, told: dict, language: str) -> str:
    """How many trained files there will be."""
    saving, total, epochs = config.saving, told["total_steps"], told["epochs"]
    by_step = total // saving.save_every_n_steps if saving.save_every_n_steps else 0
    by_epoch = (epochs - 1) // saving.save_every_n_epochs if saving.save_every_n_epochs else 0
    ending = f"{saving.output_name}.{saving.save_model_as}"
    return ending if not by_step + by_epoch else text("page.plan_files_more", language, name=ending, count=by_step + by_epoch)
