"""ARKit's 52 movements, each once, in pairs."""

from __future__ import annotations

from fields_jax.arkit import NAMES


def test_there_are_52_names_and_every_left_one_has_a_right_one():
    assert len(NAMES) == len(set(NAMES)) == 52
    for name in NAMES:
        if name.endswith("Left"):
            assert name.removesuffix("Left") + "Right" in NAMES
    # Apple's groups in Apple's order: left eye, right eye, jaw, mouth, brows, cheeks, nose, tongue.
    first = ["eyeBlinkLeft", "eyeBlinkRight", "jawForward", "mouthClose", "browDownLeft"]
    assert [NAMES.index(name) for name in (*first, "cheekPuff", "noseSneerLeft")] == [
        *(0, 7, 14, 18, 41, 46, 49)
    ]
    assert NAMES[-1] == "tongueOut"
