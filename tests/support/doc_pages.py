"""How the commands of every page are run in their small form.

A page has `place`, what its commands name and do not make themselves; `small`, words in the place
of a word; `left`, beginnings of commands that are not run, with the reason; `ends`, exit statuses
other than 0; `alone`, modules that need a process of their own; `around`, a context to run in.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support import doc_places as made
from tests.support.strided_backbone import STRIDED

_SIZES = (
    "--config.image_size=32",
    "--config.batch_size=8",
    "--config.model.encoder_width=0.25",
    "--config.model.encoder_depth=0.25",
    "--config.model.synthesizer_width=4",
    "--config.model.residual_blocks=1",
    "--config.model.token_dim=8",
    "--config.model.adain_hidden=4",
    "--config.model.emotion_hidden=(8,)",
    f"--config.model.backbone={STRIDED}",
)
# One step of each phase.
_TRAIN = {
    "fields_jax.train": [
        "fields_jax.train",
        *_SIZES,
        "--config.steps_scale=1e-9",
        "--config.log.images=0",
        "--config.losses.va_min_count=2",
    ]
}
_FAR = "of a cluster: its processes and its places are not here"
_SEEN = "mentioned; with its flags it is run on "


@dataclasses.dataclass(frozen=True)
class Page:
    """See the module's docstring."""

    place: Mapping[str, Callable[[Path], None]] = dataclasses.field(default_factory=dict)
    small: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    left: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ends: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alone: tuple[str, ...] = ()
    around: tuple[Callable[[], contextlib.AbstractContextManager], ...] = ()


_LICENSED = {
    "generic_model.pkl": made.flame_model,
    "TEASER.pt": made.teaser,
    "AFFECTNET": made.affectnet,
    "BP4D": made.bp4d,
    "FLAME.npz": made.flame_head,
}

