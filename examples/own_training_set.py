"""Photographs with landmarks to a training set, and a model that learns from it.

    python examples/own_training_set.py photographs work            # a few steps, to see it run
    python examples/own_training_set.py photographs work 1.0        # a whole stage

A photograph NAME.jpg has its landmarks in NAME.npy beside it: mediapipe's 478 points or the 68, in
pixels (`python -m data_pipelines.landmarks photographs` writes them). Sets need the extra `data`.
Labels of emotion come by a manifest, see docs/data_sets.md. The cells (`# %%`) run one after the
other in VS Code, Spyder or, by jupytext, in Jupyter.
"""

# %% What to read, where to write, and how long to train
import subprocess
import sys
from pathlib import Path

photographs, work = Path(sys.argv[1]), Path(sys.argv[2])
share = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0005  # of a stage


def command(module: str, *arguments: str) -> None:
    """As typed in a terminal; what it says goes there too."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


# %% The set: crops, landmarks and, by a landmark fit, labels of expression, jaw, lids and shape
made = f"--out={work / 'data'}"
command("data_pipelines.prepare", "faces", f"--source={photographs}", "--fitted", made)

# %% What would be trained, and by which losses
training = [
    "--config=configs/stage1.py",
    f"--config.data.root={work / 'data'}",
    "--config.data.mixture=faces=1",
    "--config.losses.fitted_weight=0.5",
    f"--config.steps_scale={share}",
    f"--workdir={work / 'run'}",
]
command("fields_jax.train", *training, "--dry_run")

# %% Training; started again, it goes on where it was
command("fields_jax.train", *training)

# %% The networks at work on the photographs they learnt from
reconstruct = ["fields_jax.reconstruct", f"--workdir={work / 'run'}", f"--out={work / 'faces'}"]
command(*reconstruct, str(photographs))
