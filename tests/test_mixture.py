"""The mixture: geometry, colours, determinism, sharing, and what it says of damaged data."""

import itertools
import shutil

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image, ImageDraw

from data_pipelines import clahe, colours, mirror, mixture, ops, records, sources, spec
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.photos import crops
from tests.portraits import coefficients

STORED = 96
SIZES = {"a": 10, "b": 7, "c": 5}
COLOURS = ("brightness_contrast", "gamma", "jitter", "clahe", "rgb_shift", "blur", "noise")
OFF = {f"p_{name}": 0.0 for name in COLOURS}
AUGMENT = {
    "p_geometric": 0.9,
    "shift": 0.05,
    "zoom": 0.1,
    "rotate": 10.0,
    "p_brightness_contrast": 0.5,
    "brightness": 0.2,
    "contrast": 0.2,
    "p_gamma": 0.5,
    "gamma": (80.0, 120.0),
    "p_jitter": 0.25,
    "jitter": 0.05,
    "p_rgb_shift": 0.25,
    "rgb_shift": 20.0,
    "p_blur": 0.1,
    "blur": (3, 7),
    "p_noise": 0.5,
    "noise_variance": (10.0, 50.0),
    "p_clahe": 0.0,
    "clahe": (1.0, 4.0),
    "p_flip": 0.0,
}


def dotted_record(name, index, stored=STORED):
    """Two white dots on black at landmarks 0 and 1, and a tilted square as the face."""
    rng = np.random.default_rng(index)
    middle = stored / 2
    points = middle + rng.uniform(-0.12, 0.12, (68, 2)) * stored
    points[:2] = middle + np.array([[-0.1, -0.08], [0.09, 0.1]]) * stored
    points[2:6] = middle + np.array([[0, -0.2], [0.2, 0], [0, 0.2], [-0.2, 0]]) * stored
    rows, columns = np.mgrid[:stored, :stored] + 0.5
    distance = np.hypot(columns - points[:2, 0, None, None], rows - points[:2, 1, None, None])
    width = stored / 40
    image = (250 * np.exp(-0.5 * (distance / width) ** 2).max(0)).astype(np.uint8)
    return records.record(
        np.repeat(image[..., None], 3, axis=2),
        crops.hull_mask(points[2:6], stored, stored),
        [stored / 4, stored / 4, stored * 3 / 4, stored * 3 / 4],
        id=f"{name}{index}",
        landmarks_68=points,
        emotion=index % 8,
        subject=index,
    )


