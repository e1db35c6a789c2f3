"""Damaged raw data are counted or refused by name, and all the rest is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_pipelines.affectnet.affectnet_dataset_builder import Builder as Affectnet
from data_pipelines.bp4d.bp4d_dataset_builder import Builder as Bp4d
from data_pipelines.building.summary import Summary
from tests.support.raw_sets import bp4d_sequence, face_68, picture

COUNT = 6
CELLS = ("", "nan", "-inf", "1e999", "x", "\0", '"', "9" * 5000, ",,", "\xe9", ";", "0x10", "-2")


def affectnet_full(folder: Path) -> None:
    base = folder / "Manually_Annotated"
    marks = ";".join(f"{value:.2f}" for value in face_68().ravel())
    rows = ["subDirectory_filePath,facial_landmarks,expression,valence,arousal"]
    for index in range(COUNT):
        picture(base / "Manually_Annotated_Images" / f"1/{index}.jpg", seed=index)
        rows.append(f"1/{index}.jpg,{marks},{index % 8},0.1,0.2")
    (base / "training.csv").write_text("\n".join(rows) + "\n")
    (base / "validation.csv").write_text(rows[0] + "\n")


def affectnet_eight(folder: Path) -> None:
    for index in range(COUNT):
        picture(folder / f"train_set/images/{index}.jpg", 112, 112)
        notes = folder / "train_set/annotations"
        notes.mkdir(exist_ok=True)
        for kind, value in (("exp", index % 8), ("val", 0.1), ("aro", 0.2)):
            np.save(notes / f"{index}_{kind}.npy", np.array(str(value)))
        np.save(notes / f"{index}_lnd.npy", face_68(112, 112).ravel())
    (folder / "val_set/images").mkdir(parents=True)
    (folder / "val_set/annotations").mkdir()


def bp4d(folder: Path) -> None:
    for subject in ("F001", "F007"):
        bp4d_sequence(folder, subject, "T1")


def damage(content: bytes, rng: np.random.Generator) -> bytes | None:
    """The content truncated, with a stretch of noise or zeros in it, or gone."""
    place, length = int(rng.integers(len(content))), int(rng.integers(1, 200))
    kind = rng.integers(5)
    if kind == 0:
        return None
    if kind == 1:
        return content[:place]
    filling = rng.bytes(length) if kind < 4 else bytes(length)
    return content[:place] + filling + content[place + length :]


def damage_row(content: bytes, rng: np.random.Generator) -> tuple[bytes, int]:
    """A table with one cell replaced, and the line it is in."""
    lines = content.decode().split("\n")
    line = int(rng.integers(1, len(lines) - 1))
    cells = lines[line].split(",")
    cells[rng.integers(len(cells))] = str(rng.choice(CELLS))
    lines[line] = ",".join(cells)
    return "\n".join(lines).encode("latin1"), line


def outcome(builder, folder: Path) -> tuple[set[str], list[tuple[str, str]]]:
    """Keys that are kept and (reason, detail) of what is not."""
    summaries = builder.examine(folder).values()
    kept = [
        key
        for shards in builder.plan(folder).values()
        for shard in shards
        for key, _ in shard.records(Summary())
    ]
    assert sum(summary.examples for summary in summaries) == len(kept) == len(set(kept))
    return set(kept), [reject for summary in summaries for reject in summary.rejects]


@pytest.mark.parametrize(
    ("make", "builder", "config", "pattern"),
    [
        (affectnet_full, Affectnet, "full", "**/*.jpg"),
        (affectnet_eight, Affectnet, "eight_class", "**/*.*"),
        (bp4d, Bp4d, "spontaneous", "**/*.jpg"),
    ],
    ids=["full", "eight_class", "bp4d"],
)
def test_a_damaged_file_costs_itself_and_is_named(tmp_path, make, builder, config, pattern):
    folder, rng = tmp_path / "raw", np.random.default_rng(0)
    make(folder)
    builder = builder(data_dir=tmp_path / "data", config=config, threads=1)
    whole, _ = outcome(builder, folder)
    files, lost = sorted(folder.glob(pattern)), 0
    for _ in range(22):
        file = files[rng.integers(len(files))]
        content = file.read_bytes()
        damaged = damage(content, rng)
        file.unlink(missing_ok=True)
        if damaged is not None:
            file.write_bytes(damaged)
        kept, rejects = outcome(builder, folder)
        missing = whole - kept
        assert len(missing) <= 1, (file, missing)
        number = file.name.split("_")[0].split(".")[0]
        if missing:  # a few odd bytes may leave a picture that can be read
            assert missing == {key for key in missing if number in key}
            # An image that is gone from a folder that no table lists leaves nothing to name.
            if damaged is not None or config == "full":
                assert any(file.stem.split("_")[0] in detail for _, detail in rejects), rejects
            lost += 1
        file.write_bytes(content)
    assert lost > 5
    assert outcome(builder, folder)[0] == whole


def test_a_damaged_row_costs_itself_and_is_named(tmp_path):
    folder, rng = tmp_path / "raw", np.random.default_rng(1)
    affectnet_full(folder)
    builder = Affectnet(data_dir=tmp_path / "data", config="full", threads=1)
    table = folder / "Manually_Annotated/training.csv"
    content, lost = table.read_bytes(), 0
    whole, _ = outcome(builder, folder)
    for _ in range(20):
        damaged, line = damage_row(content, rng)
        table.write_bytes(damaged)
        kept, rejects = outcome(builder, folder)
        key = f"1/{line - 1}.jpg"
        assert whole - kept <= {key}
        if key not in kept:
            named = [f"line {line + 1}", key, "Manually_Annotated_Images"]  # of another name
            assert any(name in detail for _, detail in rejects for name in named), rejects
            assert len(rejects) == 1
            lost += 1
    assert lost > 10


@pytest.mark.parametrize("name", ["2DFeatures/F001_T1.mat", "AUCoding/AU_OCC/F001_T1.csv"])
def test_damaged_annotations_of_a_sequence_leave_the_other_alone(tmp_path, name):
    folder, rng = tmp_path / "raw", np.random.default_rng(2)
    bp4d(folder)
    codes = name.startswith("AUCoding")  # nothing reads them otherwise
    builder = Bp4d(data_dir=tmp_path / "data", config="spontaneous", threads=1, coded_only=codes)
    (whole, rejected), felt = outcome(builder, folder), 0
    other = {key for key in whole if "F007" in key}
    file = folder / name
    content = file.read_bytes()
    for _ in range(12):
        damaged = damage(content, rng)
        file.unlink(missing_ok=True)
        if damaged is not None:
            file.write_bytes(damaged)
        kept, rejects = outcome(builder, folder)
        assert other <= kept <= whole
        if any("F001" in key for key in whole - kept):
            assert any("F001" in detail for _, detail in rejects)
        felt += kept != whole or rejects != rejected
    assert other and felt
