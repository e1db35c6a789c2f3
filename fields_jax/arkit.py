"""ARKit's blend shapes: the names of its 52 face movements, in the order that we keep them."""

# The names of Apple's ARFaceAnchor.BlendShapeLocation, in the order of the columns that Apple's
# description and Live Link Face recordings have them. Left and right are the subject's own.
NAMES = (
    "eyeBlinkLeft",
    "eyeLookDownLeft",
    "eyeLookInLeft",
    "eyeLookOutLeft",
    "eyeLookUpLeft",
    "eyeSquintLeft",
    "eyeWideLeft",
    "eyeBlinkRight",
    "eyeLookDownRight",
    "eyeLookInRight",
    "eyeLookOutRight",
    "eyeLookUpRight",
    "eyeSquintRight",
    "eyeWideRight",
    "jawForward",
    "jawRight",
    "jawLeft",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthRight",
    "mouthLeft",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)


def own_name(name: str) -> str | None:
    """ARKit's name of a movement by this or by ICT-FaceKit's name; None for other movements.

    ICT writes _L and _R for sides, and has both sides of some movements that ARKit has as one.
    """
    whole = name.removesuffix("_L").removesuffix("_R")
    sided = whole + {"_L": "Left", "_R": "Right"}.get(name[-2:], "")
    return next((known for known in (name, whole, sided) if known in NAMES), None)