def write_set(root, config, count, stored=STORED):
    tfds.disable_progress_bar()
    examples = [(i, dotted_record(config, i, stored)) for i in range(count)]
    tfds.dataset_builders.store_as_tfds_dataset(
        "dots",
        "1.0.0",
        records.features(),
        {"train": examples, "test": examples[: count // 2 + 1]},
        config=config,
        data_dir=root,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for config, count in SIZES.items():
        write_set(root, config, count)
    write_set(root, "large", 3, stored=320)
    return root


def make_config(root, mix="dots/a=3,dots/b=2,dots/c=1", augment=(), **changes):
    values = {
        "root": str(root),
        "mixture": mix,
        "crop_scale": (1.2, 1.8),
        "eval_crop_scale": 1.4,
        "augment": AUGMENT | dict(augment),
        "cache_examples": 100,
        "shuffle_buffer": 4,
        "threads": 1,
        "balanced": "",
        "max_bad_share": 0.01,
    }
    return ConfigDict(values | changes)


def take(config, count, batch_size=6, seed=3, image_size=32, **kwargs):
    batches = mixture.mixture(
        config, image_size=image_size, batch_size=batch_size, seed=seed, **kwargs
    )
    return list(itertools.islice(batches, count))


def assert_same(one, other):
    assert set(one) == set(other)
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def centroid(image, point, radius):
    """Centre of brightness around a point, in continuous pixels."""
    rows, columns = np.mgrid[: len(image), : len(image)] + 0.5
    weight = image[..., 0] * (np.hypot(columns - point[0], rows - point[1]) < radius)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def test_batches_follow_the_spec_and_the_shares(root):
    batch = take(make_config(root), 1)[0]
    spec.validate_batch(batch, 32)
    assert np.bincount(batch["source"]).tolist() == [3, 2, 1]
    names = np.array(["a", "b", "c"])[batch["source"]]
    assert [name[0] for name in batch["id"]] == names.tolist()
    np.testing.assert_array_equal(batch["emotion"], [int(name[1:]) % 8 for name in batch["id"]])
    assert batch["has_landmarks_68"].all()
    assert not batch["has_landmarks_105"].any()
    assert not batch["landmarks_105"].any()


@pytest.mark.parametrize(("config", "size"), [("a", 64), ("large", 64)])
def test_image_mask_and_landmarks_move_together(root, config, size):
    """320 to 64 pixels also goes through the averaging that precedes a strong reduction."""
    batch = take(make_config(root, f"dots/{config}=1", OFF), 1, batch_size=24, image_size=size)[0]
    pixels = (batch["landmarks_68"] + 1) * size / 2
    for image, points in zip(batch["image"].astype(float), pixels, strict=True):
        for point in points[:2]:
            assert np.abs(centroid(image, point, size / 10) - point).max() < 0.7
    for mask, points in zip(batch["face_mask"], pixels, strict=True):
        canvas = Image.new("L", (size, size), 1)
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in points[2:6]], fill=0)
        assert np.mean(mask != np.asarray(canvas)) < 0.05
    # The crops do differ, turn and zoom.
    sides = np.linalg.norm(pixels[:, 2] - pixels[:, 4], axis=1)
    angles = np.degrees(np.arctan2(*(pixels[:, 4] - pixels[:, 2]).T))
    assert sides.max() / sides.min() > 1.3
    assert 5 < np.ptp(angles) <= 20.1


def test_evaluation_crop_is_the_numpy_one_in_file_order(root):
    config = make_config(root)
    batches = list(mixture.evaluation_batches(config, "dots/a", image_size=40, batch_size=4))
    assert [len(batch["id"]) for batch in batches] == [4, 2]
    assert sorted(name for batch in batches for name in batch["id"]) == [f"a{i}" for i in range(6)]
    assert mixture.count_examples(config, "dots/a", "test") == 6
    spec.validate_batch(batches[0], 40)
    stored = dotted_record("a", int(batches[0]["id"][0][1:]))
    matrix = crops.crop_matrix(stored["face_box"], 1.4, 40)
    points = crops.to_ndc(crops.transform_points(matrix, stored["landmarks_68"]), 40)
    np.testing.assert_allclose(batches[0]["landmarks_68"][0], points, atol=1e-5)
    difference = crops.cut(stored["image"], matrix, 40).astype(int) - batches[0]["image"][0]
    assert np.abs(difference).max() < 12  # JPEG, and pillow rounds its bilinear weights


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
    parts = [take(config, 2, process_index=i, process_count=3) for i in range(3)]
    for step, batch in enumerate(whole):
        joined = {key: np.concatenate([part[step][key] for part in parts]) for key in batch}
        assert_same(batch, joined)
    with pytest.raises(sources.DataError, match="batch_size 6 does not divide by 4 processes"):
        take(config, 1, process_count=4)


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


@pytest.fixture
def damaged(root, tmp_path):
    """A copy of one set, for tests to break."""
    shutil.copytree(root / "dots" / "c", tmp_path / "dots" / "c")
    return make_config(tmp_path, "dots/c=1"), tmp_path / "dots" / "c" / "1.0.0"


def the_shard(folder, split="train"):
    return next(folder.glob(f"*{split}.tfrecord*"))


def test_missing_shard_is_named(damaged):
    config, folder = damaged
    shard = the_shard(folder)
    shard.unlink()
    with pytest.raises(
        sources.DataError, match=f"{shard.name}: shard is missing; remove .*c/1.0.0"
    ):
        take(config, 1)


@pytest.mark.parametrize("cache_examples", [100, 0])
def test_damaged_shard_is_named(damaged, cache_examples):
    config, folder = damaged
    config.cache_examples = cache_examples
    shard = the_shard(folder)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(
        sources.DataError, match=f"{shard.name}: damaged after [0-4] records"
    ) as caught:
        take(config, 3)
    assert "\n" not in str(caught.value)


def test_truncated_set_is_noticed(damaged):
    config, folder = damaged
    kept = list(tf.data.TFRecordDataset(str(the_shard(folder))).as_numpy_iterator())[:3]
    rewrite(the_shard(folder), kept)
    with pytest.raises(sources.DataError, match="3 of 5 records"):
        take(config, 1)


def test_picture_that_does_not_decode_is_named(damaged):
    config, folder = damaged
    shard = the_shard(folder, "test")
    kept = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
    example = tf.train.Example.FromString(kept[1])
    example.features.feature["image"].bytes_list.value[0] = b"\xff\xd8\xff garbage"
    name = example.features.feature["id"].bytes_list.value[0].decode()
    rewrite(shard, [kept[0], example.SerializeToString(), *kept[2:]])
    line = f"{shard.name}: a picture of example '{name}' does not decode; remove"
    with pytest.raises(sources.DataError, match=line):
        list(mixture.evaluation_batches(config, "dots/c", image_size=16, batch_size=2))


def spoil(folder, rows):
    """Puts garbage in the place of some pictures of train; returns the ids of these examples."""
    shard = the_shard(folder)
    examples = [
        tf.train.Example.FromString(each)
        for each in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()
    ]
    for row in rows:
        examples[row].features.feature["image"].bytes_list.value[0] = b"\xff\xd8\xff garbage"
    rewrite(shard, [example.SerializeToString() for example in examples])
    return {examples[r].features.feature["id"].bytes_list.value[0].decode() for r in rows}


@pytest.mark.parametrize("cache_examples", [100, 0])
def test_unreadable_examples_are_replaced_counted_and_named(damaged, monkeypatch, cache_examples):
    config, folder = damaged
    config.update(max_bad_share=0.3, cache_examples=cache_examples)
    clean = take(config, 4, batch_size=5)
    said = []
    monkeypatch.setattr(mixture.logging, "warning", lambda text, *v: said.append(text % v))
    (bad,) = spoil(folder, [2])
    batches = take(config, 4, batch_size=5)
    for batch, other in zip(batches, clean, strict=True):
        spec.validate_batch(batch, 32)
        assert bad not in batch["id"]
        good = other["id"] != bad
        for key in batch:
            np.testing.assert_array_equal(batch[key][good], other[key][good], err_msg=key)
    assert sum("cannot be read, number 1" in line and repr(bad) in line for line in said) == 1
    for one, other in zip(batches[2:], take(config, 2, batch_size=5, start_step=2), strict=True):
        assert_same(one, other)


def test_too_many_unreadable_examples_stop(damaged):
    config, folder = damaged
    config.max_bad_share = 0.3
    spoil(folder, [1, 3])
    with pytest.raises(sources.DataError, match="2 of 5 examples cannot be read, more than data"):
        take(config, 4, batch_size=5)


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


def test_mirrored_landmarks_and_pictures(root):
    plain, mirrored = (
        take(make_config(root, "dots/a=1", OFF | flip), 1)[0] for flip in ({}, {"p_flip": 1.0})
    )
    np.testing.assert_array_equal(mirrored["image"], plain["image"][:, :, ::-1])
    np.testing.assert_array_equal(mirrored["face_mask"], plain["face_mask"][:, :, ::-1])
    for row, twin in ((0, 16), (8, 8), (17, 26), (36, 45), (41, 46), (48, 54), (60, 64), (67, 65)):
        np.testing.assert_allclose(
            mirrored["landmarks_68"][:, row], plain["landmarks_68"][:, twin] * [-1, 1]
        )


@pytest.mark.parametrize("name", mirror.MIRRORED)
def test_mirrored_rows_lie_opposite_on_the_head(name):
    marks = getattr(
        flame(procedural_head(), coefficients()), name + "_static" * (name[-2:] == "68")
    )
    marks, order = np.asarray(marks)[0], mirror.MIRRORED[name]
    np.testing.assert_array_equal(order[order], np.arange(len(order)))
    np.testing.assert_allclose(marks[order] * [-1, 1, 1], marks, atol=1e-3)


def test_mirrored_examples_lose_what_has_no_mirror_image():
    example = {"image": tf.zeros([4, 4, 3], tf.uint8), "face_mask": tf.zeros([4, 4], tf.uint8)}
    for flag, labels in spec.FLAGS.items():
        example[flag] = tf.constant(True)
        for label in labels:
            shape = [d if isinstance(d, int) else 7 for d in spec.EXAMPLE_SPEC[label].shape]
            example[label] = tf.ones(shape)
    kept = {flag for flag in spec.FLAGS if ops.mirror_example(example)[flag].numpy()}
    marks = {"has_landmarks_68", "has_annotated_68", "has_landmarks_105"}
    assert kept == marks | {"has_va", "has_emotion"}
    assert not ops.mirror_example(example)["expression"].numpy().any()


def clahe_by_hand(luma, limit, tiles=8):
    """Pixel by pixel, in float64."""
    size, side = len(luma), len(luma) // tiles
    tables = np.empty((tiles, tiles, 256))
    for i, j in np.ndindex(tiles, tiles):
        tile = luma[i * side : (i + 1) * side, j * side : (j + 1) * side]
        counts = np.bincount(tile.ravel(), minlength=256).astype(float)
        cut = np.minimum(counts, max(1, limit * side**2 / 256))
        tables[i, j] = np.cumsum(cut + (counts - cut).sum() / 256) * 255 / side**2
    result = np.empty((size, size))
    for y, x in np.ndindex(size, size):
        v, u = (np.clip((p + 0.5) / side - 0.5, 0, tiles - 1) for p in (y, x))
        result[y, x] = sum(
            (1 - abs(v - i)) * (1 - abs(u - j)) * tables[i, j, luma[y, x]]
            for i in range(tiles)
            for j in range(tiles)
            if abs(v - i) < 1 and abs(u - j) < 1
        )
    return result


def test_clahe_is_the_method_of_tiles():
    rng = np.random.default_rng(0)
    luma = rng.normal(120, 20, (32, 32)).clip(0, 255).astype(np.uint8)
    image = np.repeat(luma[..., None], 3, axis=2).astype(np.float32)
    made = clahe.equalise(tf.constant(image), tf.constant(2.0)).numpy()
    np.testing.assert_allclose(made[..., 0], clahe_by_hand(luma, 2.0), atol=0.05)
    np.testing.assert_allclose(made[..., 0], made[..., 2], atol=1e-3)
    assert coloured(image, {"p_clahe": 1.0}).std() > image.std()


def test_set_of_another_schema_is_refused(tmp_path):
    features = tfds.features.FeaturesDict({"x": np.int64})
    tfds.dataset_builders.store_as_tfds_dataset(
        "other", "1.0.0", features, {"train": [(0, {"x": 1})]}, data_dir=tmp_path
    )
    with pytest.raises(sources.DataError, match="has other features than this version reads"):
        take(make_config(tmp_path, "other=1"), 1)


def rewrite(shard, serialized):
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for each in serialized:
            writer.write(each)


def coloured(image, augment, **draws):
    """One colour transform with every draw in the middle unless given."""
    values = {name: tf.constant(float(draws.get(name, 0.5))) for name in ops._DRAWS}
    key = tf.constant([1, 2], tf.int64)
    image, settings = tf.constant(image.astype(np.uint8)), AUGMENT | OFF | augment
    if settings["p_clahe"] > 0:
        return colours.augment_with_clahe(image, values, key, settings).numpy().astype(float)
    return colours.augment(image, values, key, settings).numpy().astype(float)


def test_colour_transforms_by_hand():
    image = np.full((9, 9, 3), 100.0)
    image[4, 4] = 190.0
    assert (coloured(image, {}) == image).all()
    # A draw of 0 is the lower end of its range, 1 the upper, 0.5 the middle.
    brighter = coloured(image, {"p_brightness_contrast": 1}, brightness=1, contrast=0)
    np.testing.assert_allclose(brighter, image * 0.8 + 51, atol=0.51)
    darker = coloured(image, {"p_gamma": 1}, gamma=1)
    np.testing.assert_allclose(darker[0, 0], 255 * (100 / 255) ** 1.2, atol=0.51)
    shifted = coloured(image, {"p_rgb_shift": 1}, red=0, green=0.5, blue=1)
    np.testing.assert_allclose(shifted[0, 0], [80, 100, 120], atol=0.51)
    blurred = coloured(image, {"p_blur": 1}, blur=0)  # 3 x 3
    np.testing.assert_allclose(blurred[3, 4], 110, atol=0.51)
    np.testing.assert_allclose(blurred[2, 4], 100, atol=0.51)
    np.testing.assert_allclose(
        coloured(image, {"p_blur": 1}, blur=0.999)[1, 1], 100 + 90 / 49, atol=0.51
    )
    np.testing.assert_allclose(coloured(image, {"p_jitter": 1}), image, atol=0.51)
    red = np.tile([200.0, 100.0, 50.0], (9, 9, 1))
    gray = red[0, 0] @ [0.2989, 0.5870, 0.1140]
    faded = coloured(red, {"p_jitter": 1}, jitter_saturation=0)
    np.testing.assert_allclose(faded[0, 0], gray + 0.95 * (red[0, 0] - gray), atol=0.51)
    image[:, :4] = 60.0
    mean = image.mean()
    flat = coloured(image, {"p_jitter": 1}, jitter_contrast=0, jitter_brightness=1)
    np.testing.assert_allclose(flat, 1.05 * (mean + 0.95 * (image - mean)), atol=0.51)
    assert coloured(image, {"p_gamma": 1}, gamma=1, if_gamma=0.99).max() < 190
    assert (coloured(image, {"p_gamma": 0.5}, gamma=1, if_gamma=0.6) == image).all()


@pytest.mark.parametrize("clahe", [0.0, 1.0])
def test_compiled_colours_are_those_of_the_ops(root, clahe):
    """The whole way of an example, against the same functions run op by op."""
    settings = {k: 1.0 if k.startswith("p_") else v for k, v in AUGMENT.items()}
    settings |= {"p_flip": 0.0, "p_clahe": clahe, "noise_variance": (0, 0)}
    record = next(iter(sources.in_order(sources.open_source(root, "dots/a", "train"))))
    key = tf.constant([5, 9], tf.int64)
    made = ops.training_example(
        sources.parse(record), key, image_size=64, crop_scale=(1.2, 1.8), augment=settings
    )
    plain = ops.training_example(
        sources.parse(record), key, image_size=64, crop_scale=(1.2, 1.8), augment=settings | OFF
    )
    draws = ops._draws(tf.random.stateless_uniform([len(ops._DRAWS)], key))
    if clahe:
        with tf.init_scope():
            expected = colours.augment_with_clahe(plain["image"], draws, key, settings)
    else:
        expected = colours.augment(plain["image"], draws, key, settings)
    difference = made["image"].numpy().astype(int) - expected.numpy()
    assert np.abs(difference).max() <= 1
    assert (made["image"].numpy() != plain["image"].numpy()).mean() > 0.05  # most is black


@pytest.mark.parametrize(("config", "size"), [("a", 64), ("large", 224), ("large", 64)])
def test_decoding_a_part_changes_nothing(root, config, size):
    """The window that a crop needs, against the whole picture as its window."""
    for serialized in sources.in_order(sources.open_source(root, f"dots/{config}", "train")):
        record = sources.parse(serialized)
        shape = tf.io.extract_jpeg_shape(record["image"])
        whole = tf.concat([[0, 0], shape[:2]], 0)
        matrix, window = ops._evaluation_window(record["face_box"], shape, size, 1.2)
        assert config == "a" or tf.reduce_prod(window[2:]) < tf.reduce_prod(whole[2:])
        made, expected = (ops.warp_example(record, matrix, w, size) for w in (window, whole))
        # A window's rows are averaged from another start where the picture shrinks.
        allowed = 1 if size == 224 or config == "a" else 30
        difference = made["image"].numpy().astype(int) - expected["image"].numpy()
        assert np.abs(difference).max() <= allowed
        assert np.abs(difference).mean() < (0.1 if allowed == 1 else 0.2)
        np.testing.assert_array_equal(made["landmarks_68"], expected["landmarks_68"])


def test_noise_is_normal_and_of_its_own_for_every_example():
    shape = tf.TensorShape([128, 128, 3])
    one, other = (
        colours._normal(shape, tf.constant([a, 2**40 + 3], tf.int64)).numpy().ravel()
        for a in (7, 8)
    )
    found = np.sort(one)
    expected = scipy.stats.norm.ppf((np.arange(found.size) + 0.5) / found.size)
    inner = slice(found.size // 1000, -found.size // 1000)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.08)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.015
    for lag in (1, 3, 384):  # the next colour, pixel and row
        assert abs(np.corrcoef(one[lag:], one[:-lag])[0, 1]) < 0.015


def test_noise_has_the_variance_asked_for():
    image = np.full((64, 64, 3), 128.0)
    noise = coloured(image, {"p_noise": 1}, noise=0.75) - image
    assert np.var(noise) == pytest.approx(40, rel=0.05)
    assert abs(noise.mean()) < 0.3


def test_colours_change_pictures_and_not_landmarks(root):
    plain, colourful = (
        take(make_config(root, "dots/a=1", augment), 1)[0] for augment in (OFF, {"p_gamma": 1.0})
    )
    np.testing.assert_array_equal(plain["landmarks_68"], colourful["landmarks_68"])
    np.testing.assert_array_equal(plain["face_mask"], colourful["face_mask"])
    assert (plain["image"] != colourful["image"]).any()