PAGES = {
    "README": Page(
        place={
            "photograph.jpg": made.write_photograph,
            "photographs": made.photographs,
            "data/embedded": made.embedded_sets,
            **_LICENSED,
            "DIR": made.tables,
            "PHOTOGRAPHS": made.set_of_photographs,
        },
        small={
            **_TRAIN,
            "FLAME.npz": ["MOSTLY_ZEROS.npz"],  # of the stand-in, no face to fit
        },
        left={"data_pipelines.landmarks": "needs mediapipe, which is installed by itself"},
        around=(made.small_fits,),
    ),
    "arkit": Page(
        place={
            "ICT-FaceKit": made.ict_clone,
            "ICT.npz": made.ict_head,
            "FLAME.npz": made.flame_head,
            "HEAD.npz": made.flame_head,
        },
        small={"benchmarks.arkit": ["benchmarks.arkit", "--frames=2"]},
        around=(made.small_clones,),
    ),
    "clips": Page(
        place={"talk.mp4": made.film, "frames": made.frames, "DIR": made.photographs},
        small={"benchmarks.confidence": ["benchmarks.confidence", "--people=4"]},
        ends={"fields_jax.reconstruct --out=faces talk.mp4": 2},  # no face is seen
    ),
    "clusters": Page(left={"fields_jax.train": _FAR}),
    "converting": Page(
        place={
            "generic_model.pkl": made.flame_model,
            "DIR": made.tables,
            "TEASER.pt": made.teaser,
            "SMIRK_em1.pt": made.smirk,
            "vgg16.pth": made.vgg,
            "EMOCA.ckpt": made.emoca,
        },
    ),
    "data_sets": Page(
        place={
            "AFFECTNET": made.affectnet,
            "BP4D": made.bp4d,
            "FLAME.npz": made.flame_head,
            "PHOTOGRAPHS": made.set_of_photographs,
            "RAF-DB": made.raf_db,
            "ICT.npz": made.ict_head,
            "runs/embedded-64": made.start,
        },
        small={
            **_TRAIN,
            "--size=wide": ["--size=wide", "--people=4"],
            "--people=20000": [],
            "--people=1500": [],
            "--workers=8": [],
            "--workers=2": [],
            "benchmarks.scan_fit": [
                "benchmarks.scan_fit",
                "--subjects=2",
                "--frames=4",
                "--n_shape=8",
            ],
        },
        left={"data_pipelines.landmarks": "needs mediapipe, which is installed by itself"},
        around=(made.small_clones, made.small_fits),
    ),
    "embedded": Page(
        place={"photographs": made.photographs, "ICT.npz": made.ict_head},
        small={
            **_TRAIN,
            "--size=wide": ["--size=wide", "--people=20"],
            "--people=1500": ["--people=8"],
            "benchmarks.refine": ["benchmarks.refine", "--faces=8", "--cases=105"],
        },
        around=(made.small_clones,),
    ),
    "evaluation": Page(
        place={
            "data/embedded": made.embedded_sets,
            "DATA": made.sets_to_score,
            "DIR": made.procedural_run,
            "FOLDER": made.photographs,
            "OURS.csv": made.answers,
            "THEIRS.csv": made.answers,
            "SMIRK.npz": made.codes,
            "FIT.csv": made.codes,
            "faces/a/mesh.ply": made.surface,
            "SCAN.obj": made.scan,
            "SCAN.pp": made.scan,
            "a.npy": made.seven_points,
            "HEAD.npz": made.flame_head,
            "mesh.ply": made.head_and_scan,
            "mesh.npy": made.head_and_scan,
            "FACE.obj": made.head_and_scan,
            "FACE.npy": made.head_and_scan,
            "A.obj": made.surface,
            "B.ply": made.surface,
            "NOW": made.now_set,
        },
        small={
            "fields_jax.probe": [
                "fields_jax.probe",
                "--width=16",
                "--depth=1",
                "--steps=20",
                "--seeds=2",
            ],
            "NOW/NoW_Dataset/final_release_version/iphone_pictures/SUBJECT/CHALLENGE": [
                "NOW/NoW_Dataset/final_release_version/iphone_pictures/FaMoS_1/multiview_neutral"
            ],
            "--predictions=DIR": ["--predictions=PREDICTED"],  # DIR is a workdir above
            "fields_jax.report": ["fields_jax.report", "--stage2=DIR", "--out=report.html"],
            "benchmarks.now": ["benchmarks.now", "--scans=1", "--points=1000", "--brute=10"],
        },
    ),
    "evidence": Page(
        place={
            "FOLDER": made.photographs,
            "data/embedded": made.embedded_sets,
            "runs/stage1": made.start,
            "AFFECTNET": made.affectnet,
            "BP4D": made.bp4d,
            "FLAME.npz": made.flame_head,
            "FITS": made.fits_of_bp4d,
            "PHOTOGRAPHS": made.set_of_photographs,
            "TEASER.pt": made.teaser,
            "EMOCA.ckpt": made.emoca,
        },
        small={
            **_TRAIN,
            "fields_jax.emotion_network": [
                "fields_jax.emotion_network",
                "--config.image_size=32",
                "--config.batch_size=8",
                "--config.width=0.25",
                "--config.depth=0.25",
                "--config.steps_scale=1e-9",
            ],
            # The children that are made up leave no emotion network.
            "--arms=one_step,external": ["--arms=one_step"],
        },
        around=(made.children_made_up,),
    ),
    "extending": Page(
        left={
            "data_pipelines.prepare NAME": "the name is the reader's; tests/test_extending.py",
            "data_pipelines.prepare faces": _SEEN + "data_sets.md",
        }
    ),
    "heads": Page(
        place={
            "ICT-FaceKit": made.ict_clone,
            "photographs": made.photographs,
            "GNM": made.gnm_folder,
            "FLAME.npz": made.flame_head,
            "faces": made.face_of_flame,
            "FLAME2020.npz": made.two_versions,
            "FLAME2023.npz": made.two_versions,
            "smirk.npz": made.codes_of_smirk,
            "OTHER.npz": made.other_head,
        },
        small={
            "benchmarks.head_realism": ["benchmarks.head_realism", "--people=1", "--frames=1"],
            # The small clone has no face to find again.
            "--to=ICT.npz": ["--to=OTHER.npz"],
            "--reference=ICT.npz": ["--reference=OTHER.npz"],
        },
        around=(made.small_clones,),
    ),
    "outputs": Page(place={"photographs": made.photographs, "frames": made.frames}),
    "performance": Page(
        place={"docs": made.performance},
        small={"benchmarks.ledger": ["benchmarks.ledger", "--quick", "--only=rasterizer"]},
        left={"benchmarks.accelerator": _SEEN + "training.md"},
    ),
    "photographs": Page(
        place={
            "photographs": made.photographs,
            "DIR": made.photographs,
            "runs/stage2": made.run,
            "runs/wide": made.procedural_run,
            "data/embedded": made.embedded_sets,
        },
        small={
            "--out=runs/finder": [
                "--out=runs/finder",
                "--heads=2",
                "--walls=2",
                "--steps=1",
                "--tests=2",
            ],
            # Packed networks leave out where their head lies, and this one is not the default.
            "--workdir=FOLDER": ["--workdir=FOLDER", "--head=runs/head.npz"],
            "--workdir=DIR": ["--workdir=runs/wide", "--faces=8", "--cases=105"],
            "benchmarks.finding": ["benchmarks.finding", "--scenes=8"],
        },
        left={"data_pipelines.landmarks": "needs mediapipe, which is installed by itself"},
    ),
    "rasterizer": Page(
        place={"docs": made.performance},
        small={"benchmarks.raster_picture": ["benchmarks.raster_picture", "--size=64"]},
        left={"benchmarks.accelerator": _SEEN + "training.md"},
    ),
    "scaling": Page(
        place={"docs": made.performance},
        small={"benchmarks.scaling": ["benchmarks.scaling", "--out=docs/scaling.md"]},
        left={
            "benchmarks.accelerator": _SEEN + "training.md",
            "benchmarks.pipeline": "run on training.md",
        },
    ),
    "training": Page(
        place={"DIR": made.run},
        small={
            "--weights=OUT": ["--weights=PACKED"],  # OUT is the export above
            "--config=configs/stage2.py:full": ["--config=configs/stage2.py", *_SIZES],
            "--topology=v5e:4x4": ["--topology=cpu", "--phases=A"],  # without libtpu
            "benchmarks.overhead": ["benchmarks.overhead", *_SIZES[:-1], "--steps=4", "--rounds=1"],
            "benchmarks.pipeline": ["benchmarks.pipeline", "--images=64", "--rounds=1"],
            "benchmarks.accelerator": [
                "benchmarks.accelerator",
                "--quick",
                "--only=rasterizer",
                *_SIZES[:-1],
            ],
            "benchmarks.step": [
                "benchmarks.step",
                *_SIZES,
                "--batches=4",
                "--dtypes=float32",
                "--steps=2",
            ],
            "--json=OUT": ["--json=figures.json"],
        },
        left={
            "benchmarks.ledger": _SEEN + "performance.md",
            "benchmarks.scaling": "run on scaling.md",
        },
        # They keep time from the process's start, and another cache of compiled programs.
        alone=("benchmarks.accelerator", "benchmarks.overhead"),
    ),
}
