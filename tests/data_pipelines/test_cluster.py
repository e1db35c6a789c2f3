"""Sets made by Apache Beam's direct runner equal those made without it."""

import json
from pathlib import Path

import pytest
import tensorflow as tf

from data_pipelines import prepare
from data_pipelines.building import shards
from tests.support.photograph_sets import split_sizes, write_photographs

beam = pytest.importorskip("apache_beam")


def records(folder: Path) -> dict[str, list[tf.train.Example]]:
    """The records of every shard; protobuf orders their bytes differently in each process."""
    return {
        path.name: [
            tf.train.Example.FromString(record)
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        ]
        for path in folder.glob("*.tfrecord*")
    }


@pytest.mark.parametrize(
    "workers",
    [
        (),
        pytest.param(
            ("direct_running_mode=multi_processing", "direct_num_workers=2"),
            marks=pytest.mark.slow,
            id="processes",
        ),
    ],
)
def test_beam_makes_the_same_set(tmp_path, workers):
    source = tmp_path / "photographs"
    write_photographs(source, 7)
    (source / "broken.png").write_bytes(b"no picture")
    (source / "broken.npy").write_bytes((source / "day0/0.npy").read_bytes())
    options = dict(source=str(source), shard_size=3, threads=1)
    (alone,) = prepare.prepare("faces", tmp_path / "alone", **options)
    (folder,) = prepare.prepare(
        "faces", tmp_path / "beam", **options, beam_runner="direct", beam_options=workers
    )
    assert split_sizes(folder) == {"train": 7}
    assert records(folder) == records(alone) and len(records(folder)) == 3
    report = json.loads((folder / "prepare_report.json").read_text())
    assert report == json.loads((alone / "prepare_report.json").read_text())
    assert "broken.png" in (folder / "prepare_rejects.tsv").read_text()
    assert not list(folder.parent.glob("unfinished*"))


def test_beam_makes_only_what_is_missing(tmp_path, monkeypatch):
    from data_pipelines.building import cluster
    from data_pipelines.faces.faces_dataset_builder import Builder

    source = tmp_path / "photographs"
    write_photographs(source, 6)
    builder = Builder(data_dir=str(tmp_path / "data"), shard_size=2, threads=1)
    first = builder.plan(source, resume=True)["train"][0]
    builder.write_shard(first)
    assert first.whole()

    made = []

    class Pipeline(beam.Pipeline):
        def __init__(self, **options):
            made.append(options["runner"])
            super().__init__(**options)

    monkeypatch.setattr(cluster.beam, "Pipeline", Pipeline)

    def construct():
        return Builder(data_dir=str(tmp_path / "data"), shard_size=2, threads=1)

    assert cluster.make_shards(construct, str(source), "direct", ()) == 2
    assert cluster.make_shards(construct, str(source), "direct", ()) == 0
    assert made == ["DirectRunner"]
    assert all(shard.whole() for shard in builder.plan(source)["train"])
    assert len(list(builder.unfinished.glob("*.json"))) == 3 and shards.read_note(first.path)
