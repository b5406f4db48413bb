"""Writes generated images in all file kinds, and the results of Pillow, torchvision and timm.

Made with Pillow 13.0.0, torchvision 0.28.0 and timm 1.0.31:

    pip install pillow numpy torch torchvision timm
    python make.py

expected/X.png is the image that Pillow decodes from X.
"""

import pathlib

import numpy
from PIL import Image
from timm.data import auto_augment
from torchvision import transforms

HERE = pathlib.Path(__file__).parent
FILL = (124, 116, 104)  # ImageNet's mean colour


def picture(width, height, seed):
    """Returns an image of waves, a sharp edge and noise."""
    noise = numpy.random.default_rng(seed).normal(0, 12, (height, width, 3))
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [110 + 80 * numpy.sin(x / (5 + c) + c) * numpy.cos(y / (9 - c)) for c in range(3)]
    edge = numpy.where(x + 2 * y > width, 40, 0)[..., None]
    values = numpy.stack(waves, -1) + edge + noise
    return Image.fromarray(numpy.clip(values, 0, 255).astype(numpy.uint8))


def files(image):
    """Writes one file of every kind, and its RGB image decoded by Pillow."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by 90°
    image.save(HERE / "colour.jpg", quality=90)
    image.save(HERE / "full_chroma.jpg", quality=95, subsampling=0)
    image.save(HERE / "progressive.jpg", quality=90, progressive=True)
    image.save(HERE / "turned.jpg", quality=90, exif=exif)
    image.convert("L").save(HERE / "grey.jpg", quality=90)
    image.convert("CMYK").save(HERE / "cmyk.jpg", quality=95)
    image.convert("L").save(HERE / "grey.png")
    image.convert("LA").save(HERE / "grey_alpha.png")
    image.quantize(16).save(HERE / "palette.png")
    rgba = image.convert("RGBA")
    rgba.putalpha(image.convert("L"))
    rgba.save(HERE / "alpha.png")
    grey = numpy.asarray(image.convert("L")).astype(numpy.uint16)
    Image.fromarray(grey * 257).save(HERE / "grey16.png")
    names = [path.name for path in HERE.iterdir() if path.suffix in (".jpg", ".png")]
    for name in names:
        # Pillow clamps 16-bit values to 255. Expected are their upper 8 bits, which are grey.png.
        source = "grey.png" if name == "grey16.png" else name
        Image.open(HERE / source).convert("RGB").save(HERE / "expected" / f"{name}.png")


def resizing(image):
    """Writes evaluation crops and resized crops of torchvision."""
    image.save(HERE / "expected/photo.png")
    bicubic = transforms.InterpolationMode.BICUBIC
    for size in (64, 96):
        evaluation = transforms.Compose(
            [transforms.Resize(int(size / 0.875), bicubic), transforms.CenterCrop(size)]
        )
        evaluation(image).save(HERE / f"expected/evaluation_{size}.png")
    for name, (left, top, width, height) in {
        "smaller": (37, 21, 151, 120),
        "larger": (200, 3, 40, 31),
    }.items():
        crop = transforms.functional.resized_crop(image, top, left, height, width, [64, 64], bicubic)
        crop.save(HERE / f"expected/crop_{name}.png")


def operations(image):
    """Writes the results of RandAugment's operations, stacked vertically."""
    kwargs = {"resample": Image.Resampling.BICUBIC, "fillcolor": FILL}
    calls = [
        ("auto_contrast",),
        ("equalize",),
        ("invert",),
        ("rotate", 27.0),
        ("rotate", -12.5),
        ("posterize", 1),
        ("posterize", 3),
        ("solarize", 26),
        ("solarize_add", 99),
        ("color", 1.81),
        ("color", 0.19),
        ("contrast", 1.81),
        ("contrast", 0.19),
        ("brightness", 1.81),
        ("brightness", 0.19),
        ("sharpness", 1.81),
        ("sharpness", 0.19),
        ("shear_x", 0.27),
        ("shear_x", -0.11),
        ("shear_y", -0.27),
        ("translate_x_rel", 0.405),
        ("translate_x_rel", -0.2),
        ("translate_y_rel", 0.405),
    ]
    image.save(HERE / "expected/small.png")
    results = [
        getattr(auto_augment, name)(image.copy(), *arguments, **kwargs) for name, *arguments in calls
    ]
    stacked = numpy.concatenate([numpy.asarray(result) for result in results])
    Image.fromarray(stacked).save(HERE / "expected/operations.png")


(HERE / "expected").mkdir(exist_ok=True)
files(picture(45, 34, 1))
resizing(picture(300, 200, 2))
operations(picture(40, 33, 3))
