"""The procedural head: mesh, rig, components, landmarks, checked in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax import kept
from fields_jax.flame.procedural import procedural_head

EYES = {"left": 3, "right": 4}  # joints


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def vertices(head):
    return np.asarray(head.template, np.float64)


@pytest.fixture(scope="module")
def faces(head):
    return np.asarray(head.faces)


@pytest.fixture(scope="module")
def mirror(vertices):
    """The vertex at each vertex's mirror image (either of two where the lips touch)."""
    keys = list(map(tuple, np.round(vertices * 1e6).astype(np.int64).tolist()))
    found = {key: index for index, key in enumerate(keys)}
    return np.array([found[(-x, y, z)] for x, y, z in keys])


def half_edges(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def points_of(vertices, faces, embedding):
    corners = vertices[faces[np.asarray(embedding.face_index)]]
    return (corners * np.asarray(embedding.barycentric, np.float64)[..., None]).sum(-2)


def rotation(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def open_jaw(head, vertices, angle):
    """Linear blend skinning of the jaw alone, with its correctives."""
    turn = rotation(0, angle)
    feature = np.zeros(36)
    feature[9:18] = (turn - np.eye(3)).ravel()
    posed = vertices + np.asarray(head.pose_basis, np.float64) @ feature
    hinge = np.asarray(head.joint_regressor, np.float64)[2] @ vertices
    weight = np.asarray(head.skin_weights, np.float64)[:, 2:3]
    return posed + weight * ((posed - hinge) @ turn.T + hinge - posed)


def test_is_as_large_as_flame(head, vertices):
    assert 4700 <= len(vertices) <= 5300
    assert 9300 <= len(head.faces) <= 10600
    size = np.ptp(vertices, axis=0)
    assert 0.23 <= size[1] <= 0.28 and 0.14 <= size[0] <= 0.2 and 0.18 <= size[2] <= 0.23
    face = vertices[np.asarray(head.face_vertices)]
    assert np.abs((face.max(0) + face.min(0))[:2] / 2).max() < 0.03
    assert 1600 <= len(face) <= 2100
    triangles = np.asarray(head.face_triangles)
    assert triangles.max() < len(face)
    edges = half_edges(triangles)
    assert (
        0.003 <= np.median(np.linalg.norm(face[edges[:, 0]] - face[edges[:, 1]], axis=1)) <= 0.006
    )


def test_shapes_and_types(head, vertices):
    count = len(vertices)
    assert head.shape_basis.shape == (count, 3, 300)
    assert head.expression_basis.shape == (count, 3, 100)
    assert head.pose_basis.shape == (count, 3, 36)
    assert head.eyelid_basis.shape == (2, count, 3)
    assert head.contour.face_index.shape == (79, 17)
    assert head.parents == (-1, 0, 1, 1, 1)
    assert head.template.dtype == np.float32 and head.faces.dtype == np.int32
    for name, index in head.regions.items():
        assert len(index) and np.min(index) >= 0 and np.max(index) < count, name
        assert (np.diff(index) > 0).all(), name


def test_is_a_manifold_with_three_openings(head, faces, vertices):
    directed = half_edges(faces)
    assert len(np.unique(directed, axis=0)) == len(directed)  # consistent winding
    edges, uses = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    assert set(uses) == {1, 2}
    # Skin: a sphere with three holes (two eyes, the neck), -1; two eyeballs, 2 each.
    assert len(vertices) - len(edges) + len(faces) == 3
    rim = np.unique(edges[uses == 1])
    assert len(rim) == (uses == 1).sum()  # closed loops
    np.testing.assert_array_equal(
        np.intersect1d(rim, np.asarray(head.regions["boundary"])), head.regions["boundary"]
    )
    assert len(np.unique(faces)) == len(vertices)


def test_winds_outwards(faces, vertices):
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    normal = np.cross(b - a, c - a)
    assert np.linalg.norm(normal, axis=1).min() > 1e-9
    litres = (a * normal).sum() / 6 * 1e3
    assert 2.5 < litres < 5  # the neck is open, which loses little
    tip = np.argmax(vertices[:, 2])
    assert normal[(faces == tip).any(1), 2].min() > 0


def test_mirror_symmetric(head, vertices, mirror, faces):
    np.testing.assert_allclose(vertices[mirror], vertices * [-1, 1, 1], atol=1e-9)
    flipped = np.sort(mirror[faces], axis=1)
    ours = {tuple(face) for face in np.sort(faces, axis=1).tolist()}
    known = np.mean([tuple(face) in ours for face in flipped.tolist()])
    assert known > 0.98  # but for the slit, where two vertices share a place
    lids = np.asarray(head.eyelid_basis, np.float64)
    np.testing.assert_allclose(lids[0][mirror] * [-1, 1, 1], lids[1], atol=1e-9)


def test_skin_weights(head, vertices):
    weights = np.asarray(head.skin_weights, np.float64)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert weights.min() >= 0
    for side, joint in EYES.items():
        ball = np.asarray(head.regions[f"{side}_eyeball"])
        np.testing.assert_array_equal(weights[ball], np.eye(5)[[joint] * len(ball)])
    chin = np.argmin(np.linalg.norm(vertices - [0, -0.082, 0.065], axis=1))
    nose = np.argmax(vertices[:, 2])
    assert weights[chin, 2] > 0.97 and weights[nose, 2] < 0.03
    assert weights[np.asarray(head.regions["boundary"]), 0].min() > 0.99


def test_joints(head, vertices):
    regressor = np.asarray(head.joint_regressor, np.float64)
    np.testing.assert_allclose(regressor.sum(1), 1, atol=1e-5)
    rng = np.random.default_rng(0)
    basis = np.asarray(head.shape_basis, np.float64)
    for shape in (np.zeros(300), rng.normal(size=300)):
        shaped = vertices + basis @ shape
        joints = regressor @ shaped
        for side, joint in EYES.items():
            ball = shaped[np.asarray(head.regions[f"{side}_eyeball"])]
            # Eyeballs stay spheres about their joints.
            radius = np.linalg.norm(ball - joints[joint], axis=1)
            assert np.ptp(radius) < 1e-6
            assert 0.009 < radius.mean() < 0.016
    hinge = regressor[2] @ vertices
    ear = vertices[np.asarray(head.regions["left_ear"])].mean(0)
    assert abs(hinge[0]) < 1e-6 and np.linalg.norm((hinge - ear)[1:]) < 0.03


def test_named_components_move_a_side_alone(head, vertices):
    basis = np.asarray(head.expression_basis, np.float64)
    size = np.linalg.norm(basis, axis=1)  # [V, 100]
    names = head.expression_names
    assert 28 <= len(names) <= 50 and len(set(names)) == len(names)
    peaks = size.max(0)
    assert (peaks[: len(names)] >= 1e-3).all() and (peaks[: len(names)] <= 5e-3).all()
    assert (np.diff(peaks[len(names) :]) < 1e-9).all() and peaks[-1] <= 1e-4
    # The sides blend over 8 mm on either side of the midline.
    right = vertices[:, 0] < -0.008
    left = vertices[:, 0] > 0.008
    for index, name in enumerate(names):
        if name.endswith("_left"):
            assert size[right, index].max() < 0.1 * peaks[index], name
            assert names[index + 1] == name.replace("_left", "_right")
            assert size[left, index + 1].max() < 0.1 * peaks[index + 1], name


def test_both_sides_add_up_to_a_symmetric_movement(head, mirror):
    basis = np.asarray(head.expression_basis, np.float64)
    parting = ("lip_press", "upper_lip_raise", "lower_lip_down")  # twins at the slit share a place
    for index, name in enumerate(head.expression_names):
        if name.endswith("_left") and not name.startswith(parting) and "aside" not in name:
            both = basis[..., index] + basis[..., index + 1]
            np.testing.assert_allclose(both[mirror], both * [-1, 1, 1], atol=1e-7, err_msg=name)


def test_movements_go_the_right_way(head, vertices, faces):
    basis = np.asarray(head.expression_basis, np.float64)
    points = points_of(vertices, faces, head.static_68)

    def moved(name, landmark):
        index = head.expression_names.index(name)
        return (points_of(vertices + basis[..., index], faces, head.static_68) - points)[landmark]

    assert moved("lip_corner_up_left", 54)[1] > 1.5e-3
    assert moved("lip_corner_down_left", 54)[1] < -1.5e-3
    assert moved("lip_stretch_left", 54)[0] > 1.5e-3
    assert moved("lip_stretch_right", 48)[0] < -1.5e-3
    assert moved("lip_pucker_left", 54)[0] < -1.5e-3
    assert moved("brow_inner_up_left", 22)[1] > 1.5e-3
    assert moved("brow_outer_up_right", 18)[1] > 1.5e-3
    assert moved("brow_down_left", 23)[1] < -1e-3
    assert moved("lid_raise_left", 43)[1] > 0.5e-3
    assert moved("lid_tighten_left", 47)[1] > 0.3e-3
    assert moved("upper_lip_raise_left", 52)[1] > 1e-3
    assert moved("lower_lip_down_left", 56)[1] < -1e-3
    assert moved("nose_wrinkle_left", 35)[1] > 0.5e-3
    assert moved("chin_raise", 57)[1] > 1e-3


def test_shape_components(head):
    peaks = np.linalg.norm(np.asarray(head.shape_basis, np.float64), axis=1).max(0)
    assert peaks[:26].min() > 0.7e-3 and peaks[:26].max() < 5e-3
    assert peaks[-50:].max() < 5e-4
    rest = peaks[-190:]  # noise
    assert (np.diff(rest) < 1e-9).all() and rest.min() > 0


def test_jaw_opens_the_mouth_alone(head, vertices, faces):
    rest = points_of(vertices, faces, head.static_68)
    posed = points_of(open_jaw(head, vertices, 0.3), faces, head.static_68)
    gap = np.linalg.norm(rest[62] - rest[66])
    assert gap < 5e-4  # the lips touch
    assert np.linalg.norm(posed[62] - posed[66]) - gap > 8e-3
    moved = posed - rest
    assert moved[8, 1] < -0.015 and moved[8, 2] < -0.005  # chin goes down and back
    assert np.abs(moved[[*range(17, 36), 51, 62]]).max() < 1e-3
    corrective = np.asarray(head.pose_basis, np.float64) @ np.concatenate(
        [np.zeros(9), (rotation(0, 0.3) - np.eye(3)).ravel(), np.zeros(18)]
    )
    assert 1e-4 < np.linalg.norm(corrective, axis=1).max() < 1.5e-3


@pytest.mark.parametrize("side", [0, 1])
def test_lids_close_and_never_pierce_the_eyeball(head, vertices, faces, side):
    name = ("left", "right")[side]
    ball = vertices[np.asarray(head.regions[f"{name}_eyeball"])]
    centre = (ball.max(0) + ball.min(0)) / 2
    radius = np.linalg.norm(ball - centre, axis=1).max()
    offsets = np.asarray(head.eyelid_basis, np.float64)[side]
    lids = np.setdiff1d(head.regions[f"{name}_eye_region"], head.regions[f"{name}_eyeball"])
    assert np.linalg.norm(offsets, axis=1)[lids].max() > 5e-3
    still = np.setdiff1d(np.arange(len(vertices)), lids)
    assert np.abs(offsets[still]).max() == 0
    inside = np.isin(faces, lids).all(1)
    mixes = np.random.default_rng(0).dirichlet([1, 1, 1], 12)
    for amount in (0, 0.25, 0.5, 0.75, 1):
        moved = vertices + amount * offsets
        assert np.linalg.norm(moved[lids] - centre, axis=1).min() >= radius
        surface = np.einsum("sk,fkd->sfd", mixes, moved[faces[inside]])
        assert np.linalg.norm(surface - centre, axis=-1).min() >= radius
    # Upper and lower lid of the dense scheme: 24 points around each eye, corners at 0 and 12.
    start = 24 if name == "left" else 0
    ring = np.arange(24)
    upper, lower = start + ring[1:12], start + ring[:12:-1]
    for amount, test in ((0, lambda gap: gap.max() >= 6e-3), (1, lambda gap: gap.max() < 5e-4)):
        points = points_of(vertices + amount * offsets, faces, head.landmarks_203)
        assert test(np.linalg.norm(points[upper] - points[lower], axis=1))


def test_static_68_is_laid_out_anatomically(head, vertices, faces):
    points = points_of(vertices, faces, head.static_68)
    inner = points_of(vertices, faces, head.static_51)
    np.testing.assert_allclose(points[17:], inner, atol=1e-8)
    pairs = [(i, 16 - i) for i in range(8)] + [(17 + i, 26 - i) for i in range(5)]
    pairs += [(31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    for right, left in pairs:
        np.testing.assert_allclose(points[right] * [-1, 1, 1], points[left], atol=1e-7)
        assert points[right, 0] < 0 < points[left, 0]
    assert np.abs(points[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66], 0]).max() < 1e-7
    assert (np.diff(points[17:27, 0]) > 0).all() and (np.diff(points[27:31, 1]) < 0).all()
    assert (np.diff(points[31:36, 0]) > 0).all() and (np.diff(points[48:55, 0]) > 0).all()
    assert (np.diff(points[:9, 1]) < 0).all() and (np.diff(points[:17, 0]) > 0).all()
    heights = points[[24, 43, 46, 30, 33, 51, 62, 57, 8], 1]
    assert (np.diff(heights) < 0).all()


def test_barycentric_weights(head):
    for name in ("static_51", "contour", "static_68", "landmarks_105", "landmarks_203"):
        weights = np.asarray(getattr(head, name).barycentric)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
        assert weights.min() >= -1e-6


@pytest.mark.parametrize("yaw", [-39, -20, 0, 20, 39])
def test_contour_is_seen_and_near_the_outline(head, vertices, faces, yaw):
    turned = vertices @ rotation(1, np.radians(yaw)).T
    row = yaw if yaw >= 0 else 39 - yaw
    points = points_of(turned, faces, head.contour)[row]
    # Around the face: down the image's left side, along the chin, up its right side.
    centre = np.array([turned[np.asarray(head.face_vertices), 0].mean(), -0.02])
    angle = np.unwrap(np.arctan2(*(points[:, :2] - centre).T))
    assert (np.diff(angle) < 0).all()
    near = turned[faces]
    a, b, c = np.moveaxis(near[..., :2], 1, 0)
    for point in points:
        one, two, offset = b - a, c - a, point[:2] - a
        area = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
        v = (offset[:, 0] * two[:, 1] - offset[:, 1] * two[:, 0]) / area
        w = (one[:, 0] * offset[:, 1] - one[:, 1] * offset[:, 0]) / area
        covers = (v > -1e-9) & (w > -1e-9) & (v + w < 1 + 1e-9)
        depth = np.einsum("fk,fk->f", np.stack([1 - v - w, v, w], 1)[covers], near[covers, :, 2])
        assert depth.max() < point[2] + 2e-3
    # On the side that turns away, the outline lies within 6 mm of the edge of the head's image.
    side = np.sign(yaw)
    skin = np.setdiff1d(np.arange(len(vertices)), head.regions["neck"])
    for point in points[10:15] if side > 0 else points[2:7] if side < 0 else []:
        level = skin[np.abs(turned[skin, 1] - point[1]) < 4e-3]
        front = level[vertices[level, 2] > -0.01]
        assert side * (turned[front, 0] * side).max() - point[0] < 6e-3


def test_105_follow_mediapipe(head, vertices, faces):
    index = np.asarray(head.mediapipe_index)
    assert len(np.unique(index)) == 105 and index[0] == 276 and index[-1] == 415
    points = dict(zip(index.tolist(), points_of(vertices, faces, head.landmarks_105), strict=True))
    # Mirrored pairs of mediapipe's mesh.
    pairs = [(276, 46), (300, 70), (336, 107), (285, 55), (362, 133), (263, 33), (386, 159)]
    pairs += [(374, 145), (358, 129), (327, 98), (291, 61), (308, 78), (267, 37), (314, 84)]
    pairs += [(312, 82), (317, 87), (409, 185), (375, 146), (398, 173), (466, 246), (249, 7)]
    for left, right in pairs:
        np.testing.assert_allclose(points[right] * [-1, 1, 1], points[left], atol=1e-7)
        assert points[left][0] > 0
    for k in (168, 6, 197, 195, 5, 4, 2, 0, 13, 14, 17):
        assert abs(points[k][0]) < 1e-7
    x = [points[k][0] for k in (362, 398, 384, 385, 386, 387, 388, 466, 263)]
    assert (np.diff(x) > 0).all()
    y = [points[k][1] for k in (334, 282, 386, 374, 4, 2, 0, 17)]
    assert (np.diff(y) < 0).all()
    assert np.linalg.norm(points[13] - points[14]) < 5e-4
    assert points[4][2] == max(point[2] for point in points.values())


def test_203_groups_and_subsets(head, vertices, faces):
    points = points_of(vertices, faces, head.landmarks_203)
    regressor = np.asarray(head.joint_regressor, np.float64)
    eyes = {side: regressor[joint] @ vertices for side, joint in EYES.items()}
    for start, side in ((0, "right"), (24, "left")):
        assert np.linalg.norm(points[start : start + 24] - eyes[side], axis=1).max() < 0.018
        assert points[start + 6, 1] > eyes[side][1] > points[start + 18, 1]
    assert points[0, 0] < points[12, 0] < points[24, 0] < points[36, 0]  # corners
    assert (np.diff(points[48:67, 0]) > 0).all() and (np.diff(points[66:84, 0]) < 0).all()
    assert (np.diff(points[84:97, 0]) > 0).all() and (np.diff(points[97:108, 0]) < 0).all()
    assert points[57, 1] > points[90, 1] >= points[102, 1] > points[75, 1]
    assert (np.diff(points[108:145, 0]) > 0).all() and points[108:145, 1].argmin() == 18
    np.testing.assert_allclose(points[108:145] * [-1, 1, 1], points[144:107:-1], atol=1e-7)
    assert points[145:165, 0].max() < 0 < points[165:185, 0].min()
    np.testing.assert_allclose(points[185:191] * [-1, 1, 1], points[196:190:-1], atol=1e-7)
    np.testing.assert_allclose(points[198] - eyes["left"], [0, 0, 0.012], atol=1e-4)
    assert (np.diff(points[199:203, 1]) < 0).all() and np.abs(points[199:203, 0]).max() < 1e-7
    counts = [int(np.sum(member)) for member in (head.front_203, head.left_203, head.right_203)]
    assert counts == [91, 96, 97]
    assert points[np.flatnonzero(head.left_203 & ~head.front_203), 0].min() > 0
    assert points[np.flatnonzero(head.right_203 & ~head.front_203), 0].max() < 0


def test_regions(head, vertices):
    regions = {name: set(np.asarray(index).tolist()) for name, index in head.regions.items()}
    assert regions["face"] == set(np.asarray(head.face_vertices).tolist())
    for other in ("left_eyeball", "right_eyeball", "left_ear", "right_ear", "neck", "scalp"):
        assert not regions["face"] & regions[other], other
    for part in ("nose", "lips", "forehead", "left_brow", "right_eye_region"):
        assert regions[part] <= regions["face"], part
    assert regions["boundary"] <= regions["neck"]
    parts = ("face", "left_eyeball", "right_eyeball", "left_ear", "right_ear", "neck", "scalp")
    named = set().union(*(regions[part] for part in parts)) | regions["mouth_interior"]
    assert len(named) == len(vertices)


def test_texture(head, faces, vertices):
    uv, uv_faces = np.asarray(head.uv, np.float64), np.asarray(head.uv_faces)
    assert uv.min() >= 0 and uv.max() <= 1 and uv_faces.max() == len(uv) - 1
    owner = np.full(len(uv), -1)
    owner[uv_faces.ravel()] = faces.ravel()
    np.testing.assert_array_equal(owner[uv_faces], faces)  # no coordinate serves two vertices
    assert np.ptp(uv[uv_faces], axis=1).max() < 0.4  # no triangle runs across the seam
    face = np.isin(faces, np.asarray(head.face_vertices)).all(1)
    a, b, c = np.moveaxis(uv[uv_faces[face]], 1, 0)
    area = np.cross(np.pad(b - a, ((0, 0), (0, 1))), np.pad(c - a, ((0, 0), (0, 1))))[:, 2]
    assert (area > 0).mean() > 0.95


def test_templates(head):
    templates = np.asarray(head.expression_templates)
    assert templates.shape[1] == 100 and 20 <= len(templates) <= 40
    assert np.abs(templates).max() <= 3 and np.abs(templates).max(1).min() >= 1
    assert not templates[:, len(head.expression_names) :].any()


def test_deterministic(head, monkeypatch):
    monkeypatch.setattr(kept, "folder_in_use", lambda: None)  # made anew, not read
    procedural_head.cache_clear()
    again, other = procedural_head(), procedural_head(1)
    assert again.sha256 == head.sha256 != other.sha256
    np.testing.assert_array_equal(again.shape_basis, head.shape_basis)
    np.testing.assert_array_equal(other.template, head.template)
