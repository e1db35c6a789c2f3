"""A photograph to heads that other programs open: GLB, texture, numbers.

    python examples/photograph_to_glb.py anna.jpg faces

The cells (`# %%`) run one after the other in VS Code, Spyder or, by jupytext, in Jupyter.
"""

# %% What to read, and where to write
import sys
from pathlib import Path

import fields_jax

picture, out = sys.argv[1], Path(sys.argv[2])

# %% The model in the package; or load("runs/stage2"), or fields_jax.fit(picture) from landmarks
model = fields_jax.load()

# %% Every face of the picture; boxes= or landmarks= say where they are, if you know
faces = model.reconstruct(picture)
for face in faces:
    print(f"{face.name}: {face.origin}")
    print(f"  read as {face.emotion['emotion']}, valence {face.emotion['valence']:+.2f}")
    print(f"  jaw {face.params.jaw[0]:+.3f} rad, {len(face.vertices)} vertices")
    print(f"  believed: {face.bundle.result.verdict.verdict}")

# %% All files of a face, as docs/outputs.md describes them
for face in faces:
    face.write(out / face.name)

# %% The GLB alone: for animation ARKit's shapes, for exactness the head's own
for face in faces:
    face.glb(out / f"{face.name}_exact.glb", morphs="expression")

# %% The same people at rest, and all with the expression of the first
for face in faces:
    face.relaxed().glb(out / f"{face.name}_neutral.glb")
    face.with_expression(faces[0]).glb(out / f"{face.name}_as_{faces[0].name}.glb")
