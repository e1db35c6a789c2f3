"""A face as a GLB: the head of the person at rest, what moves it, and the photograph's state.

All that a renderer needs is in one file: the mesh with its texture, joints with skin weights, morph
targets by name. The expression of the photograph is the default weights of the targets and the
rotations of the joints; its pose and camera are a node of their own, so that without them the
person looks along +z. docs/outputs.md lists what is where.

What glTF cannot do as FLAME does it: pose correctives are left out, joints stay where the neutral
person has them, and lids, which FLAME moves along fixed directions after all joints have turned,
turn with the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fields_jax.geometry.normals import summed_normals
from fields_jax.outputs.bundle import Bundle
from fields_jax.outputs.gltf import (
    INDICES,
    VERTICES,
    Channel,
    Document,
    continuous,
    quaternions,
    smallest_indices,
)
from fields_jax.outputs.morphs import State, choose_morphs, state_of, targets
from fields_jax.types import PARTS, FlameCoefficients, FlameModel

HEAD, POSE, CAMERA, CLIP = "head", "head_pose", "photograph_camera", "clip"
_UNLIT = "KHR_materials_unlit"
# Metres that a target may move a vertex by and still be stored as 0; all 52 of ARKit's together
# stay below 6 micrometres.
_STILL = 1e-7
_INFLUENCES = 4  # joints that move a vertex, at most: what every renderer takes
_CAMERA_DISTANCE = 2.0  # metres before the photograph's plane; nothing of it but clipping is seen


class Frames(NamedTuple):
    """A clip of the person of a bundle.

    Attributes:
      times: [T] seconds, increasing; the clip begins at the first.
      coefficients: T rows; the shape of the bundle's own face is taken for all of them, and cameras
        belong to the crop of the bundle (see `render.camera.reframe`).
    """

    times: Float[np.ndarray, " T"]
    coefficients: FlameCoefficients


class Person(NamedTuple):
    """A head with the shape of a person, neutral, as corners (vertex, texture coordinate).

    Attributes:
      rows: [N] the vertex of each corner.
      points: [N, 3] metres.
      normals: [N, 3] unit.
      uv: [N, 2] in [0, 1], v down.
      triangles: [F, 3] rows of the corners.
      joints: [J, 3] metres.
      middle: [3] of the face mask, metres.
    """

    rows: Int[np.ndarray, " N"]
    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"]
    uv: Float[np.ndarray, "N 2"]
    triangles: Int[np.ndarray, "F 3"]
    joints: Float[np.ndarray, "J 3"]
    middle: Float[np.ndarray, "3"]


def glb(bundle: Bundle, morphs: str = "", frames: Frames | None = None) -> bytes:
    """The content of a GLB.

    Args:
      bundle: the face. Its expression and pose are what the file shows at first.
      morphs: as of `choose_morphs`.
      frames: a clip of the same person, stored as an animation.

    Raises:
      UserError: the head has no such morph targets.
      ValueError: frames without times that increase, or with more or fewer expression components
        than the face.
    """
    head = bundle.head
    kind = choose_morphs(head, morphs)
    still = FlameCoefficients(
        **{name: np.asarray(value)[None] for name, value in bundle.result.coefficients.items()}
    )
    person = person_of(head, still.shape[0])
    state = state_of(head, kind, still)
    document = Document(f"fields_jax {bundle.meta['version']}")
    mesh = _mesh(document, bundle, person, kind, state.weights[0])
    joints = _joint_nodes(document, head, person, state.turns[0])
    pose = _Pose(head, person, still)
    turn, place = (values[0].tolist() for values in pose.of(still))
    posed = document.add("nodes", name=POSE, rotation=turn, translation=place, children=[joints[0]])
    skin = document.add(
        "skins",
        name=HEAD,
        skeleton=posed,
        joints=joints,
        inverseBindMatrices=document.accessor(_bind_matrices(person.joints)),
    )
    drawn = document.add("nodes", name=HEAD, mesh=mesh, skin=skin)
    camera = _camera(document, bundle)
    scene = document.add("scenes", name=bundle.face.name, nodes=[drawn, posed, camera])
    if frames is not None:
        moved = state_of(head, kind, frames.coefficients)
        if moved.weights.shape[1] != state.weights.shape[1]:
            raise ValueError("frames with other numbers of expression components than the face")
        channels = [Channel(drawn, "weights", moved.weights)]
        channels += [
            Channel(node, "rotation", continuous(quaternions(moved.turns[:, joint])))
            for joint, node in enumerate(joints)
            if moved.turns[:, joint].any() or state.turns[:, joint].any()
        ]
        turns, places = pose.of(frames.coefficients)
        channels += [
            Channel(posed, "rotation", continuous(turns)),
            Channel(posed, "translation", places),
        ]
        times = np.asarray(frames.times, np.float64)
        document.animation(CLIP, times - times[:1], channels)
    extensions = [] if bundle.texture is None else [_UNLIT]
    return document.pack(scene, extensions, _facts(bundle, kind, state))


def person_of(head: FlameModel, shape: Float[np.ndarray, " S"]) -> Person:
    """The neutral head of a person.

    Args:
      head: any.
      shape: of the person, in standard deviations.
    """
    faces, uv_faces = np.asarray(head.faces), np.asarray(head.uv_faces)
    basis = np.asarray(head.shape_basis)[..., : len(shape)]
    points = np.asarray(head.template) + basis @ np.asarray(shape, np.float32)
    normals = summed_normals(points, faces)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    # A vertex without faces has none: any unit vector will do, for nothing shows it.
    normals = np.where(length > 0, normals / np.maximum(length, 1e-30), (0.0, 0.0, 1.0))
    pairs = np.stack([faces.ravel(), uv_faces.ravel()], axis=1)
    corners, triangles = np.unique(pairs, axis=0, return_inverse=True)
    rows = corners[:, 0]
    mask = points[np.asarray(head.face_vertices)]
    return Person(
        rows=rows,
        points=points[rows].astype(np.float32),
        normals=normals[rows].astype(np.float32),
        uv=(np.asarray(head.uv)[corners[:, 1]] * (1, -1) + (0, 1)).astype(np.float32),
        triangles=triangles.reshape(-1, 3),
        joints=(np.asarray(head.joint_regressor) @ points).astype(np.float32),
        middle=(mask.min(axis=0) + mask.max(axis=0)) / 2,
    )


def _mesh(
    document: Document, bundle: Bundle, person: Person, kind: str, weights: np.ndarray
) -> int:
    """One mesh whose materials share vertices and morph targets."""
    head = bundle.head
    influences, shares = strongest(np.asarray(head.skin_weights)[person.rows])
    attributes = {
        "POSITION": document.accessor(person.points, VERTICES, bounds=True),
        "NORMAL": document.accessor(person.normals, VERTICES),
        "TEXCOORD_0": document.accessor(person.uv, VERTICES),
        "JOINTS_0": document.accessor(influences, VERTICES),
        "WEIGHTS_0": document.accessor(shares, VERTICES),
    }
    names, moves = [], []
    count = len(bundle.result.coefficients["expression"])
    for name, moved in targets(head, kind, count):
        still = np.abs(moved).max(axis=1, keepdims=True) < _STILL
        stored = np.where(still, 0, moved)[person.rows].astype(np.float32)
        names.append(name)
        moves.append({"POSITION": document.displacements(stored)})
    texture = _texture(document, bundle)
    primitives = [
        {
            "attributes": attributes,
            "indices": document.accessor(
                smallest_indices(person.triangles[chosen].ravel(), len(person.points)), INDICES
            ),
            "material": _material(document, name, texture),
            "targets": moves,
        }
        for name, chosen in _materials(head)
    ]
    return document.add(
        "meshes",
        name=HEAD,
        primitives=primitives,
        weights=weights.tolist(),
        extras={"targetNames": names, "morphs": kind},
    )


def _materials(head: FlameModel) -> Iterator[tuple[str, np.ndarray]]:
    """Names of the materials that triangles have, and which: the head's own, or its parts."""
    named = head.material_names if head.materials is not None else PARTS
    of_faces = np.asarray(head.face_parts if head.materials is None else head.materials)
    for row in np.unique(of_faces):
        yield named[row], of_faces == row


