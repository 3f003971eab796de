from pathlib import Path

import fashion
import glyphs
import imagenet
import pytest
import torch
from PIL import Image

from fairseq_pdd.errors import UsageError


def test_fashion_holds_out_two_classes(fashion_folder: Path) -> None:
    train, sets = fashion.train_set(fashion_folder), fashion.evaluation_sets(fashion_folder)
    assert sorted({train[i][1] for i in range(len(train))}) == list(range(8))
    assert train[0][0].shape == (1, 28, 28)
    sizes = {name: len(images) for name, images in sets.items()}
    # 320 of 400 test images are of known classes
    kinds = 8
    assert sizes.pop("digits") > 1000
    assert sizes == {
        "test": 320,
        "outlines": 320,
        "new classes": 80,
        **{f"corrupted/{severity}": kinds * 320 for severity in range(1, 6)},
    }
    assert {sets["new classes"][i][1] for i in range(80)} == {-1}
    # a corrupted image keeps its label
    assert [sets["corrupted/1"][i][1] for i in (3, 323)] == [sets["test"][3][1]] * 2


def test_the_error_for_missing_images_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no complete Fashion-MNIST.*fetch_fashion\.py"):
        fashion.train_set(tmp_path)


def write_images(folder: Path, classes: "list[str]") -> None:
    for shade, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (300, 260), (40 * shade, 90, 90)).save(folder / name / "1.jpeg")


def test_imagenet_reads_folders_by_name(tmp_path: Path) -> None:
    write_images(tmp_path / "train", ["n01", "n02", "n03"])
    write_images(tmp_path / "val", ["n01", "n02", "n03"])
    write_images(tmp_path / "imagenet-r", ["n03"])
    write_images(tmp_path / "imagenet-o", ["n99"])
    for kind in ("fog", "noise"):
        for severity in "12":
            write_images(tmp_path / "imagenet-c" / kind / severity, ["n02", "n03"])
    train, sets = imagenet.train_set(tmp_path), imagenet.evaluation_sets(tmp_path)
    assert train[2][0].shape == (3, 224, 224)
    labels = {name: [images[i][1] for i in range(len(images))] for name, images in sets.items()}
    assert labels == {
        "test": [0, 1, 2],
        "ImageNet-R": [2],
        "ImageNet-O": [-1],
        "corrupted/1": [1, 2, 1, 2],
        "corrupted/2": [1, 2, 1, 2],
    }
    assert {images[0][0].shape for images in sets.values()} == {(3, 224, 224)}


def test_the_error_names_a_missing_imagenet_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "train", ["n01"])
    with pytest.raises(UsageError, match="val is not a folder"):
        imagenet.evaluation_sets(tmp_path)


def test_glyphs_differ_and_can_be_classified() -> None:
    shapes = glyphs.glyphs(50)
    every = torch.cat([shapes.known, shapes.novel])
    assert len({image.numpy().tobytes() for image in every[:, 0]}) == len(every)
    assert len(shapes.novel) == glyphs.NOVEL
    torch.testing.assert_close(glyphs.glyphs(10).known, shapes.known[:10])
    torch.testing.assert_close(glyphs.glyphs(10).novel, shapes.novel)

    images, classes = glyphs.sample(shapes.known, 400, torch.Generator().manual_seed(0))
    again, _ = glyphs.sample(shapes.known, 400, torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, again, rtol=0, atol=0)
    # the nearest mean of the styles classifies without training
    means = shapes.known.mean(1).flatten(1)
    nearest = torch.cdist(images, means).argmin(-1)
    assert (nearest == classes).float().mean() > 0.5


@pytest.mark.parametrize("classes", [1, 10**6])
def test_the_error_names_a_wrong_number_of_glyphs(classes: int) -> None:
    with pytest.raises(UsageError, match=f"not {classes}"):
        glyphs.glyphs(classes)
