"""An image path as one file: what it computes where unitkit is not, what it says of itself, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import TINY as TINY_RECIPE
from commands import one_line, unitkit
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import unitkit as kit
from unitkit import UserError, discriminators, encoders, generators, models, sharing
from unitkit.data.values import Values
from unitkit.exporting import check, formats, plain
from unitkit.exporting.plain import RULES, make_plain
from unitkit.exporting.portable import Portable
from unitkit.kernels.norms import BatchNorm, InstanceNorm, LayerNorm
from unitkit.networks.convolutions import Conv2d, Doubling, PixelwiseTransposed
from unitkit.networks.layers import AdaptiveResidual, Reflect, ShiftNorm
from unitkit.networks.state import weights_of
from unitkit.registry import REGISTRIES, Spec
from unitkit.runs.checkpoint import save
from unitkit.translate import Translator

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
# Put before code that must not need unitkit, in a process that sees none of this one's paths.
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "unitkit":
            raise ImportError("unitkit is not installed here")
sys.meta_path.insert(0, Blocker())
"""
SIZES = ((2, 16, 16), (1, 13, 18), (3, 5, 32), (1, 1, 1), (1, 40, 23))  # N, H, W; the strides make 4
TINY = encoders.spec("residual", width=4, blocks=1)
BACK = generators.spec("residual", width=4, blocks=1)
SEES = discriminators.spec("strided", width=4, layers=2)
ALONE = sharing.spec("none")


def images(channels: int, low: float = 0, high: float = 255, sizes: tuple[tuple[int, ...], ...] = SIZES) -> list[Any]:
    """Batches of noise, whole numbers in a range, as float32."""
    random = np.random.default_rng(1)
    return [random.uniform(low, high, (n, channels, h, w)).round().astype(np.float32) for n, h, w in sizes]


def model_of(translator: Translator, path: str, batch: np.ndarray, **given: Tensor) -> np.ndarray:
    """What the model makes of stored images of any size, padded and cropped by hand, in the float32 of its values."""
    before, after = translator.values[path[0]], translator.values[path[-1]]
    h, w = batch.shape[2:]
    x = before.normalised(torch.from_numpy(batch))
    if not translator.model.size:
        least = max(8, translator.model.least)
        below, right = (max(-edge % 4, least - edge) for edge in (h, w))
        x = nn.functional.pad(x, (0, right, 0, below), mode="replicate")
    with torch.no_grad():
        y = translator.model.read({path[0]: x, **given}, [path])[path].clamp(-1, 1)[:, :, :h, :w].numpy()
    low, high = (np.asarray(side, np.float32).reshape(-1, 1, 1) for side in (after.low, after.high))
    return (y + 1) / 2 * (high - low) + low


def torchscript(file: Path) -> Any:
    return formats.FORMATS["torchscript"].run(file)  # type: ignore[misc]


def checkpoint(folder: Path, spec: Spec, size: tuple[int, int], values: Mapping[str, Values] | None = None) -> Path:
    """A checkpoint of a model with drawn weights, and with others for their average."""
    torch.manual_seed(0)
    model = spec.build()
    for module in model.modules():  # as a training leaves them
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    described = {
        "model": spec.to_json(),
        "size": list(size),
        "labels": {letter: f"label of {letter}" for letter in model.channels},
        "values": {letter: each.to_json() for letter, each in (values or {}).items()},
    }
    average = {
        name: tensor * 1.5 if tensor.is_floating_point() else tensor for name, tensor in weights_of(model).items()
    }
    return save(folder, 7, model=model, description=described, optimizers={}, average=average, keep=2)


def unit(channels: Mapping[str, int], encoder: Spec = TINY, generator: Spec = BACK, **more: Any) -> Spec:
    given = {"encoder": encoder, "generator": generator, "discriminator": SEES, "sharing": ALONE, **more}
    return models.spec("unit", channels=dict(channels), **given)


