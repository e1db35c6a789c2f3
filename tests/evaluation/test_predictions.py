"""Files of predictions: what they may hold, how they join, and what is refused in which words."""

import numpy as np
import pytest

from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError
from fields_jax.evaluation import prediction_scoring, predictions, recognition_files
from fields_jax.report import recognition as page
from tests.support.answers import make_answers, write_csv


@pytest.fixture
def columns():
    return make_answers(np.random.default_rng(0), 160, noise=1.5)


def score(*paths):
    """The scores with few draws, where intervals do not matter."""
    return prediction_scoring.score_files(*paths, samples=10)


def without(columns, *names):
    return {name: values for name, values in columns.items() if name not in names}


def test_a_file_is_read_as_written(columns, tmp_path):
    own = predictions.read_predictions(write_csv(tmp_path / "a.csv", columns))
    assert list(own.ids) == columns["id"]
    np.testing.assert_array_equal(own.axes["valence"], columns["valence"])
    np.testing.assert_allclose(own.probabilities.sum(1), 1)
    guess = np.stack([columns[f"p_{name}"] for name in EMOTIONS], 1).argmax(1)
    np.testing.assert_array_equal(own.emotion, guess)
    answers = predictions.answers(own, own)
    assert [EMOTIONS[index] for index in answers.emotion] == columns["true_emotion"]
    assert len(set(answers.groups)) == 8 and answers.folds is None


def test_names_ids_synonyms_and_empty_labels(tmp_path):
    columns = {
        "id": ["a", "b", "c", "d"],
        "emotion": ["Happiness", "7", "angry", "0"],
        "true_emotion": ["happy", "", "6.0", "Neutral"],
        "valence": ["0.1", "1.2", "-1", "0"],
        "true_valence": ["", "0.5", "-1", "0"],
    }
    own = predictions.read_predictions(write_csv(tmp_path / "a.csv", columns))
    answers = predictions.answers(own, own)
    np.testing.assert_array_equal(answers.predicted_emotion, [1, 7, 6, 0])
    np.testing.assert_array_equal(answers.emotion, [1, -1, 6, 0])
    np.testing.assert_array_equal(answers.axes["valence"][0], [np.nan, 0.5, -1, 0])
    assert predictions.clipped(own) == 1


def test_seven_probabilities_give_contempt_none(columns, tmp_path):
    seven = without(columns, "p_contempt")
    total = sum(seven[f"p_{name}"] for name in EMOTIONS[:7])
    seven |= {f"p_{name}": seven[f"p_{name}"] / total for name in EMOTIONS[:7]}
    own = predictions.read_predictions(write_csv(tmp_path / "a.csv", seven))
    assert (own.probabilities[:, 7] == 0).all() and own.emotion.max() < 7


def test_files_join_by_id_whatever_their_order(columns, tmp_path):
    first = write_csv(tmp_path / "first.csv", columns)
    order = np.random.default_rng(1).permutation(160)
    bare = without(columns, "true_valence", "true_arousal", "true_emotion", "subject")
    mixed = {name: np.asarray(values)[order] for name, values in bare.items()}
    second = write_csv(tmp_path / "second.csv", mixed)
    for pair in ((first, second), (second, first)):
        scores, _ = score(*pair)
        assert scores["resampled"] == "subject"
        one, other = scores["methods"].values()
        assert one == other
        difference = next(iter(scores["differences"].values()))
        assert set(difference["values"].values()) == {0.0}


def test_without_subjects_rows_are_resampled_and_that_is_said(columns, tmp_path):
    bare = without(columns, "subject", *(f"p_{name}" for name in EMOTIONS))
    bare["valence"] = np.where(np.arange(160) == 3, 1.5, bare["valence"])
    path = write_csv(tmp_path / "a.csv", bare | {"emotion": columns["true_emotion"]})
    scores, _ = score(path)
    assert scores["resampled"] == "row" and scores["methods"]["a"]["groups"] == 160
    said = " ".join(scores["notes"])
    assert "No column subject" in said and "contempt counts as wrong" in said
    assert "a: 1 predictions" in said


