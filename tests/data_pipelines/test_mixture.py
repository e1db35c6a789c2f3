"""The mixture: shares, determinism, and messages about absent sets."""

import shutil

import numpy as np
import pytest

from data_pipelines.reading import mixture, sources
from fields_jax.batch import validate_batch
from tests.support.dot_sets import SIZES, assert_same, make_config, take


def test_batches_follow_the_spec_and_the_shares(root):
    batch = take(make_config(root), 1)[0]
    validate_batch(batch, 32)
    assert np.bincount(batch["source"]).tolist() == [3, 2, 1]
    names = np.array(["a", "b", "c"])[batch["source"]]
    assert [name[0] for name in batch["id"]] == names.tolist()
    np.testing.assert_array_equal(batch["emotion"], [int(name[1:]) % 8 for name in batch["id"]])
    assert batch["has_landmarks_68"].all()
    assert not batch["has_landmarks_105"].any()
    assert not batch["landmarks_105"].any()


@pytest.mark.parametrize("cache_examples", [100, 0])
def test_pure_function_of_seed_and_step(root, cache_examples):
    config = make_config(root, cache_examples=cache_examples)
    batches = take(config, 8)
    for one, other in zip(batches[5:], take(config, 3, start_step=5), strict=True):
        assert_same(one, other)
    other = take(config, 1, seed=4)[0]
    assert (other["id"] != batches[0]["id"]).any()
    # 8 steps draw 24 of a's 10, 16 of b's 7 and 8 of c's 5: whole epochs come before repeats.
    for source, size in enumerate(SIZES.values()):
        names = np.concatenate([batch["id"][batch["source"] == source] for batch in batches])
        epochs = [names[i : i + size] for i in range(0, len(names) - size + 1, size)]
        assert all(len(set(epoch)) == size for epoch in epochs)
        assert len(epochs) == 1 or (epochs[0] != epochs[1]).any()


def test_the_same_example_looks_different_next_time(root):
    batches = take(make_config(root, "dots/c=1"), 2, batch_size=5)
    first, second = (batch["landmarks_68"][np.argsort(batch["id"])] for batch in batches)
    assert (np.abs(first - second).max(axis=(1, 2)) > 1e-3).all()


def test_processes_share_a_batch(root):
    config = make_config(root)
    whole = take(config, 2)
    parts = [take(config, 2, process=mixture.Process(i, 3)) for i in range(3)]
    for step, batch in enumerate(whole):
        joined = {key: np.concatenate([part[step][key] for part in parts]) for key in batch}
        assert_same(batch, joined)
    with pytest.raises(sources.DataError, match="batch_size 6 does not divide by 4 processes"):
        take(config, 1, process=mixture.Process(0, 4))


def test_counts_follow_the_rule_of_the_reference():
    names = ["lrs3", "mead", "ffhq", "celeba", "sides"]
    shares = list(zip(names, (0.2, 0.1, 0.3, 0.3, 0.1), strict=True))
    assert mixture.draws_per_batch(shares, 32) == [8, 3, 9, 9, 3]  # SMIRK
    assert mixture.draws_per_batch([("a", 0.1), ("b", 0.2), ("c", 0.3)], 6) == [1, 2, 3]
    with pytest.raises(sources.DataError, match="'b' has no place in a batch of 8"):
        mixture.draws_per_batch([("a", 9), ("b", 1)], 8)


def test_every_slice_of_a_batch_holds_all_kinds():
    order = mixture.interleave([12, 16, 4])
    assert np.bincount(order).tolist() == [12, 16, 4]
    for part in order.reshape(4, 8):
        assert np.abs(np.bincount(part, minlength=3) - [3, 4, 1]).max() <= 1
        assert len(set(part)) == 3


def test_mixture_strings_keep_their_order():
    assert mixture.parse_mixture("x/b=2, a = 0.5") == [("x/b", 2.0), ("a", 0.5)]


def test_fingerprint_tells_sets_apart(root):
    marks = mixture.fingerprint(make_config(root, "dots/a=1,dots/b=1"))
    assert list(marks) == ["dots/a", "dots/b"]
    assert marks["dots/a"] != marks["dots/b"]
    assert marks["dots/a"] == mixture.fingerprint(make_config(root, "dots/a=3"))["dots/a"]
    assert mixture.is_prepared(make_config(root), "dots/a")
    assert not mixture.is_prepared(make_config(root), "dots/z")


@pytest.mark.parametrize(
    "text", ["", "a", "a=0", "a=-1", "a=x", "=1", "a=1,,b=1", "a=inf", "a=1,a=2"]
)
def test_malformed_mixtures_are_refused(text):
    with pytest.raises(sources.DataError, match=r"^data\.mixture: "):
        mixture.parse_mixture(text)


def test_absent_sets_and_splits_are_named_with_the_remedy(root, tmp_path):
    with pytest.raises(sources.DataError, match=r"no split 'valid'; it has (test|train), "):
        mixture.count_examples(make_config(root), "dots/a", "valid")
    line = (
        r"no prepared set 'synthetic/levels' in .*; make it with `python -m data_pipelines.prepare"
    )
    with pytest.raises(sources.DataError, match=line + " synthetic --out="):
        take(make_config(tmp_path, "synthetic/levels=1"), 1)
    with pytest.raises(
        sources.DataError, match=r"'nothing' in .*; known sets: synthetic, affectnet"
    ):
        take(make_config(root, "nothing=1"), 1)


def test_newest_whole_version_is_read(root, tmp_path):
    for version in ("1.0.0", "1.2.0", "1.10.0", "incomplete.ABC_2.0.0"):
        shutil.copytree(root / "dots" / "c" / "1.0.0", tmp_path / "dots" / "c" / version)
    assert sources.newest_version(tmp_path, "dots/c").name == "1.10.0"


def test_balanced_draws_show_all_classes_equally_often(root):
    config = make_config(root, "dots/a=1,dots/b=1", balanced="dots/a")
    batches = take(config, 10, batch_size=16)
    classes = np.concatenate([b["emotion"][b["source"] == 0] for b in batches])
    # a holds classes 0..7 and 0, 1 once more: each block of 8 draws shows all of them.
    assert (np.sort(classes.reshape(10, 8), axis=1) == np.arange(8)).all()
    names = np.concatenate([b["id"][b["source"] == 0] for b in batches])
    assert [np.sum(names == f"a{i}") for i in (0, 1, 8, 9)] == [5, 5, 5, 5]
    order = classes.reshape(10, 8)
    assert (order[0] != order[1]).any()
    for one, other in zip(batches[3:5], take(config, 2, batch_size=16, start_step=3), strict=True):
        assert_same(one, other)
    odd = take(make_config(root, "dots/a=1", balanced="dots/a"), 6, batch_size=5)
    later = take(make_config(root, "dots/a=1", balanced="dots/a"), 2, batch_size=5, start_step=4)
    for one, other in zip(odd[4:], later, strict=True):
        assert_same(one, other)
    with pytest.raises(sources.DataError, match=r"data.balanced: 'dots/z' is not in the mixture"):
        take(make_config(root, "dots/a=1", balanced="dots/z"), 1)
