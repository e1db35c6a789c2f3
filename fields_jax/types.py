"""The data that passes between the parts: frozen pytrees, batch dimensions leading.

Shape letters: B batch, V vertices, F faces, J joints, S shape and E expression components,
H and W image rows and columns, N landmarks.
"""

from __future__ import annotations

from typing import Any

from flax import struct
from jaxtyping import Array, Bool, Float, Int

PyTree = Any

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")  # FLAME's, in its order
# What a triangle of a head belongs to, in the order of `FlameModel.face_parts`.
PARTS = ("skin", "eyes", "teeth", "gums", "lashes", "other")


@struct.dataclass
class FlameCoefficients:
    """What the encoders predict and FLAME consumes.

    Attributes:
      shape: [B, <=S] identity, in standard deviations.
      expression: [B, <=E] expression, in standard deviations.
      jaw: [B, 3] axis-angle, radians; x opens the mouth.
      eyelid: [B, 2] (left, right) in [0, 1]; 1 closes the eye.
      pose: [B, 3] global axis-angle, radians.
      camera: [B, 3] (scale, tx, ty) of the weak-perspective camera; tx and ty in metres.
      neck: [B, 3] axis-angle, or None for no rotation (the encoders never predict it).
      eyes: [B, 6] axis-angle of the left, then the right eye, or None.
    """

    shape: Float[Array, "B S"]
    expression: Float[Array, "B E"]
    jaw: Float[Array, "B 3"]
    eyelid: Float[Array, "B 2"]
    pose: Float[Array, "B 3"]
    camera: Float[Array, "B 3"]
    neck: Float[Array, "B 3"] | None = None
    eyes: Float[Array, "B 6"] | None = None


@struct.dataclass
class LandmarkEmbedding:
    """Points on the mesh: a triangle and a barycentric triple each.

    Attributes:
      face_index: [..., N] row of `FlameModel.faces`.
      barycentric: [..., N, 3] weights of the triangle's vertices; they sum to 1.
    """

    face_index: Int[Array, "*R N"]
    barycentric: Float[Array, "*R N 3"]


@struct.dataclass
class CoefficientPrior:
    """What is known of a group of K coefficients before any image is seen.

    Attributes:
      mean, deviation: [K] of a Gaussian, in the coefficients' own unit.
      lower, upper: [K] bounds, infinite where there is none; equal ones hold a coefficient still.
    """

    mean: Float[Array, " K"]
    deviation: Float[Array, " K"]
    lower: Float[Array, " K"]
    upper: Float[Array, " K"]