def test_a_network_may_be_far_off_once(columns, tmp_path):
    """As a probe without bounds is: clipped where it is scored, like any other."""
    far, near = (
        write_csv(tmp_path / f"{value}.csv", changed(columns, "valence", 4, value))
        for value in ("2.12", "1")
    )
    scores, _ = score(far, near)
    one, other = scores["methods"].values()
    assert one["values"]["valence.ccc"] == other["values"]["valence.ccc"]


def changed(columns, name, row, value):
    values = [str(each) for each in columns[name]]
    values[row] = value
    return columns | {name: values}


def one_at_fault(name, value):
    return lambda columns: changed(columns, name, 4, value)


MISTAKES = {
    "row 6: valence is -2, AffectNet's mark": one_at_fault("valence", "-2"),
    "row 6: true_valence is -5, Aff-Wild2's mark .* leave the cell empty": one_at_fault(
        "true_valence", "-5"
    ),
    r"row 6: true_arousal is 7, outside \[-1, 1\]: .* divide by 10": one_at_fault(
        "true_arousal", "7"
    ),
    r"row \d+: valence is .*, outside \[-1, 1\]: rescale": lambda columns: (
        columns | {"valence": 10 * np.asarray(columns["valence"])}
    ),
    "row 6: valence is '50%': write a fraction without the percent sign": one_at_fault(
        "valence", "50%"
    ),
    "row 6: p_sad is '3 %'": one_at_fault("p_sad", "3 %"),
    "row 6: valence is 'nan', not finite": one_at_fault("valence", "nan"),
    "row 6: valence is missing: predict": one_at_fault("valence", ""),
    "row 6: valence is '0,5', no number": one_at_fault("valence", "0,5"),
    "row 6: the id is missing": one_at_fault("id", ""),
    "row 6: id 'image 2' is that of row 4 too: keep one": one_at_fault("id", "image 2"),
    "row 6: the subject is missing": one_at_fault("subject", ""),
    "row 6: true_emotion is 'bored': known are neutral": one_at_fault("true_emotion", "bored"),
    "row 6: true_emotion is 8, AffectNet's None .* leave the cell empty": one_at_fault(
        "true_emotion", "8"
    ),
    "row 6: true_emotion is -1, no class": one_at_fault("true_emotion", "-1"),
    "row 6: true_emotion is 1.5, no class": one_at_fault("true_emotion", "1.5"),
    "row 6: a probability is below 0: these look like logits": one_at_fault("p_sad", "-0.2"),
    r"row 6: the probabilities sum to \d.* use softmax": one_at_fault("p_sad", "0.9"),
    "row 2: the probabilities sum to 100 instead of 1: divide by 100": lambda columns: (
        columns | {f"p_{name}": 100 * columns[f"p_{name}"] for name in EMOTIONS}
    ),
    "row 1: unknown column 'Valence': did you mean valence": lambda columns: (
        without(columns, "valence") | {"Valence": columns["valence"]}
    ),
    "row 1: unknown column 'extra'": lambda columns: columns | {"extra": columns["id"]},
    "row 1: 'p_bored' names no class": lambda columns: columns | {"p_bored": columns["p_sad"]},
    "row 1: no column p_sad": lambda columns: without(columns, "p_sad"),
    "row 1: no column id": lambda columns: without(columns, "id"),
    "row 1: nothing is predicted": lambda columns: without(
        columns, "valence", "arousal", *(f"p_{name}" for name in EMOTIONS)
    ),
    "has nothing to score": lambda columns: without(
        columns, "true_valence", "true_arousal", "true_emotion"
    ),
    "row 2: emotion is .* the most probable class .* another order": lambda columns: (
        columns
        | {"emotion": (np.stack([columns[f"p_{n}"] for n in EMOTIONS], 1).argmax(1) + 1) % 8}
    ),
}


@pytest.mark.parametrize(("said", "spoil"), MISTAKES.items(), ids=list(MISTAKES))
def test_mistakes_name_file_row_and_remedy(columns, tmp_path, said, spoil):
    path = write_csv(tmp_path / "mine.csv", spoil(columns))
    with pytest.raises(UserError, match=said) as raised:
        own = predictions.read_predictions(path)
        predictions.answers(own, own)
    assert "mine.csv" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("data_set", ["RAF-DB", "Aff-Wild2", "FER2013", "FER+"])
