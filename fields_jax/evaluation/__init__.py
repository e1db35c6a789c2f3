"""How good a prediction is, of emotion and of geometry; `registry` lists the metrics."""

SCORES = "evaluation.json"  # of a workdir: every score, of all sets together and of each
PREDICTIONS = "predictions.npz"  # beside it: one row per example
FORMAT = 1  # of SCORES
EXAMPLES = 4  # of each set, stored whole in PREDICTIONS, for pictures