@struct.dataclass(kw_only=True)
class FlameModel:
    """A head in FLAME's schema. Metres; x to the subject's left, y up, z out of the face.

    It says itself what differs between heads: which joints it has, what its coefficients may be,
    which of its triangles are skin. Code that poses, fits, draws or trains asks it.

    Attributes:
      template: [V, 3] mean head at rest.
      shape_basis: [V, 3, S] displacement per unit of each shape coefficient.
      expression_basis: [V, 3, E] displacement per unit of each expression coefficient.
      pose_basis: [V, 3, 9 (J - 1)] displacement per entry of (R_j - I), joints after the root in
        row-major order; [V, 3, 0] for a head without pose correctives.
      joint_regressor: [J, V] joints from shaped vertices.
      skin_weights: [V, J] rows sum to 1.
      eyelid_basis: [2, V, 3] offsets that close the (left, right) eye.
      faces: [F, 3] vertex indices, counter-clockwise seen from outside.
      face_parts: [F] rows of `PARTS`.
      materials: [F] rows of `material_names`, or None for one material a part.
      static_51: landmarks 17..67 of the 68-point scheme.
      contour: [79, 17] landmarks 0..16 by head yaw in degrees: rows 0..39, then -1..-39.
      static_68: all 68 points with the frontal contour.
      landmarks_105: mediapipe points; `mediapipe_index` holds their rows among mediapipe's 478.
      landmarks_203: dense points of the 203-point scheme.
      mediapipe_index: [105] indices into mediapipe's 478 points.
      front_203, left_203, right_203: [203] membership of the pose-dependent subsets.
      face_vertices: [K] sorted vertices of the face mask: its skin, no eyeballs, ears or neck.
      face_triangles: [T, 3] faces wholly inside the mask, as rows of `face_vertices`.
      uv: [U, 2] texture coordinates in [0, 1], v up.
      uv_faces: [F, 3] rows of `uv` for each corner of each face.
      regions: named vertex index sets, "face" among them.
      expression_templates: [M, E] expressions people make, or None; the cycle draws from them.
      arkit_basis: [V, 3, 52] displacement of the neutral head at weight 1 of each of ARKit's
        shapes (`fields_jax.arkit.NAMES`), or None.
      priors: of "shape" [S], "expression" [E], "jaw" [3] and "eyelid" [2].
      parents: parent of each joint, -1 for the root.
      joint_names: what each joint is; `JOINTS` lists the roles. The first is the root, any other
        may be missing: rotations of a joint that the head lacks move nothing.
      expression_names: names of the leading expression components, where they have one.
      material_names: as the head's source calls them.
      name, version, sha256: which head this is; written into every output made with it.
    """

    template: Float[Array, "V 3"]
    shape_basis: Float[Array, "V 3 S"]
    expression_basis: Float[Array, "V 3 E"]
    pose_basis: Float[Array, "V 3 P"]
    joint_regressor: Float[Array, "J V"]
    skin_weights: Float[Array, "V J"]
    eyelid_basis: Float[Array, "2 V 3"]
    faces: Int[Array, "F 3"]
    face_parts: Int[Array, " F"]
    materials: Int[Array, " F"] | None = None
    static_51: LandmarkEmbedding
    contour: LandmarkEmbedding
    static_68: LandmarkEmbedding
    landmarks_105: LandmarkEmbedding
    landmarks_203: LandmarkEmbedding
    mediapipe_index: Int[Array, "105"]
    front_203: Bool[Array, "203"]
    left_203: Bool[Array, "203"]
    right_203: Bool[Array, "203"]
    face_vertices: Int[Array, " K"]
    face_triangles: Int[Array, "T 3"]
    uv: Float[Array, "U 2"]
    uv_faces: Int[Array, "F 3"]
    regions: dict[str, Int[Array, " R"]]
    expression_templates: Float[Array, "M E"] | None
    arkit_basis: Float[Array, "V 3 52"] | None = None
    priors: dict[str, CoefficientPrior]
    parents: tuple[int, ...] = struct.field(pytree_node=False)
    joint_names: tuple[str, ...] = struct.field(pytree_node=False, default=JOINTS)
    expression_names: tuple[str, ...] = struct.field(pytree_node=False)
    material_names: tuple[str, ...] = struct.field(pytree_node=False, default=())
    name: str = struct.field(pytree_node=False)
    version: str = struct.field(pytree_node=False)
    sha256: str = struct.field(pytree_node=False)

    @property
    def identity(self) -> dict[str, str]:
        """What tells the head from others, ready for JSON."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    def joint(self, role: str) -> int | None:
        """The row of a joint by its role in `JOINTS`, or None if the head lacks it."""
        return self.joint_names.index(role) if role in self.joint_names else None


@struct.dataclass
class FlameOutput:
    """A posed head, in metres, before the camera.

    Attributes:
      vertices: [B, V, 3].
      joints: [B, J, 3] posed joint positions.
      landmarks_68: [B, 68, 3] contour chosen by head yaw, then the 51 static points.
      landmarks_68_static: [B, 68, 3] contour of the frontal view.
      landmarks_105: [B, 105, 3].
      landmarks_203: [B, 203, 3].
    """

    vertices: Float[Array, "B V 3"]
    joints: Float[Array, "B J 3"]
    landmarks_68: Float[Array, "B 68 3"]
    landmarks_68_static: Float[Array, "B 68 3"]
    landmarks_105: Float[Array, "B 105 3"]
    landmarks_203: Float[Array, "B 203 3"]


@struct.dataclass
class Fragments:
    """What the rasteriser found at each pixel.

    Attributes:
      face_index: [B, H, W] int32 row of `faces`, -1 where no face covers the pixel centre.
      barycentric: [B, H, W, 3] weights of the face's vertices; 0 where empty.
      depth: [B, H, W] interpolated z, smaller is nearer; 0 where empty.
      passes: [B] int32 work passes the image took (1 unless the job budget overflowed).
    """

    face_index: Int[Array, "B H W"]
    barycentric: Float[Array, "B H W 3"]
    depth: Float[Array, "B H W"]
    passes: Int[Array, " B"]


@struct.dataclass
class FieldsOutput:
    """The networks' output for an image.

    Attributes:
      coefficients: FLAME coefficients and camera.
      tokens: [B, 4, D] appearance tokens, coarsest first.
      logits: [B, 8] emotion classes in AffectNet's order (neutral, happy, sad, surprise, fear,
        disgust, anger, contempt).
      valence: [B] about -1 to 1.
      arousal: [B] about -1 to 1.
    """

    coefficients: FlameCoefficients
    tokens: Float[Array, "B 4 D"]
    logits: Float[Array, "B 8"]
    valence: Float[Array, " B"]
    arousal: Float[Array, " B"]


@struct.dataclass
class TrainState:
    """The state of a run, without a device axis: what a step maps to its successor.

    Attributes:
      step: iterations done, int32 scalar.
      params: {network: parameters}.
      batch_stats: {network: batch statistics}.
      opt_state: {network: optimiser state}; one per network for the whole run, so that a network
        keeps its moments through phases and turns in which it is frozen.
      base: the frozen base model's {"params", "batch_stats"} of its two networks, or None.
      bad_steps: non-finite steps in a row, int32 scalar.
      ema: {network: running mean of its parameters}, or None.
    """

    step: Int[Array, ""]
    params: dict[str, PyTree]
    batch_stats: dict[str, PyTree]
    opt_state: dict[str, PyTree]
    base: dict[str, PyTree] | None
    bad_steps: Int[Array, ""]
    ema: dict[str, PyTree] | None = None