def test_ids_in_the_order_of_another_data_set_are_recognised(columns, tmp_path, data_set):
    ids = {ours: theirs for theirs, ours in predictions._ORDERS[data_set].items()}
    label = [EMOTIONS.index(name) for name in columns["true_emotion"]]
    kept = np.array([each in ids for each in label])
    made = {
        "id": np.array(columns["id"])[kept],
        "emotion": [ids[each] for each in label if each in ids],
        "true_emotion": np.array(columns["true_emotion"])[kept],
    }
    own = predictions.read_predictions(write_csv(tmp_path / "a.csv", made))
    with pytest.raises(
        UserError, match=rf"column emotion: .* those of {data_set.replace('+', '.')}"
    ):
        predictions.answers(own, own)
    swapped = {
        "id": made["id"],
        "emotion": made["true_emotion"],
        "true_emotion": made["emotion"],
    }
    own = predictions.read_predictions(write_csv(tmp_path / "b.csv", swapped))
    with pytest.raises(UserError, match="column true_emotion"):
        predictions.answers(own, own)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("id,valence\n", "holds no example"),
        ("id;valence\na;1\n", "row 1: semicolons"),
        ("id,valence,valence\na,1,1\n", "row 1: two columns are called 'valence'"),
        ("id,valence\na,0,5\n", "row 2 has 3 cells, the first row 2: .*decimal points"),
        ('id,valence\n"a,0.5\n', "is no CSV"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, said):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=said):
        predictions.read_predictions(str(tmp_path / "a.csv"))


def test_files_of_other_examples_or_labels_do_not_join(columns, tmp_path):
    mine = write_csv(tmp_path / "mine.csv", columns)
    other = write_csv(tmp_path / "other.csv", changed(columns, "id", 4, "stranger"))
    with pytest.raises(UserError, match=r"mine.csv, row 6: id 'image 4' is not in .*other.csv"):
        score(other, mine)
    with pytest.raises(UserError, match=r"other.csv, row 6: id 'stranger' is not in .*mine.csv"):
        score(mine, other)
    other = write_csv(tmp_path / "other.csv", changed(columns, "true_valence", 4, "0.001"))
    with pytest.raises(UserError, match=r"row 6: true_valence of 'image 4' is not that of"):
        score(mine, other)
    with pytest.raises(UserError, match="is the file of --predictions"):
        score(mine, mine)
    only = write_csv(tmp_path / "only.csv", {name: columns[name] for name in ("id", "valence")})
    rest = write_csv(tmp_path / "rest.csv", without(columns, "valence", "arousal"))
    with pytest.raises(UserError, match="predict nothing in common"):
        score(rest, only)


def test_the_written_files_tell_the_same(columns, tmp_path):
    first = write_csv(tmp_path / "a_1.csv", columns)
    other = make_answers(np.random.default_rng(0), 160, noise=3.0) | {"id": columns["id"]}
    second = write_csv(
        tmp_path / "b.csv", {**other, **{k: columns[k] for k in columns if "true" in k}}
    )
    scores, answers = score(first, second)
    html = page.render(scores, answers, "a command")
    recognition_files.write(str(tmp_path / "out"), scores, html)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {f"recognition.{end}" for end in ("json", "csv", "tex", "html")}
    title, row, _ = (tmp_path / "out" / "recognition.tex").read_text().splitlines()
    assert title.count("&") == row.count("&") == 18 and row.startswith(r"a\_1 & $")
    value = scores["methods"]["a_1"]["values"]["valence.ccc"]
    assert f"& ${value:.3f}$" in row and f"{value:.3f}" in html
    lines = (tmp_path / "out" / "recognition.csv").read_text().splitlines()
    assert f"a_1,160,valence.ccc,{value}" in lines[1]
    assert lines[-1].startswith("a_1 - b,")
    assert "://" not in html and html.count("<img") == 6 and "a_1 - b</th>" in html
    assert "V CCC" in recognition_files.table(scores)
