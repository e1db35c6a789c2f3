"""Meshes of outside origin: dialects that are read, damage that is refused in one line."""

import numpy as np
import pytest

from fields_jax.errors import MissingFile, UserError
from fields_jax.geometry.mesh_files import read_surface
from fields_jax.geometry.point_files import read_points
from fields_jax.outputs.meshes import ply

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
FAN = np.array([[0, 1, 2], [0, 2, 3]])

OBJ = {
    "quad": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n",
    "colours": "v 0 0 0 .5 .5 .5\nv 1 0 0 1 1 1\nv 1 1 0 0 0 0\nv 0 1 0 0 0 0\nf 1 2 3\nf 1 3 4\n",
    "slashes": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1/1 3//1 4\n",
    "notes and indents": "  v 0 0 0\n\tv 1 0 0 # one\nv 1 1 0\nv 0 1 0\n f 1 2 3 # tri\nf 1 3 4#\n",
    "from the end": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf -4 -3 -2 -1\nv 9 9 9\n",
    "others": "\ufeffv\t0 0 0\r\no a\r\n# x\r\nv 1 0 0\r\nv 1 1 0\r\nvn 0 0 1\r\nv 0 1 0\r\n"
    "l 1 2\r\nf 1 2 \\\r\n3 4\r\n",
}
HEADER = "ply\nformat {} 1.0\ncomment x\nelement vertex 4\n"
ASCII_PLY = (
    HEADER.format("ascii")
    + "property float x\nproperty uchar red\nproperty double y\nproperty float z\nelement edge 1\n"
    "property int a\nelement face {faces}\nproperty list uchar uint vertex_index\nend_header\n"
    "0 7 0 0\n1 7 0 0\n1 7 1 0\n0 7 1 0\n3\n{rows}"
)


@pytest.mark.parametrize("dialect", OBJ)
def test_dialects_of_obj(dialect, tmp_path):
    file = tmp_path / "a.OBJ"
    file.write_bytes(OBJ[dialect].encode())
    found = read_surface(file)
    np.testing.assert_array_equal(found.vertices[:4], SQUARE)
    np.testing.assert_array_equal(found.faces, FAN)


@pytest.mark.parametrize("rows", ["4 0 1 2 3\n", "3 0 1 2\n3 0 2 3\n"])
def test_ascii_ply_with_elements_nobody_asked_for(rows, tmp_path):
    file = tmp_path / "a.ply"
    file.write_text(ASCII_PLY.format(faces=rows.count("\n"), rows=rows))
    found = read_surface(file)
    np.testing.assert_array_equal(found.vertices, SQUARE)
    np.testing.assert_array_equal(found.faces, FAN)


def test_ascii_ply_with_texture_coordinates_of_corners(tmp_path):
    """As MeshLab writes them."""
    text = ASCII_PLY.replace("end_header", "property list uchar float texcoord\nend_header")
    rows = "3 0 1 2 6 0 0.5 1 0 1 1e-3\n3 0 2 3 6 0 0 1 1 0 .25\n"
    (tmp_path / "a.ply").write_text(text.format(faces=2, rows=rows))
    np.testing.assert_array_equal(read_surface(tmp_path / "a.ply").faces, FAN)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("polygons", [[[0, 1, 2], [0, 2, 3]], [[0, 1, 2, 3]], [[0, 1, 2, 3], [0]]])
def test_binary_ply_in_both_orders_with_lists_of_several_lengths(order, polygons, tmp_path):
    sign = {"little": "<", "big": ">"}[order]
    header = HEADER.format(f"binary_{order}_endian") + (
        "property double x\nproperty double y\nproperty double z\nproperty uchar red\n"
        f"element face {len(polygons)}\nproperty uchar flags\n"
        "property list ushort int vertex_indices\nend_header\n"
    )
    content = header.encode()
    for point in SQUARE:
        content += point.astype(f"{sign}f8").tobytes() + b"\x07"
    for polygon in polygons:
        size = np.array(len(polygon), f"{sign}u2").tobytes()
        content += b"\x01" + size + np.array(polygon, f"{sign}i4").tobytes()
    file = tmp_path / "a.ply"
    file.write_bytes(content)
    found = read_surface(file)
    np.testing.assert_array_equal(found.vertices, SQUARE)
    np.testing.assert_array_equal(found.faces, FAN)
    for end in range(len(header), len(content)):  # wherever it is cut
        file.write_bytes(content[:end])
        with pytest.raises(UserError, match=r"a\.ply"):
            read_surface(file)


