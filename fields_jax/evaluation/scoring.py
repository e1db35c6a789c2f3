"""Scores of a trained model on the sets of a config: what `fields_jax.evaluate` does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from fields_jax.disk import writing
from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError
from fields_jax.evaluation import EXAMPLES, FORMAT, PREDICTIONS, geometry, registry, summary, swap
from fields_jax.evaluation.predict import predict_set, spread
from fields_jax.evaluation.reconstructions import Measurer, Paintings
from fields_jax.evaluation.tables import aligned
from fields_jax.files import write_npz, write_whole
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import predict
from fields_jax.progress import Progress
from fields_jax.types import FieldsOutput, FlameModel
from fields_jax.workdir.inference import Inference, check_head, load_inference

_LEGEND = """error mm: distance of predicted from true expression; zero mm: of no expression at all
slope, rank: predicted against true intensity; ordered: pairs of graded intensity in order
eye: error of the 105 landmarks as a share of the inter-ocular distance
all: every example; emotion scores without the sets of graded intensity"""
_PAINTED = """pictures of the synthesiser beside photographs; face: where it has to fill them
followed: share of a swapped expression that paint, or what is read in it, follows; ignored: 0"""


def score_workdir(
    workdir: str,
    *,
    split: str = "test",
    head: str = "",
    sources: str = "",
    data_root: str = "",
    ema: bool = False,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores the latest checkpoint of a workdir.

    Args:
      workdir: of a training run or a converted checkpoint.
      split: part of the sets.
      head: path of a head; empty: that of the run's config.
      sources: "NAME,NAME", the sets to score; empty: those of the run's config.
      data_root: folder of the sets; empty: that of the run's config.
      ema: score the mean of the parameters (config.ema).

    Returns:
      What evaluation.json holds, and predictions.npz.

    Raises:
      UserError: no checkpoint, data or tensorflow, another head than in training, or predictions
        that are not finite.
    """
    inference = load_inference(workdir, ema=ema)
    if sources:
        inference.config.evaluation.sources = sources
    if data_root:
        inference.config.data.root = data_root
    chosen = resolve_head(head or inference.config.head)
    check_head(inference.meta, chosen)
    scores, arrays = evaluate(inference, chosen, split)
    return {"format": FORMAT, "workdir": str(workdir)} | scores, arrays


