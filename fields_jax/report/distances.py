"""The cumulative curve of distances between scans and meshes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from fields_jax.report.figures import Plot, Theme, plot


def cumulative_curve(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Plot:
    """Share of the scans' points within a distance, over the distance.

    Args:
      curves: by their names, limits in mm and the shares within them, 0 to 1.
    """

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        colors = (theme.stages[1], *theme.sources)
        for index, (name, (limits, shares)) in enumerate(curves.items()):
            percent = [100 * share for share in shares]
            axes.plot(limits, percent, color=colors[index % len(colors)], label=name)
            axes.set_xlim(0, max(limits))
        axes.set(ylim=(0, 101), xlabel="distance, mm", ylabel="points within, %")
        axes.legend(loc="lower right")

    return plot(draw, (5.0, 3.6), "Share of the scans' points within a distance of the mesh")


def png_of(figure: Plot) -> bytes:
    """A plot on white paper as a PNG file."""
    return base64.b64decode(figure.light.partition(",")[2])