MUNIT = models.spec(
    "munit",
    channels={"a": 3, "b": 1},
    encoder=TINY,
    style_encoder=encoders.spec("style", width=4, downs=3),
    generator=generators.spec("adain", blocks=2, mlp=8),
    discriminator=SEES,
    sharing=ALONE,
)
LENET = encoders.spec("lenet", width=4, code=16)
DIGITS = generators.spec("conv32", width=4, init="kaiming")
SEES_DIGITS = discriminators.spec("conv32", width=4)
ALL = sharing.spec("all")
# (model, size of its training's images, path)
MODELS: dict[str, tuple[Spec, tuple[int, int], str]] = {
    "tied": (unit({"a": 3, "b": 1}, sharing=sharing.spec("tie", encoder=1, generator=1)), (16, 16), "aba"),
    "one network": (
        unit({"a": 3, "b": 3}, generator=generators.spec("residual", width=4, blocks=1, up="smooth"), sharing=ALL),
        (16, 16),
        "aba",
    ),
    "norms everywhere": (
        unit(
            {"a": 1, "b": 3},
            encoders.spec("residual", width=4, blocks=1, norm=True),
            generators.spec("residual", width=4, blocks=1, norm=True, kernel=4),
        ),
        (16, 16),
        "ab",
    ),
    "reflections": (
        unit(
            {"a": 3, "b": 3},
            encoders.spec("residual", width=4, blocks=1, padding="reflect"),
            generators.spec("upsampling", blocks=1, padding="reflect"),
        ),
        (16, 16),
        "b/ab",
    ),
    "placed": (
        unit(
            {"a": 3, "b": 3},
            encoders.spec("residual", width=4, blocks=1, placed=True),
            generators.spec("residual", width=4, blocks=1, placed=True),
        ),
        (16, 16),
        "ab",
    ),
    "doublings": (unit({"a": 3, "b": 3}, generator=generators.spec("upsampling", blocks=1)), (16, 16), "ab"),
    "styles": (MUNIT, (16, 16), "ab"),
    "its own style": (MUNIT, (16, 16), "aba"),
    "timm": (unit({"a": 3, "b": 3}, encoders.spec("timm", backbone="resnet18", width=8, blocks=1)), (32, 32), "ab"),
    "digits": (
        unit(
            {"a": 1, "b": 1},
            encoders.spec("conv32", width=4, coordinates=True, init="kaiming"),
            DIGITS,
            discriminator=SEES_DIGITS,
        ),
        (32, 32),
        "ab",
    ),
    "dtn": (
        models.spec("dtn", channels={"a": 1, "b": 1}, encoder=LENET, generator=DIGITS, discriminator=SEES_DIGITS),
        (32, 32),
        "ab",
    ),
}


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The path ab of the trained run in the three formats that run without unitkit, in a folder of their own."""
    folder = tmp_path_factory.mktemp("exported")
    files = {name: folder / f"ab{suffix}" for name, suffix in (("onnx", ".onnx"), ("pt2", ".pt2"), ("pt", ".pt"))}
    for file in files.values():
        answer = unitkit("export", trained, file)
        assert answer.status == 0, answer.err
        assert "of 255" in answer.out and "3 of 16x16 and 1 of 13x11" in answer.out and str(file) in answer.out
        assert "noise" not in answer.out and not answer.err
    assert sorted(each.name for each in folder.iterdir()) == ["ab.onnx", "ab.pt", "ab.pt2"]
    return files


def test_onnx_computes_the_model_in_any_batch_and_size(exported: dict[str, Path], trained: Path) -> None:
    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    translator = kit.load(trained, device="cpu")
    for batch in images(3):
        (found,) = session.run(None, {"images": batch})
        np.testing.assert_allclose(found, model_of(translator, "ab", batch), atol=0.01)
        one = np.asarray(translator.translate(batch[0].transpose(1, 2, 0).astype(np.uint8), "ab"))
        assert np.abs(found[0].transpose(1, 2, 0).round() - one).max() <= 1
    said = json.loads(session.get_modelmeta().custom_metadata_map["unitkit"])
    assert said["labels"] == {"a": "plain", "b": "glasses"} and said["path"] == "ab" and said["step"] == 12
    assert said["recipe"] == "tiny" and said["weights"] == "last" and said["precision"] == "fp32"
    assert said["input"]["low"] == [0] and said["input"]["high"] == [255] and said["input"]["channels"] == 3
    assert said["size"] is None and said["stride"] == 4
    nodes = onnx.load(exported["onnx"]).graph.node
    assert {node.domain for node in nodes} == {""} and not [node for node in nodes if node.metadata_props]


def test_files_of_torch_compute_the_model_where_unitkit_cannot_be_imported(
    exported: dict[str, Path], trained: Path, tmp_path: Path
) -> None:
    batches = images(3)
    np.savez(tmp_path / "images.npz", *batches)
    code = BLOCKED + (
        "import json, warnings, numpy as np, torch\n"
        "warnings.simplefilter('ignore')\n"
        "pt2, pt, images, found = sys.argv[1:]\n"
        "extra, extra_2 = {'unitkit.json': ''}, {'unitkit.json': ''}\n"
        "networks = [torch.export.load(pt2, extra_files=extra).module(), torch.jit.load(pt, _extra_files=extra_2)]\n"
        "assert json.loads(extra['unitkit.json']) == json.loads(extra_2['unitkit.json'])\n"
        "batches = [torch.from_numpy(each) for each in np.load(images).values()]\n"
        "np.savez(found, *[network(each).detach().numpy() for network in networks for each in batches])\n"
        "print(extra['unitkit.json'])\n"
    )
    words = [exported["pt2"], exported["pt"], tmp_path / "images.npz", tmp_path / "found.npz"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"]["label"] == "glasses"
    translator = kit.load(trained, device="cpu")
    found = list(np.load(tmp_path / "found.npz").values())
    assert len(found) == 2 * len(batches)
    for batch, one in zip(batches * 2, found, strict=True):
        np.testing.assert_allclose(one, model_of(translator, "ab", batch), atol=0.01)


def test_the_graph_has_operators_of_torch_alone_and_what_the_path_needs(exported: dict[str, Path]) -> None:
    program = torch.export.load(exported["pt2"])
    called = [node for node in program.graph.nodes if node.op == "call_function"]
    spaces = {node.target.namespace for node in called if hasattr(node.target, "namespace")}
    assert spaces == {"aten"} and not [node for node in called if "assert" in str(node.target)]
    assert not [name for name in program.state_dict if "discriminator" in name]
    parts = {name.split(".")[1] + "." + name.split(".")[2] for name in program.state_dict if name.startswith("model.")}
    assert parts == {"encoders.a", "generators.b"}


def test_no_file_says_where_it_was_made(exported: dict[str, Path]) -> None:
    import zipfile

    for file in exported.values():
        archive = zipfile.ZipFile(file) if zipfile.is_zipfile(file) else None
        texts = [archive.read(each) for each in archive.namelist()] if archive else [file.read_bytes()]
        places = (str(Path(kit.__file__).parents[1]), str(Path(torch.__file__).parents[1]))
        assert not [place for place in places for text in texts if place.encode() in text], file


def test_the_page_translates_with_onnxruntime_numpy_and_pillow(
    exported: dict[str, Path], trained: Path, tmp_path: Path
) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert set(re.findall(r"^(?:import|from) (\w+)", snippet, re.MULTILINE)) == {"numpy", "onnxruntime", "PIL"}
    (tmp_path / "ab.onnx").write_bytes(exported["onnx"].read_bytes())
    photo = Image.fromarray(images(3, sizes=((1, 37, 22),))[0][0].transpose(1, 2, 0).astype(np.uint8))
    photo.save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED + snippet], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    expected = np.asarray(kit.load(trained, device="cpu").translate(photo, "ab"), int)
    assert np.abs(np.asarray(Image.open(tmp_path / "translated.png"), int) - expected).max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_every_model_and_part_is_exported(name: str, tmp_path: Path) -> None:
    spec, size, path = MODELS[name]
    folder = checkpoint(tmp_path / "checkpoints", spec, size)
    done = kit.export(folder, tmp_path / "x.pt", path)
    assert not done.difference.held_out and "noise" in done.notes[0]
    translator = kit.load(folder, device="cpu")
    run = torchscript(tmp_path / "x.pt")
    one_size = translator.model.size
    assert done.about["size"] == (list(one_size) if one_size else None)
    for batch in images(translator.model.channels[path[0]], sizes=((1, *size), (2, *size)) if one_size else SIZES[:3]):
        expected = model_of(translator, path, batch)
        assert expected.std() > 0.5  # of something
        np.testing.assert_allclose(run(batch), expected, atol=0.05)


def test_all_parts_are_among_them() -> None:
    named = json.dumps([spec.to_json() for spec, _, _ in MODELS.values()])
    for kind in "encoder", "generator":
        missing = [name for name in REGISTRIES[kind].parts if f'"name": "{name}"' not in named]
        assert not missing, missing


LAYERS: dict[type[nn.Module], nn.Module] = {
    InstanceNorm: InstanceNorm(),
    LayerNorm: LayerNorm(4),
    BatchNorm: BatchNorm(4),
    ShiftNorm: ShiftNorm(4),
    Reflect: Reflect(2),
    AdaptiveResidual: AdaptiveResidual(4),
    Conv2d: Conv2d(4, 256, 16, padding=6),  # of so many weights, for so few pixels, that it is a product of matrices
    PixelwiseTransposed: PixelwiseTransposed(4, 3),
    Doubling: Doubling(4, 2),
}


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
def test_plain_layers_compute_what_ours_do(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind].eval()
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 2)
    x = torch.randn(2, 4, 6, 5)
    value = (x, torch.randn(2, 20)) if kind is AdaptiveResidual else x
    network = nn.Sequential(layer, nn.ModuleList([layer]))
    with torch.no_grad():
        expected = layer(value)
        make_plain(network)
        found = network[0](value)
    assert type(network[0]) is not kind and network[1][0] is network[0]  # one that is shared stays so
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_values_of_other_ranges_and_channels(tmp_path: Path) -> None:
    values = {
        "a": Values("float32", (-1000.0, 0.0, -1.0, 3.0, 0.0), (400.0, 1.0, 1.0, 4.0, 9.0), nan=-1.0),
        "b": Values("uint16", (100.0,), (60000.0,)),
    }
    folder = checkpoint(tmp_path / "checkpoints", unit({"a": 5, "b": 1}), (16, 16), values)
    about = kit.export(folder, tmp_path / "x.pt", "ab").about
    assert about["input"]["low"] == [-1000, 0, -1, 3, 0] and about["input"]["nan"] == -1 and not about["input"]["whole"]
    assert about["output"]["high"] == [60000] and about["output"]["dtype"] == "uint16" and about["output"]["whole"]
    translator, run = kit.load(folder, device="cpu"), torchscript(tmp_path / "x.pt")
    for batch in images(5, -1500, 500, SIZES[:2]):  # beyond the range, too
        expected = model_of(translator, "ab", batch)
        assert expected.std() > 100
        np.testing.assert_allclose(run(batch), expected, atol=0.05 * 60000 / 255)
        broken = np.where(batch > 400, np.float32("nan"), batch)
        np.testing.assert_array_equal(run(broken), run(np.where(batch > 400, np.float32(-1), batch)))


def test_values_end_where_their_range_does() -> None:
    model = unit({"a": 3, "b": 3}).build().eval()
    model.generators["b"].stages[-1][-1] = nn.Identity()  # no tanh
    model.generators["b"].stages[-1][0].weight.data *= 10
    network = Portable(model, "ab", Values(), Values("uint8", (10.0,), (20.0,)), styles={}, least=8)
    found = network(torch.from_numpy(images(3)[0]))
    assert found.min() == 10 and found.max() == 20


def test_weights_are_the_average_or_the_last(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoints", unit({"a": 3, "b": 3}), (16, 16))
    (batch,) = images(3, sizes=SIZES[:1])
    found = {}
    for weights in "ema", "last":
        answer = unitkit("export", folder, tmp_path / f"{weights}.pt", "--weights", weights)
        assert answer.status == 0, answer.err
        assert ("moving average" in answer.out) == (weights == "ema")
        found[weights] = torchscript(tmp_path / f"{weights}.pt")(batch)
        expected = model_of(kit.load(folder, device="cpu", weights=weights), "ab", batch)
        np.testing.assert_allclose(found[weights], expected, atol=0.01)
    assert np.abs(found["ema"] - found["last"]).max() > 1


def test_styles_are_fixed(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoints", MUNIT, (16, 16))
    translator = kit.load(folder, device="cpu")
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "like.png")
    (batch,) = images(3, sizes=((2, 16, 16),))
    mean = np.zeros((1, 8, 1, 1), np.float32)
    expected = {
        (): torch.from_numpy(mean),
        ("--seed", 5): translator.drawn_style("b", 5),
        ("--style", tmp_path / "like.png"): translator.style(tmp_path / "like.png", "b"),
    }
    found = []
    for words, style in expected.items():
        answer = unitkit("export", folder, tmp_path / "x.pt", *words)
        assert answer.status == 0, answer.err
        found.append(torchscript(tmp_path / "x.pt")(batch))
        like = model_of(translator, "ab", batch, **{"style:b": style.expand(2, -1, -1, -1)})
        np.testing.assert_allclose(found[-1], like, atol=0.05)
    assert all(np.abs(one - two).max() > 0.5 for one, two in [found[:2], found[1:], found[::2]])
    one_line(unitkit("export", folder, tmp_path / "y.pt", "--seed", 5, "--style", "x.png"), "not both")


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_precisions_are_of_the_weights(precision: str, tmp_path: Path, trained: Path) -> None:
    done = kit.export(trained, tmp_path / "x.pt", "ab", precision=precision)
    assert 1e-3 < done.difference.largest < check.TOLERANCE[precision]
    kinds = {p.dtype for p in torch.jit.load(tmp_path / "x.pt").parameters()}  # type: ignore[no-untyped-call]
    assert kinds == {{"fp16": torch.float16, "bf16": torch.bfloat16}[precision]}
    assert torchscript(tmp_path / "x.pt")(images(3)[0]).dtype == np.float32


def test_metrics_of_the_path_are_printed_for_both(tmp_path: Path, trained: Path) -> None:
    answer = unitkit("export", trained, tmp_path / "x.pt", "--path", "aa")
    assert answer.status == 0, answer.err
    entry = json.loads((trained / "metrics.json").read_text())["evaluations"][-1]
    (figure,) = entry["metrics"]["psnr(aa, a)"]["figures"].values()
    (row,) = [line for line in answer.out.splitlines() if "psnr" in line]
    assert [float(each) for each in re.findall(r"\d+\.\d{4}", row)] == pytest.approx([figure, figure], abs=2e-4)


def test_images_that_are_gone_or_broken_end_no_export(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    data, run = tmp_path / "data", tmp_path / "run"
    for label in "one", "two":
        for split, count in ("train", 2), ("test", 6):
            (data / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(data / split / label / f"{i}.png")
    answer = unitkit("train", TINY_RECIPE, f"data={data}", "steps=1", "augment=False", "--out", run)
    assert answer.status == 0, answer.err

    def notes(held_out: bool) -> str:
        done = kit.export(run, tmp_path / "x.pt", "aa")
        assert done.difference.held_out == held_out and not done.figures
        assert str(data) in done.notes[-1] and done.file.is_file()
        return done.notes[-1]

    for broken, held_out, said in ("4.png", True, "metrics are not measured"), ("1.png", False, "compared on noise"):
        file = data / "test" / "one" / broken
        file.write_bytes(file.read_bytes()[:60])
        assert said in notes(held_out)
    data.rename(tmp_path / "moved")
    assert "compared on noise, for want of the run's images" in notes(False)


def test_a_file_of_weights_is_loaded_and_translates(tmp_path: Path, trained: Path) -> None:
    file = tmp_path / "ab.safetensors"
    assert kit.export(trained, file, "ab").difference.largest == 0
    names = list(load_file(file))
    assert names and all(name.startswith(("encoders.a.", "generators.b.")) for name in names)
    assert json.loads(safe_open(file, "pt").metadata()["unitkit"])["path"] == "ab"
    photo = trained / "samples" / "step-00000012.png"
    answer = unitkit("translate", file, "ab", photo, tmp_path / "one.png")
    assert answer.status == 0, answer.err
    assert unitkit("translate", trained, "ab", photo, tmp_path / "two.png").status == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    one_line(unitkit("translate", file, "ba", photo, tmp_path / "x.png"), "'ba' is not an image path here", "ab")


# What becomes of the metadata, and what the message says besides the file's name.
DAMAGE: dict[str, tuple[Callable[[dict[str, str]], dict[str, str]], str]] = {
    "no metadata": (lambda said: {}, "model.json"),
    "no description": (lambda said: {"model.json": said["model.json"]}, "unitkit"),
    "no JSON": (lambda said: {**said, "unitkit": "path=ab"}, "cannot use"),
    "no path": (lambda said: {**said, "unitkit": '{"path": 3, "weights": "ema"}'}, "path: Expected"),
    "no weights": (lambda said: {**said, "unitkit": '{"path": "ab"}'}, "weights"),
    "no model": (lambda said: {**said, "model.json": "{}"}, "cannot use"),
    "another path": (lambda said: {**said, "unitkit": said["unitkit"].replace('"ab"', '"aba"')}, "only one of them"),
    "no such path": (lambda said: {**said, "unitkit": said["unitkit"].replace('"ab"', '"a?"')}, "no"),
    "another model": (lambda said: {**said, "model.json": said["model.json"].replace(": 4", ": 8")}, "shape"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_weights_is_refused_in_a_line(damage: str, tmp_path: Path, trained: Path) -> None:
    file = tmp_path / "ab.safetensors"
    kit.export(trained, file, "ab")
    change, words = DAMAGE[damage]
    save_file(load_file(file), file, change(safe_open(file, "pt").metadata()))
    with pytest.raises(UserError) as error:
        kit.load(file, device="cpu")
    assert str(file) in str(error.value) and words in str(error.value) and "\n" not in str(error.value)


def test_the_weights_that_a_file_has_not_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoints", unit({"a": 3, "b": 3}), (16, 16))
    file = tmp_path / "ab.safetensors"
    kit.export(folder, file, "ab")
    with pytest.raises(UserError, match="moving average"):
        kit.load(file, device="cpu", weights="last")
    with pytest.raises(UserError, match="ema or last"):
        kit.load(file, device="cpu", weights="lst")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.pt", "--path", "ax"], ["'ax' is not an image path"]),
        (["x.pt", "--path", "a"], ["'a' is not a translation"]),
        (["x.pt", "--path", "class:a"], ["give an image path"]),
        (["x.gif"], ["suffix", ".onnx", ".pt2"]),
        (["x"], ["suffix"]),
        (["x.onnx", "--format", "pt2"], ["onnx", "--format says pt2"]),
        (["x.bin", "--format", "onx"], ["unknown format 'onx'", "Did you mean 'onnx'?"]),
        (["x.onnx", "--precision", "bf16"], ["onnx", "bf16", "fp32 and fp16"]),
        (["x.safetensors", "--precision", "fp16"], ["safetensors", "fp32"]),
        (["x.pt", "--precision", "fp8"], ["unknown precision 'fp8'"]),
        (["x.pt", "--weights", "best"], ["weights are ema or last"]),
        (["x.pt", "--seed", "1"], ["no styles"]),
        (["file/x.pt"], ["cannot write"]),
        (["x.pt/"], ["cannot write"]),
    ],
    ids=" ".join,
)
def test_mistakes_are_a_line(words: list[str], said: list[str], tmp_path: Path, trained: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "x.pt").mkdir() if words[0] == "x.pt/" else None
    one_line(unitkit("export", trained, tmp_path / words[0], *words[1:]), *said)
    assert sorted(each.name for each in tmp_path.iterdir()) == (["file", "x.pt"] if words[0] == "x.pt/" else ["file"])


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unitkit.exporting.export.load", lambda *_, **__: pytest.fail("the work has begun"))
    (tmp_path / "file").write_text("")
    one_line(unitkit("export", trained, tmp_path / "file" / "x.pt"), "cannot write")


def test_runs_that_are_none_and_files_of_the_run_are_refused(tmp_path: Path, trained: Path) -> None:
    one_line(unitkit("export", tmp_path, tmp_path / "x.pt"), "not a run folder")
    own = trained / "checkpoints" / "x.pt"
    one_line(unitkit("export", trained, own), "the run's own checkpoints")
    assert not own.exists()


def test_a_missing_package_is_a_line_and_only_for_its_format(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = formats.FORMATS["onnx"].needs
    assert set(needs) == {"onnx", "onnxscript", "onnxruntime"}
    for missing in needs:
        monkeypatch.setattr(formats, "find_spec", lambda name, missing=missing: None if name == missing else name)
        one_line(
            unitkit("export", trained, tmp_path / "x.onnx"), f"onnx needs {missing}:", "pip install 'unitkit[export]'"
        )
        monkeypatch.setitem(sys.modules, missing, None)
    assert unitkit("export", trained, tmp_path / "x.pt").status == 0


def test_a_file_that_differs_is_not_written(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plain.RULES, InstanceNorm, lambda layer: nn.Identity())
    (tmp_path / "x.pt").write_text("what was there")
    one_line(unitkit("export", trained, tmp_path / "x.pt"), "of 255 from the model", "nothing is written")
    assert (tmp_path / "x.pt").read_text() == "what was there" and len(list(tmp_path.iterdir())) == 1


class Python(nn.Module):
    """A layer that leaves torch, and comes back with what it was at one size."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(x.detach().numpy().mean(keepdims=True))


def test_layers_that_cannot_be_followed_are_a_line(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plain.RULES, InstanceNorm, lambda layer: Python())
    one_line(unitkit("export", trained, tmp_path / "x.pt2"), "torch.export fails at the path 'ab'")
    one_line(unitkit("export", trained, tmp_path / "x.pt"), "of 255 from the model")
    assert not list(tmp_path.iterdir())