def _texture(document: Document, bundle: Bundle) -> int | None:
    if bundle.texture is None:
        return None
    image = document.image(bundle.texture.jpeg, "image/jpeg")
    sampler = document.add(
        "samplers", magFilter=9729, minFilter=9987, wrapS=33071, wrapT=33071
    )  # linear, between levels too; clamped at the edges
    return document.add("textures", source=image, sampler=sampler)


def _material(document: Document, name: str, texture: int | None) -> int:
    """Rough and not metallic; a photograph has its light in it, so that it is not lit again."""
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    if texture is None:
        surface["baseColorFactor"] = [0.7, 0.7, 0.7, 1.0]
    else:
        surface["baseColorTexture"] = {"index": texture}
    return document.add(
        "materials",
        name=name,
        pbrMetallicRoughness=surface,
        doubleSided=True,  # the neck is open
        extensions=None if texture is None else {_UNLIT: {}},
    )


def strongest(
    weights: Float[np.ndarray, "N J"],
) -> tuple[np.ndarray, Float[np.ndarray, "N 4"]]:
    """The four joints with the greatest weights, and these made to sum to 1.

    Returns:
      joints [N, 4] uint8, 0 where the weight is 0, and weights [N, 4] float32.
    """
    width = _INFLUENCES - weights.shape[1]
    if width > 0:
        weights = np.pad(weights, [(0, 0), (0, width)])
    order = np.argsort(-weights, axis=1, kind="stable")[:, :_INFLUENCES]
    shares = np.maximum(np.take_along_axis(weights, order, axis=1).astype(np.float64), 0)
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return np.where(shares > 0, order, 0).astype(np.uint8), shares