def test_our_own_writers_are_read_back(tmp_path):
    (tmp_path / "a.ply").write_bytes(ply(SQUARE, FAN, "a square"))
    found = read_surface(tmp_path / "a.ply")
    np.testing.assert_array_equal(found.vertices, SQUARE)
    np.testing.assert_array_equal(found.faces, FAN)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.obj", "", "empty"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces"),
        ("a.obj", "v 0 0 0\nv 1 0 nan\nv 0 1 0\nf 1 2 3\n", "not finite"),
        ("a.obj", "v 0 0 0\nv 1 0 1e30\nv 0 1 0\nf 1 2 3\n", "farther"),
        ("a.obj", "v 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "three coordinates"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", "has not"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "has not"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 -9\n", "has not"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 x\n", "damaged"),
        ("a.ply", "plx\n", "does not begin"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 9999999999\nproperty float x\n", "begin"),
        ("a.ply", ASCII_PLY.format(faces=10**9, rows="3 0 1 2\n"), "cut short"),
        ("a.ply", ASCII_PLY.format(faces=1, rows="-3 0 1 2\n"), "cut short"),
        ("a.ply", HEADER.format("ascii") + "property float x\nend_header\n0 1 2 3\n", "without y"),
        ("a.ply", HEADER.format("utf") + "property float x\nend_header\n", "damaged"),
        ("a.stl", "solid", "name an .obj or a .ply"),
    ],
)
def test_what_is_no_mesh_is_refused_by_name(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        read_surface(tmp_path / name)
    assert name in str(refused.value)


def test_points_are_enough_where_that_is_said(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\n")
    assert len(read_surface(tmp_path / "a.obj", points_suffice=True).faces) == 0
    with pytest.raises(MissingFile):
        read_surface(tmp_path / "b.obj")


def test_damage_never_ends_in_anything_but_one_line(tmp_path):
    rng = np.random.default_rng(0)
    whole = {
        "a.ply": ply(SQUARE, FAN, "x"),
        "b.ply": ASCII_PLY.format(faces=1, rows="4 0 1 2 3\n").encode(),
        "c.obj": OBJ["slashes"].encode(),
    }
    refused = 0
    for name, content in whole.items():
        for _ in range(150):
            changed = np.frombuffer(content, np.uint8).copy()
            changed[rng.integers(len(changed), size=3)] = rng.integers(256, size=3)
            (tmp_path / name).write_bytes(changed.tobytes())
            try:
                read_surface(tmp_path / name)
            except UserError:
                refused += 1
    assert 0 < refused < 450


def test_points_of_three_formats(tmp_path):
    points = np.arange(21).reshape(7, 3) / 8
    np.save(tmp_path / "a.npy", points[None])
    np.savetxt(tmp_path / "a.txt", points)
    rows = "".join(
        f'  <point name="{i}" x="{x}" active="1" z="{z}"\n y="{y}"/>'
        for i, (x, y, z) in enumerate(points)
    )
    (tmp_path / "a.pp").write_text(f"<!DOCTYPE PickedPoints>\n<PickedPoints>{rows}</PickedPoints>")
    for name in ("a.npy", "a.txt", "a.pp"):
        np.testing.assert_allclose(read_points(tmp_path / name, 7), points)
    np.save(tmp_path / "two.npy", np.stack([points, points]))
    with pytest.raises(UserError, match=r"two.npy holds no landmarks .*\(2, 7, 3\)"):
        read_points(tmp_path / "two.npy", 7)
    with pytest.raises(UserError, match="holds 7 landmarks, where 5 are needed"):
        read_points(tmp_path / "a.txt", 5)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "1 2 3\n4 5\n6 7 8\n", "no landmarks"),
        ("a.txt", "1 2 3\n4 5 6\n", "at least 3"),
        ("a.txt", "1 2 3\n4 5 6\n7 8 inf\n", "not finite"),
        ("a.pp", '<point x="1" y="2"/>', "no landmarks"),
        ("a.pp", '<point x="1" y="2" z="3" active="0" name="nose"/>', "'nose' was never set"),
        ("a.npy", "x", "damaged"),
        ("a.csv", "1 2 3", r"name a \.pp"),
    ],
)
def test_what_holds_no_points_is_refused(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_points(tmp_path / name)
