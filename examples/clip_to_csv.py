"""A video, or a folder of frames, to a table of ARKit's weights per frame and person.

    python examples/clip_to_csv.py talk.mp4 faces
    python examples/clip_to_csv.py frames faces

Videos need PyAV: pip install -e '.[video]'. The cells (`# %%`) run one after the other in VS Code,
Spyder or, by jupytext, in Jupyter.
"""

# %% What to read, and where to write
import csv
import sys
from pathlib import Path

import fields_jax
from fields_jax.clip_readers import NetworkReader
from fields_jax.clips.decode import FrameFolder, Video
from fields_jax.clips.making import Maker, Settings
from fields_jax.clips.watching import Where
from fields_jax.finder import packaged

clip, out = Path(sys.argv[1]), Path(sys.argv[2])

# %% Frames in the order of their times; a folder has a rate instead
source = FrameFolder(clip, clip.name, 30.0) if clip.is_dir() else Video(clip, clip.stem)

# %% What finds faces and what reads them: landmark files beside frames come before the finder
model, finder = fields_jax.load(), packaged()
reader = NetworkReader(model, 8, finder)
maker = Maker(model.head, reader, Settings(smooth=1.0, film=False), model.about)
where = Where(maker.scale, finder, near=True)

# %% One folder for each person: clip.csv, clip.npz, Live Link Face's table, clip.glb
persons = list(maker.make(source, where, out))

# %% What the tables say
for person in persons:
    with (out / person.name / "clip.csv").open() as file:
        rows = list(csv.DictReader(file))
    widest = max(rows, key=lambda row: float(row["jawOpen"]))
    print(f"{person.name}: {len(rows)} frames; {'; '.join(person.notes)}")
    print(f"  mouth widest at {widest['time']} s: jawOpen {widest['jawOpen']}")
