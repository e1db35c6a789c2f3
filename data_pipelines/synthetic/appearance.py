"""What a subject looks like: skin, hair, eyes and lips as the linear colour of every vertex."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_pipelines.synthetic.surface import MOUTH_OPENNESS, TEETH_OPENNESS, Surface

# Colours in sRGB, 0 to 255, judged by eye (ours). Skin runs from light to dark.
_SKIN = np.array(
    [(247, 215, 195), (236, 193, 164), (216, 160, 124), (172, 116, 82), (122, 78, 54), (84, 54, 40)]
)
_HAIR = np.array(
    [(22, 18, 17), (44, 30, 23), (84, 54, 35), (176, 136, 82), (126, 58, 30), (150, 148, 146)]
)
_HAIR_SHARE = np.array([0.3, 0.25, 0.2, 0.12, 0.06, 0.07])
_IRIS = np.array([(60, 36, 22), (92, 62, 36), (86, 104, 60), (86, 124, 158), (108, 120, 128)])
_LIP = np.array([(196, 96, 96), (178, 76, 84), (150, 74, 70), (190, 54, 70)])
_SCLERA = np.array((236, 230, 224))
_MOUTH = np.array((66, 20, 20))
_TEETH = np.array((232, 226, 212))
_GUMS = np.array((150, 74, 78))  # and tongue
_TONGUE = np.array((214, 128, 124))
_LASH = np.array((30, 22, 20))
_RED = np.array((1.18, 0.86, 0.86))  # effect of blood on the colour of skin, factor per channel


class Appearance(NamedTuple):
    """A subject's look, constant over its images.

    Attributes:
      albedo: [V, 3] linear colour; within the mouth of wide faces it may exceed 1, where more
        light comes in than `Surface.openness` says.
      thickness: [V] metres of hair on top of the scalp.
      iris: [3] linear colour.
      pupil: radius, in radii of the eyeball.
      hair: [3] linear colour of hair that hangs down behind the face, or None.
      cloth: [3] linear colour of the clothes.
      relief: how dark hollows of the skin are.
      wrinkles: how dark the wrinkles of squeezed skin are.
    """

    albedo: Float[np.ndarray, "V 3"]
    thickness: Float[np.ndarray, " V"]
    iris: Float[np.ndarray, "3"]
    pupil: float
    hair: Float[np.ndarray, "3"] | None
    cloth: Float[np.ndarray, "3"]
    relief: float = 0.0
    wrinkles: float = 0.0


def linear(srgb: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Linear intensity of 8-bit sRGB colours (gamma 2.2)."""
    return (np.asarray(srgb) / 255.0) ** 2.2


def appearance(rng: np.random.Generator, surface: Surface) -> Appearance:
    """Draws a subject's look."""
    tone = rng.beta(1.1, 1.4) * (len(_SKIN) - 1)
    skin = _between(linear(_SKIN), tone) * rng.uniform(0.92, 1.08, 3)
    darkness = tone / (len(_SKIN) - 1)
    kind = 0 if darkness > 0.6 else rng.choice(len(_HAIR), p=_HAIR_SHARE)
    hair = linear(_HAIR[kind]) * rng.uniform(0.8, 1.2)
    iris = linear(_IRIS[rng.integers(2 if darkness > 0.4 else len(_IRIS))])
    lip = linear(_LIP[rng.integers(len(_LIP))]) * (1 - 0.55 * darkness)

    weight = surface.weight
    albedo = np.tile(skin, (len(surface.points), 1))
    albedo *= 1 + 0.05 * surface.noise(rng, "blotches")[:, None]
    freckles = np.clip(surface.noise(rng, "freckles") - 1.2, 0, 1) * rng.choice([0, 0.3])
    albedo *= 1 - (freckles * weight["blush"])[:, None]
    albedo *= _RED ** (rng.uniform(0.3, 1.3) * weight["blush"])[:, None]
    albedo = _mix(albedo, lip, rng.uniform(0.65, 0.95) * weight["lips"])
    if rng.random() < 0.35:
        albedo = _mix(albedo, hair * 0.6 + skin * 0.1, rng.uniform(0.1, 0.6) * weight["beard"])
    albedo = _mix(albedo, hair * 0.55, rng.uniform(0.65, 0.95) * weight["brows"])
    albedo = _mix(albedo, linear(_LASH), rng.uniform(0.5, 0.95) * weight["lashes"])

    bald = rng.random() < 0.08
    strands = 1 + 0.3 * surface.noise(rng, "strands")
    crown = np.zeros(len(albedo)) if bald else surface.hair(rng.uniform(-0.012, 0.010))
    albedo = _mix(albedo, hair * np.clip(strands, 0.3, 2)[:, None], crown)
    lumps = np.clip(1 + 0.35 * surface.noise(rng, "lumps"), 0.2, 2)

    inner = {"mouth": _MOUTH, "gums": _GUMS, "eyeballs": _SCLERA, "teeth": _TEETH}
    for name, colour in inner.items():
        albedo = _mix(albedo, linear(colour), weight[name])
    return Appearance(
        albedo=albedo.astype(np.float32),
        thickness=(rng.uniform(0.004, 0.022) * lumps * crown).astype(np.float32),
        iris=iris.astype(np.float32),
        pupil=float(rng.uniform(0.17, 0.28)),
        hair=hair if rng.random() < 0.4 and not bald else None,
        cloth=linear(rng.uniform(20, 200, 3)),
    )


