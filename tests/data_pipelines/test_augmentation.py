"""Effects of cropping on image, mask, landmarks and labels, and of colour augmentation."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from PIL import Image, ImageDraw

from data_pipelines.reading import augmentation, clahe, colours, mixture, sources
from fields_jax import landmark_schemes
from fields_jax.batch import EXAMPLE_SPEC, FLAGS, validate_batch
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.photos import crops
from tests.support.dot_sets import AUGMENT, OFF, dotted_record, make_config, take
from tests.support.portraits import coefficients


def centroid(image, point, radius):
    """Centre of brightness around a point, in continuous pixels."""
    rows, columns = np.mgrid[: len(image), : len(image)] + 0.5
    weight = image[..., 0] * (np.hypot(columns - point[0], rows - point[1]) < radius)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def coloured(image, augment, **draws):
    """One colour transform with every draw in the middle unless given."""
    values = {name: tf.constant(float(draws.get(name, 0.5))) for name in augmentation._DRAWS}
    key, settings = tf.constant([1, 2], tf.int64), AUGMENT | OFF | augment
    image = tf.constant(image.astype(np.uint8))
    words = colours.pack(image, image[..., :1])
    change = colours.augment_with_clahe if settings["p_clahe"] > 0 else colours.augment
    words = change(words, values, key, settings)
    assert (colours.byte(words, 3) == tf.cast(image[..., 0], tf.int32)).numpy().all()
    return colours.unpack(words).numpy().astype(float)


def one(plan):
    """The only row of a plan of one example."""
    return {key: value[0] for key, value in plan.items()}


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
    validate_batch(batches[0], 40)
    stored = dotted_record("a", int(batches[0]["id"][0][1:]))
    matrix = crops.crop_matrix(stored["face_box"], 1.4, 40)
    points = crops.to_ndc(crops.transform_points(matrix, stored["landmarks_68"]), 40)
    np.testing.assert_allclose(batches[0]["landmarks_68"][0], points, atol=1e-5)
    difference = crops.cut(stored["image"], matrix, 40).astype(int) - batches[0]["image"][0]
    assert np.abs(difference).max() < 12  # JPEG, and pillow rounds its bilinear weights


@pytest.mark.parametrize(("config", "size"), [("a", 64), ("large", 224), ("large", 64)])
def test_decoding_a_part_changes_nothing(root, config, size):
    """The window that a crop needs, against the whole picture as its window."""
    for serialized in sources.in_order(sources.open_source(root, f"dots/{config}", "train")):
        plan = one(augmentation.evaluation_plan(serialized[None], image_size=size, crop_scale=1.2))
        mask = tf.io.decode_png(plan["face_mask"], 1)
        window = augmentation.stored_window(plan["reach"], tf.shape(mask)[:2])
        whole = tf.concat([[0, 0], tf.shape(mask)[:2]], 0)
        assert config == "a" or tf.reduce_prod(window[2:]) < tf.reduce_prod(whole[2:])
        made = augmentation.pictures(plan, size, None)
        image = tf.image.decode_jpeg(plan["image"])
        expected = augmentation.sampled_window(image, mask, plan, whole, size)
        # A window's rows are averaged from another start where the picture shrinks.
        allowed = 1 if size == 224 or config == "a" else 30
        difference = made["image"].numpy().astype(int) - colours.unpack(expected).numpy()
        assert np.abs(difference).max() <= allowed
        assert np.abs(difference).mean() < (0.1 if allowed == 1 else 0.2)


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


@pytest.mark.parametrize("name", landmark_schemes.MIRRORED)
def test_mirrored_rows_lie_opposite_on_the_head(name):
    marks = getattr(
        flame(procedural_head(), coefficients()), name + "_static" * (name[-2:] == "68")
    )
    marks, order = np.asarray(marks)[0], landmark_schemes.MIRRORED[name]
    np.testing.assert_array_equal(order[order], np.arange(len(order)))
    np.testing.assert_allclose(marks[order] * [-1, 1, 1], marks, atol=1e-3)


def test_mirrored_examples_lose_what_has_no_mirror_image():
    examples = {"image": tf.zeros([1, 4, 4, 3], tf.uint8)}
    examples["face_mask"] = tf.zeros([1, 4, 4], tf.uint8)
    for flag, labels in FLAGS.items():
        examples[flag] = tf.constant([True])
        for label in labels:
            shape = [d if isinstance(d, int) else 7 for d in EXAMPLE_SPEC[label].shape]
            examples[label] = tf.ones([1, *shape])
    examples["fit_residual"] = tf.ones([1])
    mirrored = augmentation.mirrored(examples)
    kept = {flag for flag in FLAGS if mirrored[flag].numpy()}
    marks = {"has_landmarks_68", "has_annotated_68", "has_landmarks_105"}
    assert kept == marks | {"has_va", "has_emotion"}
    assert not mirrored["expression"].numpy().any()


def test_colours_change_pictures_and_not_landmarks(root):
    plain, colourful = (
        take(make_config(root, "dots/a=1", augment), 1)[0] for augment in (OFF, {"p_gamma": 1.0})
    )
    np.testing.assert_array_equal(plain["landmarks_68"], colourful["landmarks_68"])
    np.testing.assert_array_equal(plain["face_mask"], colourful["face_mask"])
    assert (plain["image"] != colourful["image"]).any()


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

    def made(settings):
        plan = augmentation.training_plan(
            record[None], key[None], image_size=64, crop_scale=(1.2, 1.8), augment=settings
        )
        return one(plan), augmentation.pictures(one(plan), 64, settings)["image"]

    plan, found = made(settings)
    _, plain = made(settings | OFF)
    change = colours.augment_with_clahe if clahe else colours.augment
    with tf.init_scope():
        draws = augmentation._draws(plan["uniform"])
        words = change(augmentation.crop_words(plan, 64), draws, key, settings)
    difference = found.numpy().astype(int) - colours.unpack(words).numpy()
    assert np.abs(difference).max() <= 1
    assert (found != plain).numpy().mean() > 0.05  # most is black


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
    image = tf.constant(np.repeat(luma[None], 3, axis=0).astype(np.float32))
    made = clahe.equalise(image, clahe.histograms(clahe.bins(image)), tf.constant(2.0)).numpy()
    np.testing.assert_allclose(made[0], clahe_by_hand(luma, 2.0), atol=0.05)
    np.testing.assert_allclose(made[0], made[2], atol=1e-3)
    image = np.repeat(luma[..., None], 3, axis=2).astype(np.float32)
    assert coloured(image, {"p_clahe": 1.0}).std() > image.std()


def test_noise_is_normal_and_of_its_own_for_every_example():
    shape = tf.TensorShape([3, 128, 128])
    one, other = (
        colours._normal(shape, tf.constant([a, 2**40 + 3], tf.int64)).numpy().ravel()
        for a in (7, 8)
    )
    found = np.sort(one)
    expected = scipy.stats.norm.ppf((np.arange(found.size) + 0.5) / found.size)
    inner = slice(found.size // 1000, -found.size // 1000)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.08)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.015
    for lag in (1, 128, 128**2):  # the next pixel, row and colour
        assert abs(np.corrcoef(one[lag:], one[:-lag])[0, 1]) < 0.015


def test_noise_has_the_variance_asked_for():
    image = np.full((64, 64, 3), 128.0)
    noise = coloured(image, {"p_noise": 1}, noise=0.75) - image
    assert np.var(noise) == pytest.approx(40, rel=0.05)
    assert abs(noise.mean()) < 0.3