def write_scores(out: str, scores: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Writes JSON to `out`, whose folder is made, and predictions.npz beside it.

    Raises:
      DiskError: one of them cannot be written.
    """
    file = epath.Path(out)
    with writing(file, instead="another by --out=FILE.json"):
        write_npz(file.parent / PREDICTIONS, arrays)
        write_whole(file, json.dumps(scores, indent=1, allow_nan=False))


def evaluate(
    inference: Inference, head: FlameModel, split: str = "test"
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores of a model on every source, ready for JSON, and the arrays behind them.

    Args:
      inference: the model.
      head: the head it was trained with.
      split: part of the sets.

    Returns:
      The pooled scores (`summary.summarize`) with those of each set under "sources"; and, for
      predictions.npz, one row per example of every column, `source` as the row of "sources",
      `example_row` of the examples kept whole, `example_*` their pictures, labels and predictions.

    Raises:
      UserError: tensorflow or a set is absent, or predictions are not finite.
    """
    config = inference.config
    mixture = import_mixture()
    names = source_names(config, mixture, split)
    for warning in mixture.compare_heads(config.data, names, head):
        print(f"warning: {warning}")
    networks = partial(predict, inference.model, inference.variables)
    size = config.evaluation.batch_size
    paints = registry.PAINTER in inference.meta["trained"]
    measurer = Measurer(inference, head) if paints else None
    if not paints:
        print(f"no trained {registry.PAINTER}: no reconstructions, and no scores of them")
    parts, predictions, kept, paintings, start = [], [], [], [], 0
    for index, name in enumerate(names):
        total = mixture.count_examples(config.data, name, split)
        read = partial(
            *(mixture.evaluation_batches, config.data, name, split),
            image_size=config.image_size,
            batch_size=size,
        )
        batches, examples = spread(_counted(read(), name, total), total, EXAMPLES)
        prediction, labels = predict_set(networks, batches, size)
        part = summary.columns(head, prediction, labels, batch_size=size)
        if measurer:
            again = _counted(read(), f"{name}, reconstructions", total)
            rows = [example["row"] for example in examples]
            scored, painted = measurer.measure(prediction, again, rows)
            part |= scored
            paintings.append(painted)
        parts.append(part)
        predictions.append(prediction)
        kept += [example | {"row": example["row"] + start, "source": index} for example in examples]
        start += total

    edges = summary.intensity_edges(parts)
    pooled = summary.pool(parts)
    scores = {
        "stage": config.stage,
        "step": inference.step,
        "trained": list(inference.meta["trained"]),
        "split": split,
        "emotions": list(EMOTIONS),
        "head": head.identity,
        **summary.summarize(pooled, edges),
        "sources": {
            name: summary.summarize(part, edges) for name, part in zip(names, parts, strict=True)
        },
    }
    source = np.repeat(np.arange(len(parts)), [len(part["group"]) for part in parts])
    return scores, pooled | {"source": source} | _examples(kept, predictions, paintings)


def source_names(config: ConfigDict, mixture: Any, split: str) -> list[str]:
    """Sets to score: `config.evaluation.sources`, or those trained on that have such a split.

    Raises:
      UserError: no set has such a split.
    """
    chosen = config.evaluation.sources
    if chosen:
        return [name.strip() for name in chosen.split(",")]
    names = list(dict(mixture.parse_mixture(config.data.mixture)))
    # A set made for training only, such as a folder of photographs, has nothing held out.
    scored = [name for name in names if split in mixture.split_names(config.data, name)]
    for name in sorted(set(names) - set(scored)):
        print(f"{name} has no split {split!r}: not scored")
    if not scored:
        raise UserError(f"no set has a split {split!r}; name another with --split or --sources")
    return scored


def table(scores: dict[str, Any]) -> str:
    """The headline numbers, one line per source, for a terminal."""
    shown = [each for each in registry.METRICS if each.shown_as]
    painted = [each for each in shown if each.network == registry.PAINTER]
    others = [each for each in shown if each not in painted]
    title = f"stage {scores['stage']}, step {scores['step']}, {scores['split']} split"
    lines = [title, *_rows(scores, others), _LEGEND]
    if scores["reconstruction"]:
        lines += ["", *_rows(scores, painted), _PAINTED]
    return "\n".join(lines)


def _rows(scores: dict[str, Any], metrics: Sequence[registry.Metric]) -> list[str]:
    """A line for the titles, one for each set and one for all together."""
    shown = {"n": "n"} | {each.shown_as: each.path for each in metrics}
    rows = [("", *shown)]
    for name, part in [*scores["sources"].items(), ("all", scores)]:
        values = (registry.value_at(part, path) for path in shown.values())
        rows.append((name, *(_number(value) for value in values)))
    return aligned(rows)


def import_mixture() -> Any:
    """Imports data_pipelines.reading.mixture, which needs tensorflow."""
    try:
        from data_pipelines.reading import mixture
    except ImportError as error:
        raise UserError(
            f"evaluation reads data sets through tensorflow, which is not here ({error}); "
            "install it with `pip install -e '.[data]'`"
        ) from error
    return mixture


def _counted(batches: Iterable[dict], name: str, total: int) -> Iterator[dict]:
    """Passes batches on and says how many images of the set are done."""
    line = Progress(total, "images", of=name)
    for batch in batches:
        yield batch
        line.step(len(batch["image"]))


def _examples(
    kept: list[dict], predictions: list[FieldsOutput], paintings: list[Paintings]
) -> dict[str, np.ndarray]:
    """Arrays `example_*`: everything a report draws, so that it needs no data and no networks."""
    stored = {f"example_{key}": np.stack([example[key] for example in kept]) for key in kept[0]}
    every = _joined(predictions)
    output = jax.tree.map(lambda column: column[stored["example_row"]], every)
    for name in ("shape", "expression", "jaw", "eyelid", "pose", "camera"):
        stored[f"example_predicted_{name}"] = getattr(output.coefficients, name)
    truth, known = geometry.true_coefficients(
        {key.removeprefix("example_"): column for key, column in stored.items()}
    )
    stored["example_has_truth"] = known
    for name in swap.MOVEMENT:
        stored[f"example_true_{name}"] = getattr(truth, name)
    if paintings:
        painted = _joined(paintings)
        stored["example_reconstruction"] = painted.reconstruction
        stored["example_swapped"] = painted.swapped
        for name in swap.MOVEMENT:
            stored[f"example_swapped_{name}"] = getattr(painted.other, name)
    return stored


def _joined(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *trees)


def _number(value: float | None) -> str:
    if value is None:
        return registry.MISSING
    return str(value) if isinstance(value, int) else f"{round(value, 3) + 0.0:.3f}"