def _joint_nodes(
    document: Document, head: FlameModel, person: Person, turns: Float[np.ndarray, "J 3"]
) -> list[int]:
    """A node for each joint, in the head's order; children follow their parents."""
    nodes: list[int] = [0] * len(head.parents)
    joints = person.joints.astype(np.float64)
    for joint in reversed(range(len(nodes))):  # so that children have their indices
        parent = head.parents[joint]
        offset = joints[joint] - (joints[parent] if parent >= 0 else 0)
        children = [nodes[child] for child, its in enumerate(head.parents) if its == joint]
        turned = turns[joint].any()
        nodes[joint] = document.add(
            "nodes",
            name=head.joint_names[joint],
            translation=offset.tolist(),
            rotation=quaternions(turns[joint]).tolist() if turned else None,
            children=children or None,
        )
    return nodes


def _bind_matrices(joints: Float[np.ndarray, "J 3"]) -> Float[np.ndarray, "J 4 4"]:
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    matrices[:, :3, 3] = -joints
    return matrices


class _Pose:
    """Turns and places of the node `head_pose`: the head as the still camera sees it.

    The camera of the file is still and its frame has the scale of the photograph. A face whose own
    camera has another scale keeps its size and is moved to where it is seen.
    """

    def __init__(self, head: FlameModel, person: Person, still: FlameCoefficients) -> None:
        self._root, self._middle = person.joints[0].astype(np.float64), person.middle
        self._scale = float(still.camera[0, 0])

    def of(self, coefficients: FlameCoefficients) -> tuple[np.ndarray, np.ndarray]:
        """Quaternions [T, 4] and translations [T, 3] in metres."""
        pose = np.asarray(coefficients.pose, np.float64)
        camera = np.asarray(coefficients.camera, np.float64)
        # x -> R (x - root) + root, then the camera's shift.
        places = self._root - _turned(pose, self._root)
        middle = _turned(pose, self._middle) + places
        ratio = camera[:, :1] / self._scale
        shift = ratio * (middle[:, :2] + camera[:, 1:]) - middle[:, :2]
        return quaternions(pose), places + np.pad(shift, [(0, 0), (0, 1)])


def _turned(axis_angle: Float[np.ndarray, "T 3"], point: Float[np.ndarray, "3"]) -> np.ndarray:
    """[T, 3] a point after each of the rotations."""
    quaternion = quaternions(axis_angle)
    vector, real = quaternion[:, :3], quaternion[:, 3:]
    across = 2 * np.cross(vector, point)
    return point + real * across + np.cross(vector, across)


def _camera(document: Document, bundle: Bundle) -> int:
    """An orthographic camera whose frame is the whole photograph."""
    scale, matrix = float(bundle.result.coefficients["camera"][0]), bundle.matrix
    height, width = bundle.face.image.shape[:2]
    metres = 2 * float(matrix[0, 0]) / (bundle.size * scale)  # of a pixel of the photograph
    # Where the middle of the photograph is, in the crop's [-1, 1] and then in metres.
    middle = matrix[:2, :2] @ (width / 2, height / 2) + matrix[:2, 2]
    x, y = (2 * middle / bundle.size - 1) / scale
    lens = document.add(
        "cameras",
        name=CAMERA,
        type="orthographic",
        orthographic=dict(
            xmag=metres * width / 2, ymag=metres * height / 2, znear=0.1, zfar=2 * _CAMERA_DISTANCE
        ),
    )
    place = [float(x), -float(y), _CAMERA_DISTANCE]
    return document.add("nodes", name=CAMERA, camera=lens, translation=place)


def _facts(bundle: Bundle, kind: str, state: State) -> dict[str, Any]:
    """What a person should know of the file."""
    height, width = bundle.face.image.shape[:2]
    facts = {
        "comment": bundle.comment,
        "units": "metres; x to the subject's left, y up, z out of the face",
        "morphs": kind,
        "photograph": [width, height],
    }
    if state.error_mm is not None:
        facts["morphs_error_mm"] = round(float(state.error_mm[0]), 3)
    return facts
