"""Distances in features against the reference packages, with weights that the tests make themselves."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sets import figures, images, pictures, save
from torch import nn

from unitkit import UserError, metrics
from unitkit.metrics import parse_metrics
from unitkit.metrics.distances import Gaussians, Kernels, frechet_distance, kernel_distance
from unitkit.metrics.networks.features import Features
from unitkit.metrics.networks.published import BACKBONES, INCEPTION, torch_home

SETS = {"ab": pictures(8, 0), "b": pictures(7, 1)}
FEW = {"ab": pictures(4, 0), "b": pictures(3, 1)}  # of which Inception takes long


def frechet(one: np.ndarray, two: np.ndarray) -> float:
    """The formula as it stands in the paper."""
    cov1, cov2 = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(cov1 @ cov2).astype(complex)).real.sum()  # the trace of the product's root
    return float(((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(cov1 + cov2) - 2 * root)


def kernel(one: np.ndarray, two: np.ndarray) -> float:
    """The unbiased estimate, pair by pair."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    within = [np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]) for a in (one, two)]
    return float(sum(within) - 2 * np.mean([k(x, y) for x in one for y in two]))


# Inception's features


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with weights of Inception's shapes: random, of a scale that keeps signals alive."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Bare(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: object, **__: object) -> None: ...

    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    network = Bare("x", ["2048"], feature_extractor_weights_path=path)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def reference(inception: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What torch-fidelity says of the same pictures, with the same weights; of FID in 768 features, since the roots of
    matrices of 2048 take ten seconds."""
    from torch_fidelity import calculate_metrics

    folders = [save(tmp_path_factory.mktemp(name), array) for name, array in FEW.items()]
    found: dict[str, float] = calculate_metrics(
        input1=str(folders[0]),
        input2=str(folders[1]),
        fid=True,
        kid=True,
        kid_subset_size=3,
        feature_layer_fid="768",
        feature_extractor_weights_path=str(inception),
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        batch_size=4,
    )
    return found


@pytest.fixture(scope="module")
def ours(inception: Path) -> metrics.evaluation.Results:
    wanted = [metrics.fid("ab", "b", layer=768, weights=str(inception)), metrics.kid("ab", "b", weights=str(inception))]
    found = metrics.evaluate_images(wanted, {name: images(array) for name, array in FEW.items()})
    return {name.partition("(")[0]: result for name, result in found.items()}


def test_fid_is_torch_fidelitys(ours: metrics.evaluation.Results, reference: dict[str, float]) -> None:
    expected = reference["frechet_inception_distance"]
    assert expected > 1  # the features are alive, so that the comparison means something
    assert ours["fid"]["figures"]["fid"] == pytest.approx(expected, rel=1e-3)


def test_kid_is_torch_fidelitys(ours: metrics.evaluation.Results, reference: dict[str, float]) -> None:
    found, expected = ours["kid"]["figures"], reference["kernel_inception_distance_mean"]
    assert abs(expected) > 1e-6
    assert found["kid"] == pytest.approx(expected, rel=1e-3)
    assert found["sd"] == pytest.approx(reference["kernel_inception_distance_std"], rel=1e-3)


def test_fid_carries_its_protocol(ours: metrics.evaluation.Results, inception: Path) -> None:
    import hashlib

    fid, kid = ours["fid"], ours["kid"]
    assert fid["n"] == kid["n"] == {"ab": 4, "b": 3} and fid["higher"] == {"fid": False}
    digest = hashlib.sha256(inception.read_bytes()).hexdigest()
    for each in fid, kid:
        protocol = each["protocol"]
        assert digest.startswith(protocol["sha256"]) and protocol["weights"] == inception.name
        assert ("layer 2048" if each is kid else "layer 768") in protocol["features"]
        assert metrics.fid("ab", "b").name == metrics.fid("ab", "b", layer=2048).name == "fid(ab, b)"
        assert "299x299" in protocol["resized"]
        assert protocol["published"] is False and any("not the published" in text for text in each["warnings"])
    assert any("2048" in text and "kid(ab, b)" in text for text in fid["warnings"])
    assert not any("2048" in text for text in kid["warnings"])
    assert kid["protocol"]["subsets"] == "100 of 3"


def test_a_set_is_at_no_distance_from_itself(inception: Path) -> None:
    same, one = {"ab": FEW["b"], "b": FEW["b"]}, str(inception)
    assert abs(figures(metrics.fid("ab", "b", layer=192, weights=one), **same)["fid"]) < 1e-3
    # The covariance of ten vectors has rank nine, whatever their length: squared, it would lose its digits.
    vectors = 100 * torch.randn(10, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moments = vectors.mean(0), torch.cov(vectors.T)
    assert abs(frechet_distance(*moments, *moments)) < 1e-3


def test_grey_pictures_and_sets_named_twice(inception: Path) -> None:
    grey, fid = pictures(3, 0, channels=1), metrics.fid("ab", "b", layer=64, weights=str(inception))
    colour = grey.repeat(3, axis=1)
    one, two = (figures(fid, ab=each, b=FEW["b"])["fid"] for each in (grey, colour))
    assert one == two > 0


def test_antialiasing_matters_to_large_pictures_and_is_named(inception: Path) -> None:
    large = {"ab": pictures(2, 0, 400), "b": pictures(2, 1, 400)}
    plain, smooth = (metrics.fid("ab", "b", layer=64, antialias=each, weights=str(inception)) for each in (False, True))
    assert "antialias=True" in smooth.name and "antialias" not in plain.name
    assert figures(plain, **large) != figures(smooth, **large)


# Streaming


def plain_features(offset: float = 0) -> Features:
    """The pixels themselves; far from zero, where naive sums of squares lose digits, with an offset."""
    return Features(lambda pixels: pixels.flatten(1).float() + offset, {"published": True})


def stream(accumulator: Gaussians | Kernels, size: int, **sets: np.ndarray) -> metrics.Result:
    for name, array in sets.items():
        for start in range(0, len(array), size):
            accumulator.update({name: array[start : start + size]})
    return accumulator.result({name: len(array) for name, array in sets.items()})


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_frechet_distance_streams(size: int) -> None:
    draw = np.random.default_rng(0)
    sets = {"ab": draw.integers(0, 200, (40, 3, 2, 2), np.uint8), "b": draw.integers(50, 256, (33, 3, 2, 2), np.uint8)}
    found = stream(Gaussians(("ab", "b"), plain_features(1e7), "cpu", "frechet"), size, **sets)
    expected = frechet(*(each.reshape(len(each), -1).astype(float) for each in sets.values()))
    assert found.figures["frechet"] == pytest.approx(expected, rel=1e-9)


def test_the_frechet_distance_takes_no_more_memory_for_more_pictures() -> None:
    accumulator = Gaussians(("ab", "b"), plain_features(), "cpu", "frechet")
    sizes = []
    for _ in range(3):
        accumulator.update({"ab": pictures(5, 0, 4)})
        sizes.append(sum(tensor.numel() for tensor in accumulator.sums["ab"]))
    assert sizes == [48 + 48 * 48] * 3


def test_a_set_against_itself_is_counted_once() -> None:
    array = pictures(9, 0, 4)
    accumulator = Kernels(("b", "b"), plain_features(), "cpu", "kernel")
    found = stream(accumulator, 4, b=array)
    vectors = array.reshape(9, -1).astype(np.float32)
    assert found.figures["kernel"] == pytest.approx(kernel_distance(*[vectors.astype(float)] * 2), rel=1e-9)


@pytest.mark.parametrize("accumulator", [Gaussians, Kernels])
def test_two_pictures_are_enough(accumulator: Any) -> None:
    begun = accumulator(("ab", "b"), plain_features(), "cpu", "frechet")
    found = stream(begun, 4, ab=pictures(4, 0, 4), b=pictures(2, 1, 4))
    assert all(map(math.isfinite, found.figures.values()))


@pytest.mark.parametrize("word", ["fid", "kid", "frechet", "kernel"])
def test_one_picture_is_too_few(word: str) -> None:
    metric = getattr(metrics, word)("ab", "b")
    with pytest.raises(UserError, match="at least 2 images of 'b', and there is 1"):
        metric.check_count({"ab": 4, "b": 1})
    with pytest.raises(UserError, match="at least 2 images of 'ab'"):  # before weights are looked for
        metrics.evaluate_images([metric], {"ab": images(pictures(1, 0)), "b": images(pictures(3, 0))})


def test_the_frechet_distance_of_known_gaussians() -> None:
    draw = np.random.default_rng(0)
    one, two = (torch.from_numpy(np.diag(draw.uniform(0.5, 2, 6))) for _ in range(2))
    means = torch.from_numpy(draw.normal(size=(2, 6)))
    expected = ((means[0] - means[1]) ** 2).sum() + ((one.diag().sqrt() - two.diag().sqrt()) ** 2).sum()
    turn = torch.linalg.qr(torch.from_numpy(draw.normal(size=(6, 6))))[0]
    turned = (turn @ one @ turn.T, turn @ two @ turn.T)
    found = frechet_distance(turn @ means[0], turned[0], turn @ means[1], turned[1])
    assert found == pytest.approx(float(expected), rel=1e-9)


def test_the_kernel_distance_is_that_of_a_loop_and_unbiased() -> None:
    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(8, 5)), draw.normal(1, 2, size=(8, 5))
    assert kernel_distance(one, two) == pytest.approx(kernel(one, two), rel=1e-9)
    values = [kernel_distance(draw.normal(size=(10, 4)), draw.normal(size=(10, 4))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(400)


# A timm model's features


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # some begin at zero and hide what is before them
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(network.state_dict(), path)
    return path


def test_distances_in_a_timm_models_features_are_those_of_plain_numpy(resnet: Path) -> None:
    import timm

    network: Any = timm.create_model("test_resnet", pretrained=False, num_classes=0).eval()
    network.load_state_dict(torch.load(resnet, weights_only=True), strict=False)
    config = timm.data.resolve_data_config(model=network)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    vectors = []
    for array in SETS["ab"][:7], SETS["b"]:
        wide = nn.functional.interpolate(
            torch.from_numpy(array).float(), config["input_size"][1:], mode="bicubic", antialias=True
        )
        with torch.no_grad():
            vectors.append(network((wide.clamp(0, 255) / 255 - mean) / std).double().numpy())
    sets = {"ab": SETS["ab"][:7], "b": SETS["b"]}
    options: Any = {"model": "test_resnet", "weights": str(resnet)}
    found = figures(metrics.frechet("ab", "b", **options), **sets)["frechet"]
    assert found == pytest.approx(frechet(*vectors), rel=1e-3) and found > 1e-3
    both = figures(metrics.kernel("ab", "b", **options), **sets)
    assert both == {"kernel": pytest.approx(kernel(*vectors), rel=1e-3)}  # of the whole sets, so without an sd


def test_a_timm_model_that_cannot_be(resnet: Path) -> None:
    with pytest.raises(UserError, match="test_resnet"):
        metrics.frechet("ab", "b", model="test_resne", weights=str(resnet)).ready()
    with pytest.raises(UserError, match="of another network"):
        metrics.kernel("ab", "b", model="test_vit", weights=str(resnet)).ready()


# LPIPS


@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_lpips_is_that_of_its_package(net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lpips
    from torchvision import models

    make = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[net]
    torch.manual_seed(0)
    if net == "vgg":  # its classifier has half a gigabyte that LPIPS does not read, but torchvision's loader wants
        monkeypatch.setattr(models.vgg.VGG, "__init__", _small_head)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = torch_home() / BACKBONES[net].file
    path.parent.mkdir(parents=True)
    torch.save(make(weights=None).state_dict(), path)
    one, two = pictures(2, 0, 64), pictures(2, 1, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net=net, verbose=False)
    with torch.no_grad():
        expected = theirs(*(torch.from_numpy(each).float() / 127.5 - 1 for each in (one, two))).mean()
    metric = metrics.lpips("ab", "b", net=net)  # the weights are found in TORCH_HOME
    assert float(expected) > 1e-3
    assert figures(metric, ab=one, b=two)["lpips"] == pytest.approx(float(expected), abs=1e-5)
    assert figures(metric, ab=one, b=one)["lpips"] == 0
    path.rename(tmp_path / "own.pth")
    assert figures(metrics.lpips("ab", "b", net=net, weights=str(tmp_path / "own.pth")), ab=one, b=two) == {
        "lpips": pytest.approx(float(expected), abs=1e-5)
    }


def _small_head(self: nn.Module, features: nn.Module, *_: object, **__: object) -> None:
    nn.Module.__init__(self)
    self.features, self.classifier = features, nn.Linear(1, 1)


# Weights


@pytest.mark.parametrize("name", ["fid", "kid", "lpips", "lpips(ab, b, net=vgg)"])
def test_missing_weights_say_where_to_get_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match=r"`unitkit weights \w+` .*https://\S+\.pth; .* at \S+, or .*weights=PATH"
    ) as caught:
        parse_metrics(name, "ab")[0].ready()
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_are_damaged_or_of_another_network(tmp_path: Path, inception: Path, resnet: Path) -> None:
    path = tmp_path / "weights.pth"
    for content in inception.read_bytes()[:100_000], b"", b"<html>not found</html>":
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*fetch it again") as caught:
            metrics.fid("ab", "b", weights=str(path)).ready()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    for metric in (metrics.lpips("ab", "b", weights=str(inception)), metrics.fid("ab", "b", weights=str(resnet))):
        with pytest.raises(UserError, match="of another network"):
            metric.ready()
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="holds no weights by name"):
        metrics.fid("ab", "b", weights=str(path)).ready()
    with pytest.raises(UserError, match="there is no weights file"):
        metrics.fid("ab", "b", weights=str(tmp_path / "none.pth")).ready()


def test_weights_of_another_shape_name_the_tensor(tmp_path: Path, inception: Path) -> None:
    state = torch.load(inception, weights_only=True)
    state["fc.bias"] = state["fc.bias"][:5]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"another network than Inception.*'fc\.bias'"):
        metrics.fid("ab", "b", weights=str(tmp_path / "weights.pth")).ready()


class Evil:
    """Pickled, it asks to make a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["fid(ab, b", "lpips(ab, b", "frechet(ab, b, model=test_resnet"])
def test_code_in_a_weights_file_does_not_run(name: str, tmp_path: Path) -> None:
    torch.save({"Conv2d_1a_3x3.conv.weight": Evil(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="cannot read"):
        parse_metrics(f"{name}, weights={tmp_path / 'weights.pth'})", "ab")[0].ready()
    assert not (tmp_path / "ran").exists()


def test_weights_are_read_again_when_the_file_changes(tmp_path: Path, resnet: Path) -> None:
    path = tmp_path / "weights.pth"
    state = torch.load(resnet, weights_only=True)
    torch.save(state, path)
    metric = metrics.kernel("ab", "b", model="test_resnet", weights=str(path))
    before = figures(metric, ab=SETS["ab"][:3], b=SETS["b"][:3])
    torch.save(
        {name: tensor * 1.5 if name.endswith("conv1.weight") else tensor for name, tensor in state.items()}, path
    )
    os.utime(path, ns=(0, 0))
    assert figures(metric, ab=SETS["ab"][:3], b=SETS["b"][:3]) != before


def test_the_published_files_are_those_of_their_names() -> None:
    for published in (INCEPTION, *BACKBONES.values()):
        assert published.file.removesuffix(".pth").endswith(published.digest)
