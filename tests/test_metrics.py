"""Metrics against their formulas and the reference packages, with weights that the tests make themselves."""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import one_line, unitkit
from PIL import Image
from torch import nn

from unitkit import UserError, load_recipe, metrics, open_data
from unitkit.data.plain import plain_images
from unitkit.data.sources import ImageArray
from unitkit.metrics import parse_metrics
from unitkit.metrics.attribute import train_classifier
from unitkit.metrics.distances import frechet_distance, kernel_distance
from unitkit.metrics.weights import torch_home


def pictures(n: int, seed: int, size: int = 32, channels: int = 3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    smooth = draw.integers(0, 256, (n, channels, 4, 4)).repeat(size // 4, 2).repeat(size // 4, 3)
    return np.clip(smooth + draw.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def images(array: np.ndarray) -> ImageArray:
    return ImageArray(array, "set")


def figures(metric: metrics.Metric, **sets: np.ndarray) -> dict[str, float]:
    found = metrics.score([metric], {name: images(array) for name, array in sets.items()})
    result: dict[str, float] = found[metric.name]["figures"]
    return result


# Pixels


def test_pixel_accuracy_is_that_of_a_double_loop() -> None:
    one, two = pictures(3, 0, 8), pictures(3, 0, 8)
    two = np.clip(two.astype(int) + np.random.default_rng(1).integers(-20, 21, two.shape), 0, 255).astype(np.uint8)
    largest = euclidean = 0
    for i in range(3):
        for y in range(8):
            for x in range(8):
                difference = [int(one[i, c, y, x]) - int(two[i, c, y, x]) for c in range(3)]
                largest += max(map(abs, difference)) <= 16
                euclidean += math.sqrt(sum(d * d for d in difference)) <= 16
    found = figures(metrics.pixel_accuracy("ab", "b"), ab=one, b=two)
    assert found == {"largest_channel": largest / 192, "euclidean": euclidean / 192}
    assert 0 < euclidean < largest < 192


def test_sixteen_is_within_and_seventeen_beyond() -> None:
    zero = np.zeros((1, 3, 16, 16), np.uint8)
    for value, within in ((16, 1.0), (17, 0.0)):
        assert (
            figures(metrics.pixel_accuracy("ab", "b"), ab=zero, b=zero + np.uint8(value))["largest_channel"] == within
        )


def test_psnr_and_l1() -> None:
    one, two = pictures(3, 0), pictures(3, 1)
    error = one.astype(float) - two
    assert figures(metrics.psnr("ab", "b"), ab=one, b=two)["psnr"] == pytest.approx(
        10 * math.log10(255**2 / (error**2).mean())
    )
    assert figures(metrics.l1("ab", "b"), ab=one, b=two)["l1"] == pytest.approx(np.abs(error).mean())
    assert figures(metrics.ssim("ab", "b"), ab=one, b=one)["ssim"] == pytest.approx(1)
    assert figures(metrics.ssim("ab", "b"), ab=one, b=two)["ssim"] < 0.5


# Sets, with Inception's weights made here


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


SETS = {"ab": pictures(24, 0), "b": pictures(20, 1)}


@pytest.fixture(scope="module")
def reference(inception: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What torch-fidelity says of the same pictures, with the same weights."""
    from torch_fidelity import calculate_metrics

    folders = {}
    for name, array in SETS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        for i, picture in enumerate(array):
            Image.fromarray(picture.transpose(1, 2, 0)).save(folders[name] / f"{i:03d}.png")
    found: dict[str, float] = calculate_metrics(
        input1=str(folders["ab"]),
        input2=str(folders["b"]),
        fid=True,
        kid=True,
        kid_subset_size=20,
        feature_extractor_weights_path=str(inception),
        cuda=False,
        verbose=False,
        cache=False,
        samples_find_deep=False,
        save_cpu_ram=True,
        batch_size=4,
    )
    return found


def test_fid_is_torch_fidelitys(inception: Path, reference: dict[str, float]) -> None:
    found = metrics.score(
        [metrics.fid("ab", "b", weights=str(inception))], {k: images(v) for k, v in SETS.items()}
    ).popitem()[1]
    assert found["figures"]["fid"] == pytest.approx(reference["frechet_inception_distance"], rel=1e-3)
    assert found["n"] == {"ab": 24, "b": 20} and not found["higher"]
    assert found["protocol"]["published"] is False and len(found["protocol"]["sha256"]) == 16
    assert any("2048" in text and "kid(ab, b)" in text for text in found["warnings"])


def test_kid_is_torch_fidelitys(inception: Path, reference: dict[str, float]) -> None:
    found = figures(metrics.kid("ab", "b", weights=str(inception)), **SETS)
    assert found["kid"] == pytest.approx(reference["kernel_inception_distance_mean"], rel=1e-3)
    assert found["sd"] == pytest.approx(reference["kernel_inception_distance_std"], rel=1e-2)


def test_a_set_is_at_no_distance_from_itself(inception: Path) -> None:
    same = {"ab": SETS["b"], "b": SETS["b"]}
    assert abs(figures(metrics.fid("ab", "b", weights=str(inception)), **same)["fid"]) < 1e-3


def test_grey_pictures_have_features_too(inception: Path) -> None:
    grey = pictures(3, 0, channels=1)
    colour = grey.repeat(3, axis=1)
    one, two = (
        figures(metrics.fid("ab", "b", layer=64, weights=str(inception)), ab=each, b=SETS["b"][:3])
        for each in (grey, colour)
    )
    assert one == two


def test_the_frechet_distance_of_known_gaussians() -> None:
    draw = np.random.default_rng(0)
    one, two = (torch.from_numpy(np.diag(draw.uniform(0.5, 2, 6))) for _ in range(2))
    means = torch.from_numpy(draw.normal(size=(2, 6)))
    expected = ((means[0] - means[1]) ** 2).sum() + ((one.diag().sqrt() - two.diag().sqrt()) ** 2).sum()
    turn = torch.linalg.qr(torch.from_numpy(draw.normal(size=(6, 6))))[0]
    turned = (turn @ one @ turn.T, turn @ two @ turn.T)
    found = frechet_distance(turn @ means[0], turned[0], turn @ means[1], turned[1])
    assert found == pytest.approx(float(expected), rel=1e-9)


def test_the_kernel_distance_is_unbiased() -> None:
    draw = np.random.default_rng(0)
    values = [kernel_distance(draw.normal(size=(10, 4)), draw.normal(size=(10, 4))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20


def test_distances_in_a_timm_models_features(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    found = figures(metrics.frechet("ab", "b", model="test_resnet", weights=str(path)), **SETS)
    assert found["frechet"] > 0
    same = figures(metrics.frechet("ab", "b", model="test_resnet", weights=str(path)), ab=SETS["b"], b=SETS["b"])
    assert abs(same["frechet"]) < 1e-3 < found["frechet"] or abs(same["frechet"]) < 1e-6
    assert np.isfinite(figures(metrics.kernel("ab", "b", model="test_resnet", weights=str(path)), **SETS)["kernel"])
    itself = figures(metrics.frechet("b", "b", model="test_resnet", weights=str(path)), b=SETS["b"])
    assert abs(itself["frechet"]) < 1e-6
    with pytest.raises(UserError, match="test_resnet"):
        metrics.frechet("ab", "b", model="test_resne", weights=str(path)).ready()


# LPIPS


@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_lpips_is_that_of_its_package(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lpips
    from torchvision import models

    from unitkit.metrics.perceptual import BACKBONES

    make = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[net]
    torch.manual_seed(0)
    if net == "vgg":  # its classifier has half a gigabyte that LPIPS does not read, but torchvision's loader wants
        monkeypatch.setattr(models.vgg.VGG, "_real", models.vgg.VGG.__init__, raising=False)
        monkeypatch.setattr(
            models.vgg.VGG,
            "__init__",
            lambda self, *a, **k: _small_head(self, *a, **k),  # type: ignore[misc]
        )
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
    found = figures(metrics.lpips("ab", "b", net=net, weights=str(path)), ab=one, b=two)  # type: ignore[arg-type]
    assert found["lpips"] == pytest.approx(float(expected), abs=1e-5)
    assert figures(metrics.lpips("ab", "b", net=net, weights=str(path)), ab=one, b=one)["lpips"] == 0  # type: ignore[arg-type]


def _small_head(self: nn.Module, features: nn.Module, *_: object, **__: object) -> None:
    nn.Module.__init__(self)
    self.features, self.classifier = features, nn.Linear(1, 1)


# Weights


@pytest.mark.parametrize("name", ["fid", "kid", "lpips"])
def test_missing_weights_say_where_to_get_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"https://\S+\.pth .*weights=PATH"):
        parse_metrics(f"{name}(ab, b)", "ab")[0].ready()


def test_weights_that_are_damaged_or_of_another_network(tmp_path: Path, inception: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(inception.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"cannot read .*fetch it again"):
        metrics.fid("ab", "b", weights=str(path)).ready()
    with pytest.raises(UserError, match="of another network"):
        metrics.lpips("ab", "b", weights=str(inception)).ready()
    with pytest.raises(UserError, match="there is no weights file"):
        metrics.fid("ab", "b", weights=str(tmp_path / "none.pth")).ready()


def test_code_in_a_weights_file_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"Conv2d_1a_3x3.conv.weight": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="cannot read"):
        metrics.fid("ab", "b", weights=str(tmp_path / "weights.pth")).ready()
    assert not (tmp_path / "ran").exists()


# Runs and sets


def test_measuring_in_batches_is_measuring_at_once(trained: Path) -> None:
    import unitkit as kit

    recipe = load_recipe(trained / "recipe.py")
    model = kit.load(trained, device="cpu").model
    wanted = parse_metrics("psnr, ssim(aa,a), pixel_accuracy(ab,b), counterpart(ba), l1(bab,b)", "ab")
    one, all_at_once = (metrics.evaluate(model, recipe.data, wanted, batch=batch) for batch in (1, 4))
    for name, result in one.items():
        assert result["n"] == all_at_once[name]["n"]
        for figure, value in result["figures"].items():
            assert value == pytest.approx(all_at_once[name]["figures"][figure], rel=2e-3, abs=1e-3), (name, figure)
    few = metrics.evaluate(model, recipe.data, wanted, most=2)
    assert few["psnr(aba, a)"]["n"] == {"aba": 2, "a": 2}


def test_diversity_wants_samples_that_differ(trained: Path) -> None:
    import unitkit as kit

    recipe, model = load_recipe(trained / "recipe.py"), kit.load(trained, device="cpu").model
    metric = metrics.diversity("ab", samples=2)
    one, two, other = (
        metrics.evaluate(model, recipe.data, [metric], seed=seed)[metric.name]["figures"]["diversity"]
        for seed in (0, 0, 1)
    )
    assert one == two != other and one > 0
    model.noise = 0.0
    assert metrics.evaluate(model, recipe.data, [metric])[metric.name]["figures"]["diversity"] == 0


def test_a_classifier_tells_domains_apart_and_is_the_same_again() -> None:
    recipe = load_recipe("recipes/unit_maps.py", size=16) if Path("recipes").is_dir() else None
    if recipe is None:
        pytest.skip("the recipes are not beside this folder")
    one, two = (train_classifier(recipe.data, steps=20, batch=8) for _ in range(2))
    assert all(p.equal(q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    test = recipe.data.domains["b"].test
    x = torch.from_numpy(np.stack([test.load(i) for i in range(32)])).float() / 127.5 - 1
    assert (one(x).argmax(1) == 1).float().mean() > 0.9


def test_aligned_data_know_the_truth_by_name(tmp_path: Path) -> None:
    for split, names in ("train", ("1", "2")), ("val", ("3", "4")):
        for domain, offset in ("map", 100), ("satellite", 0):
            (tmp_path / split / domain).mkdir(parents=True)
            for name in names:
                suffix = "png" if domain == "map" else "bmp"
                Image.new("RGB", (16, 16), (int(name) + offset,) * 3).save(
                    tmp_path / split / domain / f"{name}.{suffix}"
                )
    data = open_data(str(tmp_path), size=16, labels="satellite,map", aligned=True)
    assert data.truth
    assert [int(data.truth("ab", i)[0, 0, 0]) for i in (0, 1)] == [103, 104]
    assert int(data.truth("ba", 1)[0, 0, 0]) == 4
    assert open_data(str(tmp_path), size=16).truth is None
    (tmp_path / "val" / "map" / "4.png").rename(tmp_path / "val" / "map" / "5.png")
    with pytest.raises(UserError, match=r"not aligned: .*4\.bmp.* of satellite .*in map"):
        open_data(str(tmp_path), size=16, labels="satellite,map", aligned=True)


def test_evaluate_a_run(trained: Path, tmp_path: Path) -> None:
    import shutil

    run = shutil.copytree(trained, tmp_path / "run")
    answer = unitkit("evaluate", run, "--metrics", "ssim(aa, a), l1(aba,a)", "--save", tmp_path / "out.json")
    assert answer.status == 0 and "ssim of reconstruction aa" in answer.out and "protocol: step 12" in answer.out, (
        answer
    )
    (entry,) = json.loads((run / "metrics.json").read_text())["evaluations"]
    assert set(entry["metrics"]) == {"psnr(aa, a)", "ssim(aa, a)", "l1(aba, a)"}
    assert set(json.loads((tmp_path / "out.json").read_text())["metrics"]) == {"ssim(aa, a)", "l1(aba, a)"}
    assert unitkit("evaluate", run, "--most", 2).status == 0
    assert len(json.loads((run / "metrics.json").read_text())["evaluations"]) == 2  # another n is another entry
    before = (run / "metrics.json").read_bytes()
    for words, says in (
        (("psmr(aa, a)",), ("'psmr'", "'psnr'")),
        (("psnr(ax, a)",), ("'ax'",)),
        (("psnr(aa)",), ("2 paths",)),
        (("psnr(aa, a, tol=3)",), ("'tol'",)),
        (("pixel_accuracy(ab, b, tolerance=many)",), ("'tolerance'", "'many'")),
        (("psnr(ab, a), (",), ("no metric",)),
        (("lpips",), ("35 pixels", "16x16")),
        (("kid",), ("https://", "weights=PATH")),
    ):
        one_line(unitkit("evaluate", run, "--metrics", *words), *says)
    one_line(unitkit("evaluate", run, "--data", tmp_path / "nowhere"), "nowhere")
    one_line(unitkit("evaluate"), "--images")
    assert (run / "metrics.json").read_bytes() == before


def test_an_evaluation_that_is_cut_off_leaves_what_was_there(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    run = shutil.copytree(trained, tmp_path / "run")
    before = (run / "metrics.json").read_bytes()
    monkeypatch.setattr("unitkit.metrics.measure._update", lambda *_: (_ for _ in ()).throw(UserError("cut off")))
    one_line(unitkit("evaluate", run), "cut off")
    assert (run / "metrics.json").read_bytes() == before


def test_sets_of_pictures_without_a_model(tmp_path: Path) -> None:
    for name, array in ("ab", SETS["ab"][:4]), ("b", SETS["b"][:4]):
        (tmp_path / name).mkdir()
        for i, picture in enumerate(array):
            Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / name / f"{i}.png")
    sets = ("--images", f"ab={tmp_path / 'ab'}", "--images", f"b={tmp_path / 'b'}")
    answer = unitkit("evaluate", *sets, "--metrics", "psnr(ab, b)", "--save", tmp_path / "out.json")
    assert answer.status == 0, answer
    found = json.loads((tmp_path / "out.json").read_text())["metrics"]["psnr(ab, b)"]
    assert found["figures"] == figures(metrics.psnr("ab", "b"), ab=SETS["ab"][:4], b=SETS["b"][:4])
    one_line(unitkit("evaluate", *sets, "--metrics", "psnr(ba, a)"), "'ba'")
    (tmp_path / "b" / "3.png").rename(tmp_path / "b" / "4.png")
    one_line(unitkit("evaluate", *sets, "--metrics", "psnr(ab, b)"), "3.png", "4.png")
    (tmp_path / "b" / "4.png").unlink()
    one_line(unitkit("evaluate", *sets, "--metrics", "psnr(ab, b)"), "ab 4", "b 3")
    Image.new("RGB", (20, 20)).save(tmp_path / "b" / "9.png")
    one_line(unitkit("evaluate", *sets, "--metrics", "psnr(ab, b)"), "20x20", "--size")
    (tmp_path / "empty").mkdir()
    one_line(unitkit("evaluate", "--images", f"ab={tmp_path / 'empty'}", "--metrics", "fid(ab, b)"), "no image")
    assert len(plain_images(str(tmp_path / "b"), 16)) == 4


def test_a_watch_keeps_the_best_and_ends_early(tiny: Path, tmp_path: Path) -> None:
    text = tiny.read_text().replace("from unitkit import (", "from unitkit import (\n    Watch,")
    watch = 'watch=Watch([psnr("aa", "a")], every=2, images=3, patience=2)'
    text = text.replace("        evaluate=[psnr", f"        {watch},\n        evaluate=[psnr")
    recipe = tmp_path / "watched.py"
    recipe.write_text(text)
    answer = unitkit("train", recipe, "steps=40", "lr=0.5", "--out", tmp_path / "run", "--checkpoint-every", 3)
    assert answer.status == 0, answer
    rows = [json.loads(line) for line in (tmp_path / "run" / "watched.jsonl").read_text().splitlines()]
    values = [row["psnr(aa, a)"]["psnr"] for row in rows]
    best = values.index(max(values))
    assert len(rows) == best + 3 < 20 and "ended early" in answer.out
    assert [p.name for p in (tmp_path / "run" / "best").glob("step-*")] == [f"step-{rows[best]['step']:08d}"]
    last = f"step-{rows[-1]['step']:08d}"
    assert (tmp_path / "run" / "checkpoints" / last).is_dir()
    assert unitkit("evaluate", tmp_path / "run" / "best").status == 0
    entries = json.loads((tmp_path / "run" / "metrics.json").read_text())["evaluations"]
    assert [e["checkpoint"] for e in entries] == [last, f"best/step-{rows[best]['step']:08d}"]
