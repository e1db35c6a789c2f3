"""Every command, given absent files or odd values: one line on stderr and status 2."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from data_pipelines.faces.faces_dataset_builder import Builder
from fields_jax.errors import UserError
from fields_jax.evaluation import scoring
from tests.support.workdirs import write_workdir

# {run}, {head}: sound ones; {stray}: a workdir and a set that are none; {empty}: a workdir without
# anything in its checkpoint; {text}: a file of text; {folder}: an empty folder; {none}: nothing.
CASES = {
    "fields_jax.train": [
        "",
        "extra",
        "--config=",
        "--config={none}",
        "--config={folder}",
        "--config={text}",
        "--config=configs/stage2.py:nothing",
        "--config=configs/stage2.py --config.seed=x",
        "--config=configs/stage2.py --config.seed=99999999999999",
        "--config=configs/stage2.py --config.nothing=1",
        "--config=configs/stage2.py --config.image_size=33",
        "--config=configs/stage2.py --config.model.dtype=float13",
        "--config=configs/stage2.py --config.data.mixture=a",
        "--config=configs/stage2.py --config.init_from={folder}",
        "--config=configs/stage2.py --config.optim.rules.heads.match=x",
        "--config=configs/stage2.py --config.model.n_expression=999",
        "--config=configs/stage2.py --head={none} --workdir={folder}/run",
        "--config=configs/stage2.py --head={folder} --workdir={folder}/run",
        "--config=configs/stage2.py --head={text} --workdir={folder}/run",
        "--config=configs/stage2.py --distributed=somehow",
        "--config=configs/stage2.py:full --config.data.root={text} --workdir={folder}/run",
    ],
    "fields_jax.evaluate": [
        "",
        "--workdir={none}",
        "--workdir={folder}",
        "--workdir={text}",
        "--workdir={long}",
        "--workdir={run} --head={none}",
        "--workdir={run} --head={folder}",
        "--workdir={run} --head={long}",
        "--workdir={run} --ema",
        "--workdir={stray}",
        "--workdir={empty}",
        "--workdir={run} --sources=nothing --data_root={folder}",
        "--workdir={run} --sources=, --data_root={text}",
        "--ema=maybe",
        "--predictions={none} --out={folder}/out",
        "--predictions={text} --out={folder}/out",
        "--predictions={folder} --out={folder}/out",
        "--predictions={text}",
        "--predictions={text} --workdir={run} --out={folder}/out",
        "--against={text} --out={folder}/out",
        "--workdir={run} --nophotograph_fit",
        "--photographs={folder} --out={folder}/out --split=train",
        "--photographs={folder} --out={folder}/out --config=configs/evaluate.py",
        "--photographs={folder} --out={folder}/out --nophotograph_fit",
        "--workdir={run} --config=configs/evaluate.py",
        "--workdir={run} --config=configs/evaluate.py:nothing --out={folder}/out",
        "--workdir={run} --config=configs/stage2.py --out={folder}/out",
        "--workdir={run} --config=configs/evaluate.py --out={folder}/out --split=validation",
        "--workdir={run} --config=configs/evaluate.py --data_root={folder} --out={folder}/out",
    ],
    "fields_jax.probe": [
        "",
        "extra --out={folder}/out",
        "--out={folder}/out",
        "--workdir={none} --out={folder}/out",
        "--workdir={run} --head={none} --out={folder}/out",
        "--workdir={run} --sources=nothing --data_root={folder} --out={folder}/out",
        "--codes=a --out={folder}/out",
        "--codes=a={none} --out={folder}/out",
        "--codes=a={none}.npz --out={folder}/out",
        "--codes=a={head} --out={folder}/out",
        "--codes=network={head} --out={folder}/out",
        "--codes=a={head} --inputs=faces --out={folder}/out",
        "--codes=a={head} --width=0 --out={folder}/out",
    ],
    "fields_jax.ablate": [
        "",
        "--sweep=configs/ablation.py",
        "--sweep=configs/ablation.py:nothing --out={folder}/out",
        "--sweep=configs/stage2.py --out={folder}/out",
        "--sweep=configs/ablation.py --out={folder}/out extra",
        "--sweep=configs/ablation.py --out={folder}/out --arms=nothing",
        "--sweep=configs/ablation.py --out={folder}/out --jobs=-1",
        "--sweep=configs/ablation.py --out={folder}/out --head={none}",
        "--sweep=configs/ablation.py --out={folder}/out --photographs={none}",
        "--sweep=configs/ablation.py --out={folder}/out --sweep.init_from={none}",
        "--sweep=configs/ablation.py --out={folder}/out --sweep.seeds=()",
        "--sweep=configs/ablation.py --out={text}",
    ],
    "fields_jax.train_finder": [
        "",
        "extra --out={folder}/out",
        "--out={text}",
        "--out={folder}/out --start={none}",
        "--out={folder}/out --start={folder}",
        "--out={folder}/out --steps=0",
    ],
    "fields_jax.reconstruct": [
        "",
        "--workdir={run} a.png",
        "--workdir={run} --out={folder}/out",
        "--workdir={none} --out={folder}/out a.png",
        "--workdir={text} --out={folder}/out a.png",
        "--workdir={run} --out={folder}/out --box=1,2,x,4 a.png",
        "--workdir={run} --out={text} a.png",
        "--workdir={run} --out={text}/out a.png",
        "--workdir={run} --out={folder}/out --head={text} a.png",
        "--workdir={run} --out={folder}/out --batch_size=0 a.png",
    ],
    "fields_jax.fit": [
        "",
        "--out={folder}/out",
        "--out={text} a.png",
        "--out={text}/out a.png",
        "--out={folder}/out --head={folder} a.png",
        "--out={folder}/out --head={none} a.png",
        "--out={folder}/out --rate=inf a.png",
        "--out={folder}/out --focal=nan a.png",
    ],
    "fields_jax.transfer": [
        "",
        "--out={folder}/out",
        "--out={folder}/out {none}",
        "--out={folder}/out {text}",
        "--out={folder}/out {folder}",
        "--out={folder}/out --from={none} {text}",
        "--out={folder}/out --to={text} {text}",
    ],
    "fields_jax.export": [
        "",
        "--workdir={run}",
        "--workdir={none} --out={folder}/out",
        "--workdir={run} --out={run}",
        "--workdir={run} --out={text}",
        "--workdir={run} --out={text}/out",
        "--workdir={run} --out={folder}/out --platforms=toaster",
    ],
    "fields_jax.report.__main__": [
        "",
        "extra",
        "--stage1={none}",
        "--stage1={text}",
        "--stage2={run}",
    ],
    "fields_jax.convert.__main__": [
        "",
        "nothing {none} {none}",
        "flame {none} {folder}/out.npz",
        "flame {folder} {folder}/out.npz",
        "flame {text} {folder}/out.npz",
        "embeddings {folder} {none}",
        "embeddings {none} {head}",
        "teaser {none} {folder}/out",
        "teaser {text} {folder}/out",
        "teaser {folder} {folder}/out",
        "smirk {text} {folder}",
        "vgg16 {text} {folder}/out",
    ],
    "fields_jax.doctor": ["extra", "--jsno"],
    "fields_jax.tools.aot_compile": [
        "",
        "--config={none}",
        "--config=configs/stage2.py --topology=toaster",
        "--config=configs/stage2.py --topology=cpu --phases=nothing",
    ],
    "data_pipelines.prepare": [
        "",
        "nothing --out={folder}/out",
        "synthetic",
        "synthetic/nothing --out={folder}/out",
        "synthetic --out={text}",
        "synthetic --out={text}/out",
        "synthetic --out={folder}/out --size=vast",
        "synthetic --out={folder}/out --limit=3",
        "synthetic --dry_run",
        "faces --out={folder}/out",
        "faces --out={folder}/out --source={none}",
        "faces --out={folder}/out --source={text}",
        "faces --out={folder}/out --source={folder}",
        "faces --out={folder}/out --source={notes}",
        "faces --out={folder}/out --source={notes} --manifest={none}",
        "faces --out={folder}/out --source={notes} --manifest={notes}",
        "faces --out={folder}/out --source={notes} --manifest={text}",
        "faces --out={folder}/out --source={notes} --name=../up",
        "faces --out={folder}/out --source={notes} --test_share=2",
        "faces --out={stray} --source={photographs}",
        "affectnet --out={folder}/out --source={notes}",
        "affectnet/full --out={folder}/out --source={notes}",
        "affectnet/eight_class --out={folder}/out --source={notes}",
        "bp4d --out={folder}/out --source={notes}",
        "bp4d --out={folder}/out --source={notes} --fits={none} --head={none}",
    ],
    "data_pipelines.fit_bp4d": [
        "",
        "--source={none} --out={folder}/out",
        "--source={text} --out={folder}/out",
        "--source={notes} --out={folder}/out",
        "--source={notes} --out={folder}/out --unit=miles",
    ],
    "data_pipelines.landmarks": [
        "",
        "--task={none} a.png",
        "--python={none} {picture}",
        "--python={text} {picture}",
    ],
    "data_pipelines.manifests.__main__": [
        "",
        "nothing",
        "raf_db --source={none} --out={folder}/a.jsonl",
        "raf_db --source={notes} --out={folder}/a.txt",
        "raf_db --source={notes} --out={folder}/a.jsonl",
        "afew_va --source={notes} --out={folder}/a.jsonl",
        "aff_wild2 --source={notes} --out={folder}/a.jsonl",
        "mead --source={notes} --out={folder}/a.jsonl --every=0",
        "mead --source={notes} --out={folder}/a.jsonl",
    ],
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    run, head = write_workdir(folder)
    for name in ("notes", "photographs"):
        (folder / name).mkdir()
    (folder / "text.txt").write_text("nothing of any use\n")
    (folder / "notes" / "notes.txt").write_text("nothing of any use\n")
    (folder / "photographs" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (stray := folder / "stray" / "faces" / str(Builder.VERSION)).mkdir(parents=True)
    (stray / "dataset_info.json").write_text("{")
    shutil.copy(run / "config.json", folder / "stray")
    (folder / "stray" / "checkpoints").write_text("no folder")
    (folder / "empty" / "checkpoints" / "7").mkdir(parents=True)
    shutil.copy(run / "config.json", folder / "empty")
    return dict(
        run=run,
        stray=folder / "stray",
        empty=folder / "empty",
        photographs=folder / "photographs",
        head=head,
        text=folder / "text.txt",
        notes=folder / "notes",
        picture=folder / "photographs" / "a.png",
        none=folder / "none",
        long="x" * 300,
    )


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, lines in CASES.items() for line in lines]
)
def test_a_mistake_is_one_line_and_status_2(places, command, tmp_path, capsys, name, line):
    status = command(name, [part.format(**places, folder=tmp_path) for part in line.split()])
    said = capsys.readouterr().err
    assert status == 2, said
    assert said.startswith("error: ") and said.count("\n") == 1 and len(said) > len("error: \n")


def test_a_split_that_no_set_has_is_a_mistake(capsys):
    config = ConfigDict(dict(evaluation=dict(sources=""), data=dict(mixture="faces=1")))
    mixture = SimpleNamespace(
        parse_mixture=lambda _: [("faces", 1.0)], split_names=lambda *_: ["train"]
    )
    with pytest.raises(UserError, match="no set has a split 'test'; name another with --split"):
        scoring.source_names(config, mixture, "test")
    assert scoring.source_names(config, mixture, "train") == ["faces"]
