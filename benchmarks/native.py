"""The native floor of the rasteriser: a plain triangle loop in C++, compiled on the spot."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

_SOURCE = r"""
#include <algorithm>
#include <cmath>

// Nearest face at every pixel centre of one image; corners [V, 3] in pixels and z.
extern "C" void raster(const float* points, const int* faces, int count, int height, int width,
                       int cull, float* depth, int* face_index) {
  std::fill(depth, depth + height * width, INFINITY);
  std::fill(face_index, face_index + height * width, -1);
  for (int f = 0; f < count; ++f) {
    const float* a = points + 3 * faces[3 * f];
    const float* b = points + 3 * faces[3 * f + 1];
    const float* c = points + 3 * faces[3 * f + 2];
    const float area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
    if (!std::isfinite(area) || area == 0 || (cull && area > 0)) continue;
    const int left = std::max(0.f, std::ceil(std::min({a[0], b[0], c[0]})));
    const int right = std::min(width - 1.f, std::floor(std::max({a[0], b[0], c[0]})));
    const int top = std::max(0.f, std::ceil(std::min({a[1], b[1], c[1]})));
    const int bottom = std::min(height - 1.f, std::floor(std::max({a[1], b[1], c[1]})));
    const float sign = area < 0 ? -1.f : 1.f, scale = 1 / (sign * area);
    for (int y = top; y <= bottom; ++y) {
      for (int x = left; x <= right; ++x) {
        const float u = sign * ((c[0] - b[0]) * (y - b[1]) - (c[1] - b[1]) * (x - b[0]));
        const float v = sign * ((a[0] - c[0]) * (y - c[1]) - (a[1] - c[1]) * (x - c[0]));
        const float w = sign * ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]));
        if (u < 0 || v < 0 || w < 0) continue;
        const float z = (u * a[2] + v * b[2] + w * c[2]) * scale;
        if (z < depth[y * width + x]) {
          depth[y * width + x] = z;
          face_index[y * width + x] = f;
        }
      }
    }
  }
}
"""

Loop = Callable[[Float[np.ndarray, "B V 3"], Int[np.ndarray, "F 3"], tuple[int, int], bool], None]


def triangle_loop() -> Loop | None:
    """The loop on one thread, from vertices in pixels to face indices; None without a compiler."""
    compiler = next((path for name in ("g++", "clang++") if (path := shutil.which(name))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "raster.cpp", Path(folder) / "raster.so"
        source.write_text(_SOURCE)
        options = ["-O3", "-march=native", "-shared", "-fPIC", "-o", str(library)]
        subprocess.run([compiler, *options, str(source)], check=True)
        raster = ctypes.CDLL(str(library)).raster

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    def loop(points, faces, size, cull):
        points = np.ascontiguousarray(points, np.float32)
        faces = np.ascontiguousarray(faces, np.int32)
        depth = np.empty(size, np.float32)
        face_index = np.empty((len(points), *size), np.int32)
        for image, found in zip(points, face_index, strict=True):
            places = pointer(image), pointer(faces), len(faces), *size, int(cull)
            raster(*places, pointer(depth), pointer(found))
        return face_index

    return loop
