"""The sets that `data_pipelines.prepare` can make, for it and for advice; loads no builder."""

from __future__ import annotations

from typing import NamedTuple

from etils import epath

_OF_PHOTOGRAPHS = ("limit", "threads", "stored_size")  # flags of every set of photographs


class PreparedSet(NamedTuple):
    """A set that can be made; docs/extending.md says how to add one.

    Attributes:
      module: holds a class `Builder`, derived from `ShardedBuilder`, by way of `PhotographBuilder`
        if the set is one of photographs; imported only when wanted.
      configs: names of its builder configs; () for none. A module with configs also has a function
        `config_of`, which tells the config of a folder of raw data.
      flags: flags of `data_pipelines.prepare` that its builder takes.
      needs_source: whether it is made from raw data.
    """

    module: str
    configs: tuple[str, ...]
    flags: tuple[str, ...]
    needs_source: bool = True


SETS = {
    "synthetic": PreparedSet(
        "data_pipelines.synthetic.synthetic_dataset_builder",
        ("spont4d", "wild2d", "levels", "wide"),
        ("size", "people", "seed", "head", "labels"),
        needs_source=False,
    ),
    "affectnet": PreparedSet(
        "data_pipelines.affectnet.affectnet_dataset_builder",
        ("full", "eight_class"),
        _OF_PHOTOGRAPHS,
    ),
    "bp4d": PreparedSet(
        "data_pipelines.bp4d.bp4d_dataset_builder",
        ("spontaneous", "plus"),
        (*_OF_PHOTOGRAPHS, "fits", "head", "test_fold", "every", "coded_only"),
    ),
    "faces": PreparedSet(
        "data_pipelines.faces.faces_dataset_builder",
        (),
        (*_OF_PHOTOGRAPHS, "manifest", "test_share", "fitted", "head"),
    ),
}


def remedy(name: str, root: epath.PathLike) -> str:
    """How to make the set of that name, as the end of an error line."""
    kind, _, config = name.partition("/")
    if kind not in SETS:
        return f"known sets: {', '.join(SETS)}"
    if kind == "synthetic" and config.startswith("wide"):
        suffix = config.partition("_")[2]
        of_head = f" --head=HEAD.npz --labels=procedural --name={suffix}" if suffix else ""
        return (
            "make it with `python -m data_pipelines.prepare synthetic --size=wide"
            f"{of_head} --out={root}`"
        )
    source = " --source=DIR" if SETS[kind].needs_source else ""
    chosen = name if SETS[kind].needs_source and config in SETS[kind].configs else kind
    named = f" --name={config}" if config and not SETS[kind].configs else ""
    return f"make it with `python -m data_pipelines.prepare {chosen}{source}{named} --out={root}`"
