"""How good a prediction is: of emotion (`affect`) and of geometry (`geometry`)."""

SCORES = "evaluation.json"  # of a workdir: every score, of all sets together and of each
PREDICTIONS = "predictions.npz"  # beside it: one row per example
FORMAT = 1  # of SCORES
EXAMPLES = 4  # of each set, stored whole in PREDICTIONS, for pictures
