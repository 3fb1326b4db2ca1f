import numpy as np
from PIL import Image

from fetch_efficientnet_lite0 import centre_crop, preprocess, random_crops


def test_pixels_are_scaled_as_in_training():
    pixels = np.array([0, 127, 255], np.uint8)
    np.testing.assert_array_equal(preprocess(pixels), np.array([-127 / 128, 0, 1], np.float32))


def test_the_centre_is_cut_channels_first():
    pixels = np.zeros((256, 300, 3), np.uint8)
    pixels[16:240, 38:262] = (10, 20, 30)  # 224 x 224 in the middle of 300 x 256
    crop = centre_crop(Image.fromarray(pixels))
    assert crop.shape == (3, 224, 224)
    for channel, value in zip(crop, (10, 20, 30), strict=True):
        np.testing.assert_array_equal(channel, value)


def test_crops_take_the_photos_in_turn_and_stay_inside_them():
    photos = [
        Image.new("RGB", size, (value, 0, 0)) for size, value in (((90, 70), 1), ((60, 80), 2))
    ]
    crops = random_crops(photos, count=6, seed=0)
    assert crops.shape == (6, 3, 224, 224)
    np.testing.assert_array_equal(crops[:, 0].min(axis=(1, 2)), [1, 2, 1, 2, 1, 2])
    np.testing.assert_array_equal(crops[:, 0].max(axis=(1, 2)), [1, 2, 1, 2, 1, 2])


def test_crops_differ_and_repeat_with_their_seed():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    photos = [Image.fromarray(noise)]
    first, again, other = (random_crops(photos, count=2, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first != other).any()