def wide_appearance(rng: np.random.Generator, surface: Surface) -> Appearance:
    """Draws the look of a person in front of any camera: of any age, painted, bearded, dyed."""
    look = appearance(rng, surface)
    weight, points = surface.weight, surface.points
    skin = np.median(look.albedo[weight["blush"] > 0.2], axis=0)
    dark = linear(_HAIR[rng.integers(3)]) * rng.uniform(0.5, 1.1)
    hair = look.hair if look.hair is not None else dark
    if rng.random() < 0.06:
        hair = rng.uniform(0.01, 0.7, 3)
    on_skin = 1 - np.clip(sum(weight[n] for n in ("eyeballs", "mouth", "gums", "teeth")), 0, 1)
    albedo = look.albedo * (1 + rng.uniform(0, 0.12) * surface.noise(rng, "freckles")[:, None])
    albedo = albedo * (1 + rng.uniform(0, 0.12) * surface.noise(rng, "blotches")[:, None])
    if rng.random() < 0.3:  # lids: shadow, or the dark rings of a tired face
        painted = rng.uniform(0.01, 0.5, 3) if rng.random() < 0.5 else skin * rng.uniform(0.3, 0.7)
        albedo = _mix(albedo, painted, rng.uniform(0.2, 0.9) * weight["lids"])
    if rng.random() < 0.3:  # lids drawn dark
        albedo = _mix(albedo, linear(_LASH) * 0.4, np.minimum(1, 1.6 * weight["lashes"]))
    if rng.random() < 0.3:
        lip = rng.uniform(0, 1, 3) * (0.6, 0.12, 0.15) + (0.05, 0.005, 0.01)
        albedo = _mix(albedo, lip, rng.uniform(0.5, 1) * weight["lips"])
    elif rng.random() < 0.3:  # lips that hardly differ from the skin
        albedo = _mix(albedo, skin * rng.uniform(0.75, 1), rng.uniform(0.5, 1) * weight["lips"])
    if rng.random() < 0.5:
        tone = hair if rng.random() < 0.7 else skin * 0.5
        brows = np.clip(weight["brows"] * rng.uniform(0.5, 2.2), 0, 1)
        albedo = _mix(albedo, tone * rng.uniform(0.2, 0.8), rng.uniform(0.2, 1) * brows)
    if rng.random() < 0.35:
        albedo = _bearded(rng, albedo, hair * rng.uniform(0.3, 0.9), surface)
    for place in points[rng.integers(len(points), size=rng.poisson(1.5))]:  # moles
        near = np.exp(-((np.linalg.norm(points - place, axis=1) / rng.uniform(0.0015, 0.004)) ** 2))
        albedo = _mix(albedo, skin * rng.uniform(0.15, 0.5), near * on_skin)
    albedo = look.albedo + on_skin[:, None] * (albedo - look.albedo)
    return look._replace(
        albedo=_mouth_lit(rng, np.clip(albedo, 0.002, 1), surface).astype(np.float32),
        hair=hair if rng.random() < 0.6 else None,
        pupil=float(rng.uniform(0.15, 0.33)),
        relief=float(rng.uniform(0, 0.9)),
        wrinkles=float(rng.choice([0, rng.uniform(0, 0.9)], p=[0.3, 0.7])),
    )


def _mouth_lit(
    rng: np.random.Generator, albedo: Float[np.ndarray, "V 3"], surface: Surface
) -> Float[np.ndarray, "V 3"]:
    """An open mouth from a black hole to a pink tongue, with teeth from shadow to full light.

    Photographs of laughing people show little black; faces that always do teach that an open
    mouth is a dark one.
    """
    weight, points = surface.weight, surface.points
    middle = np.average(points[:, 1], weights=weight["lips"])
    tongue = rng.uniform(0, 1) * (1 / (1 + np.exp((points[:, 1] - middle) / 0.002)))
    tongue *= weight["mouth"]
    deep = rng.uniform(0.3, 1) * linear(_MOUTH)
    light = rng.beta(1.2, 1.8) * linear(_TONGUE) / MOUTH_OPENNESS
    inside = _mix(np.broadcast_to(deep, albedo.shape), light, tongue)
    albedo = _mix(albedo, inside, weight["mouth"])
    teeth = linear(_TEETH * rng.uniform((0.75, 0.72, 0.62), 1)) * rng.uniform(0.25, 0.95)
    return _mix(albedo, teeth / TEETH_OPENNESS, weight["teeth"])


def _bearded(
    rng: np.random.Generator,
    albedo: Float[np.ndarray, "V 3"],
    colour: Float[np.ndarray, "3"],
    surface: Surface,
) -> Float[np.ndarray, "V 3"]:
    """A beard, a moustache, a goatee or stubble."""
    weight, points = surface.weight, surface.points
    mouth = np.average(points, axis=0, weights=weight["lips"])
    kind = rng.integers(4)
    grown = weight["beard"].copy()
    if kind == 1:  # above the mouth alone
        grown *= points[:, 1] > mouth[1]
    elif kind == 2:  # about the chin
        grown *= np.exp(-(((points[:, 0] - mouth[0]) / 0.022) ** 4))
    thick = rng.uniform(0.05, 0.45) if kind == 3 else rng.uniform(0.5, 1)
    patchy = np.clip(1 + 0.4 * surface.noise(rng, "strands"), 0.2, 1.3)
    return _mix(albedo, colour, thick * grown * patchy)


def _between(colours: Float[np.ndarray, "N 3"], position: float) -> Float[np.ndarray, "3"]:
    """Linear interpolation in a list of colours."""
    low = int(min(position, len(colours) - 2))
    return colours[low] + (position - low) * (colours[low + 1] - colours[low])


def _mix(
    base: Float[np.ndarray, "V 3"], colour: np.ndarray, weight: Float[np.ndarray, " V"]
) -> Float[np.ndarray, "V 3"]:
    share = np.clip(weight, 0, 1)[:, None]
    return base * (1 - share) + colour * share
