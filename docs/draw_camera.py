"""Draws docs/camera.png, the camera equation and the pose vector: `python docs/draw_camera.py`."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.normals import vertex_normals
from fields_jax.geometry.rotations import rodrigues
from fields_jax.render import five_light_shade, interpolate, project, rasterize
from fields_jax.types import FlameCoefficients

INK, MUTED, LINE = "#1d2733", "#66727f", "#c9d1d9"
AXES = {"x": "#c8443c", "y": "#3a8f4d", "z": "#2f6db5"}
JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
PARTS = (  # of the pose vector, with the fields of FlameCoefficients
    ("global", "pose [3]"),
    ("neck", "neck [3]"),
    ("jaw", "jaw [3]"),
    ("left eye", "eyes [0:3]"),
    ("right eye", "eyes [3:6]"),
)
PIXELS = 640
TURN = (0.15, 0.75, 0.0)  # of the head at the left: it looks down and to our right


def posed(
    turn: tuple[float, float, float], camera: tuple[float, float, float]
) -> tuple[FlameCoefficients, np.ndarray]:
    """A neutral head turned by an axis-angle, and its picture [P, P] with NaN where it is not."""
    rest = jnp.zeros((1, 3))
    known = FlameCoefficients(
        shape=jnp.zeros((1, 1)),
        expression=jnp.zeros((1, 1)),
        jaw=rest,
        eyelid=jnp.zeros((1, 2)),
        pose=jnp.array([turn]),
        camera=jnp.array([camera]),
    )
    head = procedural_head()
    vertices = flame(head, known).vertices
    projected = project(vertices, known.camera)
    fragments = rasterize(projected, head.faces, 2 * PIXELS)
    normals = interpolate(fragments, projected, head.faces, vertex_normals(vertices, head.faces))
    shade, mask = np.asarray(five_light_shade(normals))[0], np.asarray(fragments.face_index)[0] >= 0
    small = (PIXELS, 2, PIXELS, 2)
    cover = mask.reshape(small).mean((1, 3))
    mean = (shade * mask).reshape(small).sum((1, 3)) / 4 / np.maximum(cover, 1e-9)
    return known, np.where(cover > 0.5, mean, np.nan)


def arrow(axes: Axes, start: np.ndarray, end: np.ndarray, color: str, text: str) -> None:
    """An arrow with its name beyond the tip."""
    axes.annotate("", end, start, arrowprops=dict(arrowstyle="-|>", color=color, lw=2.2))
    away = (end - start) / np.linalg.norm(end - start)
    axes.annotate(text, end + 0.05 * away, color=color, ha="center", va="center", weight="bold")


def show(axes: Axes, picture: np.ndarray) -> None:
    """A picture in image coordinates: X right, Y down."""
    axes.imshow(picture, cmap="gray", vmin=-0.25, vmax=0.85, extent=(-1, 1, 1, -1))
    axes.set(xlim=(-1, 1), ylim=(1, -1), aspect="equal")


def draw_head(axes: Axes) -> None:
    """The head's frame and joints, turned."""
    known, picture = posed(TURN, (6.2, 0.0, 0.03))
    show(axes, picture)
    output = flame(procedural_head(), known)
    joints = np.asarray(project(output.joints, known.camera))[0, :, :2]
    for name, place in zip(JOINTS, joints, strict=True):
        axes.plot(*place, "o", color="#ffb000", mec=INK, ms=7)
        side = 1 if name == "left eye" else -1
        away = (9 * side, -14 if name == "jaw" else 7)
        where = dict(textcoords="offset points", xytext=away, color=INK)
        box = dict(boxstyle="round,pad=0.15", fc="#ffffffc0", ec="none")
        horizontal = "left" if side > 0 else "right"
        axes.annotate(name, place, fontsize=8, ha=horizontal, bbox=box, **where)
    turn = np.asarray(rodrigues(jnp.array(TURN)))
    start = np.array([-0.72, 0.62])
    for name, direction in zip(AXES, turn.T, strict=True):
        end = start + 0.36 * np.array([direction[0], -direction[1]])
        arrow(axes, start, end, AXES[name], name)
    axes.set_title("head: metres; x to the subject's left, y up, z out of the face", fontsize=9)
    axes.axis("off")


def draw_image(axes: Axes) -> None:
    """The image's frame and the projected 68 landmarks."""
    known, picture = posed((0.0, 0.0, 0.0), (6.2, 0.0, 0.02))
    show(axes, picture)
    marks = flame(procedural_head(), known).landmarks_68
    marks = np.asarray(project(marks, known.camera))[0, :, :2]
    axes.plot(*marks.T, ".", color="#0b7a75", ms=4)
    corner = np.array([-1.0, -1.0])
    arrow(axes, corner, np.array([-0.6, -1.0]), AXES["x"], "X")
    arrow(axes, corner, np.array([-1.0, -0.6]), AXES["y"], "Y")
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.tick_params(length=2, colors=MUTED, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(LINE)
    axes.set_title("image: pixel (i, j) samples X = (2j+1)/W - 1, Y = (2i+1)/H - 1", fontsize=9)


def draw_words(axes: Axes) -> None:
    """The equation and the pose vector."""
    axes.axis("off")
    axes.set(xlim=(0, 15), ylim=(0, 4))
    axes.text(
        7.5,
        3.3,
        "camera = (s, $t_x$, $t_y$):    X = s (x + $t_x$)     Y = -s (y + $t_y$)     Z = -s z,  "
        "smaller is nearer",
        ha="center",
        fontsize=11,
    )
    for index, (name, field) in enumerate(PARTS):
        left = 3 * index
        color = "#e7f3f2" if index % 2 == 0 else "#f4f6f8"
        axes.add_patch(mpl.patches.Rectangle((left, 1.1), 3, 1.1, fc=color, ec=LINE))
        axes.text(left + 1.5, 1.62, name, ha="center", va="center", weight="bold")
        axes.text(left + 1.5, 0.72, field, ha="center", va="center", fontsize=8, color=MUTED)
        axes.text(left + 0.06, 1.2, f"{left}", fontsize=7, color=MUTED)
    words = "pose vector: 5 joints x axis-angle in radians; below, the fields of FlameCoefficients"
    axes.text(7.5, 0.1, words, ha="center", fontsize=8, color=MUTED)


def main() -> None:
    """Writes the figure beside this file."""
    with mpl.rc_context({"font.family": "sans-serif", "font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(9.6, 6.2), dpi=110, layout="constrained", facecolor="white")
        canvas = FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2, 2, height_ratios=(4.2, 1.5))
        draw_head(figure.add_subplot(grid[0, 0]))
        draw_image(figure.add_subplot(grid[0, 1]))
        draw_words(figure.add_subplot(grid[1, :]))
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    target = Path(__file__).with_name("camera.png")
    picture.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"written: {target}, {target.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
