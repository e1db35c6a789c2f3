"""What the numbers of a report say and do not say, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from fields_jax.report.runs import Run

_EMBEDDED = "synthetic/"  # names of the generated sets begin so
_PROCEDURAL = "procedural"  # and so does the name of the generated head


def findings(runs: Sequence[Run]) -> list[str]:
    """What the numbers say, in sentences."""
    last, said = runs[-1], []
    error = last.scores["expression_error_mm"]
    zero = last.scores["zero_expression_error_mm"]
    if error is not None:
        share = 100 * (1 - error / zero) if zero else 0.0
        compared = f"{abs(share):.0f} % {'less' if share >= 0 else 'more'}"
        said.append(
            f"On held-out faces {last.name.lower()} misses the true expression by {error:.2f} mm, "
            f"averaged over the face: {compared} than a model that never sees any expression "
            f"({zero:.2f} mm)."
        )
    if len(runs) > 1 and error is not None:
        before = runs[0].scores["expression_error_mm"]
        change = "lowers" if error < before else "raises"
        said.append(
            f"{runs[0].name} learnt from landmarks only. {last.name}, with direct 3D supervision "
            f"and the emotion loss, {change} the error from {before:.2f} to {error:.2f} mm."
        )
    slopes = [(run, run.scores["expression"]["calibration"]["slope"]) for run in runs]
    if all(slope is not None for _, slope in slopes):
        told = " and ".join(f"{slope:.2f} in {run.name.lower()}" for run, slope in slopes)
        said.append(
            f"The slope of predicted against true intensity is {told}: 1 would be faithful, below "
            "1 understates strong expressions, above 1 exaggerates them."
        )
    if last.reads_emotion and last.scores["accuracy"] is not None:
        said.append(
            "The emotion head, which sees only the expression and shape coefficients, names the "
            f"class of {100 * last.scores['accuracy']:.0f} % of the faces that carry one."
        )
    followed = (last.scores["swap"] or {}).get("paint")
    if followed is not None:
        said.append(
            "Given the expression of another face and all else as it was, the synthesiser of "
            f"{last.name.lower()} moves its paint {100 * followed:.0f} % of the way that the mesh "
            "goes: 0 % would be a likeness painted whatever the mesh says."
        )
    return said


def limits(runs: Sequence[Run]) -> list[str]:
    """What the numbers do not say."""
    last = runs[-1].scores
    said = []
    if any(name.startswith(_EMBEDDED) for name in last["sources"]):
        said += [
            "The faces are generated. Nothing here is a statement about photographs, about "
            "AffectNet or BP4D, or about people.",
            "What each emotion looks like was chosen by us when the faces were generated, so class "
            "accuracy reflects the generator; only differences between training recipes carry "
            "meaning.",
            "Train and test faces come from one generator (with other subjects), and their true "
            "coefficients from the very head that is fitted: real scans and faces are harder.",
        ]
    if last["head"]["name"].startswith(_PROCEDURAL):
        said.append(
            "The head is a procedural stand-in in FLAME's schema, so millimetres are millimetres "
            "of that head, not of FLAME."
        )
    said += [
        "Only the abstract of FIELDS (arXiv 2511.21245) was available: loss weights, the emotion "
        "head and the form of the losses are our choice, and no number here is one of the paper's.",
        "Each run is one seed. The intervals come from resampling test subjects; they say nothing "
        "about how much another training run would differ.",
        "A good reconstruction is no evidence of good geometry: the synthesiser also sees "
        "appearance tokens. The expression error is the evidence, and the swapped geometry says "
        "how much the synthesiser goes by the mesh.",
        "The expression error compares the faces on the true identity and leaves identity, pose "
        "and camera out; where the identity is not labelled, the mean head stands for it.",
    ]
    if len(runs) > 1:
        said.append(
            f"{runs[-1].name} differs from {runs[0].name.lower()} in more than its losses, also in "
            "the amount of training; what each loss contributes would take an ablation."
        )
    untrained = [run.name for run in runs if not run.reads_emotion]
    if untrained:
        said.append(f"{' and '.join(untrained)} trains no emotion head, so it has no such scores.")
    return said


def lead(runs: Sequence[Run]) -> str:
    """One sentence on the subject of the page."""
    generated = all(name.startswith(_EMBEDDED) for name in runs[-1].scores["sources"])
    faces = "embedded, generated faces" if generated else "held-out faces"
    names = " and ".join(run.name.lower() for run in runs)
    return f"Training {names} and what came of it, measured on {faces} that training never saw."


def duration(seconds: float) -> str:
    """Such as "8 min" or "3 h 20 min"."""
    minutes = max(round(seconds / 60), 1)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
