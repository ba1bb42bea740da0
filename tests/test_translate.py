"""A trained model in use: pictures of any size and kind, tiles, folders, and three lines of Python."""

from __future__ import annotations

import shutil
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Moment, one_line, run, unitkit
from PIL import Image
from torch import Tensor, nn

import unitkit as kit
from unitkit import UserError, discriminators, encoders, generators, models, sharing
from unitkit.commands.translate import jobs
from unitkit.data.files.encode import write_image
from unitkit.data.files.pipeline import AHEAD, ahead, workers
from unitkit.data.files.scale import to_array
from unitkit.data.tensors import to_uint8
from unitkit.models.inference import Inference
from unitkit.networks.blending import TILE
from unitkit.networks.maps import Limits
from unitkit.system.devices import emulates_bf16
from unitkit.translate import Translator


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A random picture, uint8 (H, W) or (H, W, C)."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def same(one: Image.Image | np.ndarray, other: Image.Image | np.ndarray) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


class Patches(nn.Module):
    """A model without norm whose strided layers do not overlap: what it makes of a pixel hangs on its 4x4 patch."""

    channels, styles = {"a": 3, "b": 3}, {}
    stride, size, least = 4, None, 0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(3, 48, 4, stride=4), nn.ConvTranspose2d(48, 3, 4, stride=4)
        self.seen: list[tuple[int, int]] = []

    def check(self, path: str) -> None:
        pass

    def forward(self, x: Tensor, path: str) -> Tensor:
        self.seen.append((x.shape[2], x.shape[3]))
        found: Tensor = self.up(self.down(x).tanh())
        return found


def untrained(channels: dict[str, int]) -> Translator:
    spec = models.spec(
        "unit",
        channels=channels,
        encoder=encoders.spec("residual", width=4, blocks=1),
        generator=generators.spec("residual", width=4, blocks=1),
        discriminator=discriminators.spec("strided", width=4, layers=2),
        sharing=sharing.spec("none"),
    )
    torch.manual_seed(1)
    return Translator(spec.build(), {letter: letter for letter in channels})


@pytest.fixture(scope="module")
def translator(trained: Path) -> Translator:
    ours: Translator = kit.load(trained, device="cpu")
    return ours


def test_three_lines_of_python(trained: Path, tmp_path: Path) -> None:
    Image.fromarray(noise(37, 53)).save(tmp_path / "me.png")
    model = kit.load(trained)
    model.translate(tmp_path / "me.png", "ab").save(tmp_path / "translated.png")
    assert Image.open(tmp_path / "translated.png").size == (53, 37)
    assert model.route("aba") == "plain -> glasses -> plain"
    assert not model.model.training
    checkpoint = kit.load(trained / "checkpoints/step-00000012")
    assert same(checkpoint.translate(noise(8, 8), "ab"), model.translate(noise(8, 8), "ab"))
    assert not same(
        kit.load(trained / "checkpoints/step-00000009").translate(noise(8, 8), "ab"), model.translate(noise(8, 8), "ab")
    )


def test_translating_repeats_and_draws_nothing(translator: Translator) -> None:
    picture = noise(20, 24)
    before = torch.random.get_rng_state()
    assert same(translator.translate(picture, "ab"), translator.translate(picture, "ab"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not same(translator.translate(picture, "ab"), translator.translate(picture, "aa"))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (4, 4), (5, 7), (16, 16), (37, 53), (513, 9)])
def test_every_size_comes_back_as_it_was(translator: Translator, size: tuple[int, int]) -> None:
    found = translator.translate(noise(*size), "ab")
    assert (found.height, found.width, found.mode) == (*size, "RGB")


def test_a_size_that_the_strides_divide_is_not_touched(translator: Translator) -> None:
    picture = noise(16, 24)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = ((translator.model(x, "ab")[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
    assert np.abs(np.asarray(translator.translate(picture, "ab")).astype(int) - expected.numpy()).max() <= 1


# Kinds of pictures


@pytest.mark.parametrize("path", ["ab", "ba", "aa", "bab"])
def test_domains_of_one_and_of_three_channels(path: str) -> None:
    ours = untrained({"a": 1, "b": 3})
    for mode in ("L", "LA", "RGB", "RGBA", "P", "1", "I;16", "CMYK", "PA"):
        picture = Image.fromarray(noise(10, 6) // 2).convert("L" if mode == "I;16" else "RGB")
        found = ours.translate(picture.convert(mode), path)
        if mode == "I;16":
            assert isinstance(found, np.ndarray) and found.dtype == np.uint16
            assert found.shape == (10, 6, 1 if path[-1] == "a" else 3)
        else:
            assert isinstance(found, Image.Image)
            assert (found.size, found.mode) == ((6, 10), "L" if path[-1] == "a" else "RGB"), mode


def test_files_images_and_arrays_are_translated_alike(translator: Translator, tmp_path: Path) -> None:
    pictures = {
        "RGB": Image.fromarray(noise(12, 9)),
        "L": Image.fromarray(noise(12, 9, 1)),
        "RGBA": Image.fromarray(noise(12, 9, 4)),
        "I;16": Image.fromarray(noise(12, 9, 1).astype(np.uint16) * 257),
    }
    for mode, picture in pictures.items():
        assert picture.mode == mode
        picture.save(tmp_path / "x.png")
        found = [translator.translate(tmp_path / "x.png", "ab"), translator.translate(str(tmp_path / "x.png"), "ab")]
        found += [translator.translate(picture, "ab")]
        found += [translator.translate(np.asarray(picture), "ab")] if mode != "I;16" else []
        assert all(same(found[0], other) for other in found[1:]), mode
    grey = noise(12, 9, 1)
    assert same(translator.translate(grey, "ab"), translator.translate(grey[..., None], "ab"))


def test_pictures_that_exif_turns(translator: Translator, tmp_path: Path) -> None:
    turned, exif = Image.fromarray(noise(9, 14)), Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = turned.transpose(Image.Transpose.ROTATE_270)
    expected = translator.translate(upright, "ab")
    assert expected.size == (9, 14)
    assert same(translator.translate(tmp_path / "turned.png", "ab"), expected)
    with Image.open(tmp_path / "turned.png") as opened:
        assert same(translator.translate(opened, "ab"), expected)
    write_image([to_array(expected)], tmp_path / "out.jpg")
    assert Image.open(tmp_path / "out.jpg").getexif().get(0x0112) is None  # upright pixels, and no turn noted


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 4, 3), 1.5, np.float32),
        np.full((4, 4, 3), np.nan, np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), object),
        np.zeros((4, 4), complex),
        np.full((4, 4), "x"),
    ],
)
def test_arrays_that_are_no_pictures(translator: Translator, array: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"is no image: give numbers|the image 'given' (has|holds)"):
        translator.translate(array, "ab")


# Pictures larger than a tile


@pytest.mark.parametrize("size", [(1100, 1500), (513, 512), (512, 961), (30, 1025), (1027, 2)])
def test_tiles_equal_the_whole(size: tuple[int, int]) -> None:
    model = Patches()
    ours, picture = Translator(model, {"a": "a", "b": "b"}), noise(*size)
    found = np.asarray(ours.translate(picture, "ab")).astype(int)
    assert max(max(seen) for seen in model.seen) <= TILE
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    below, right = max(-size[0] % 4, 8 - size[0]), max(-size[1] % 4, 8 - size[1])
    with torch.no_grad():
        whole = model(nn.functional.pad(x, (0, right, 0, below), mode="replicate"), "ab")
    expected = ((whole[0, :, : size[0], : size[1]].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).int().numpy()
    assert np.abs(found - expected).max() <= 1


def test_the_memory_of_a_large_picture_is_bounded() -> None:
    """At most 32 bytes a pixel beside what the network takes for one tile, as the docstring says."""

    class Same(Patches):
        def forward(self, x: Tensor, path: str) -> Tensor:
            self.seen.append((x.shape[2], x.shape[3]))
            return x

    peaks = []
    for height, width in (600, 700), (2400, 2100):
        ours, picture = Translator(Same(), {"a": "a", "b": "b"}), noise(height, width)
        tracemalloc.start()
        found = ours.translate(picture, "ab")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert same(found, picture)
    assert (peaks[1] - peaks[0]) / (2400 * 2100 - 600 * 700) < 32


def test_a_trained_network_in_tiles_shows_no_seams(translator: Translator) -> None:
    """Noise of one kind everywhere: what tiles make of it differs from place to place no more than within a tile."""
    picture = np.tile(noise(32, 32), (20, 40, 1))[:600, :1100]
    found = np.asarray(translator.translate(picture, "ab")).astype(float)
    columns = np.abs(np.diff(found, axis=1)).mean(axis=(0, 2))
    inside = columns[100:400]
    assert columns[8:-8].max() < 1.5 * inside.max()


@pytest.mark.parametrize("path", ["ab", "aba"])
def test_a_large_picture_is_one_pass_over_the_whole(path: str) -> None:
    ours, picture = untrained({"a": 3, "b": 3}), noise(70, TILE + 3)
    ours.inference.limits = Limits(tile=2**18)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        whole = ours.model(nn.functional.pad(x, (0, -(TILE + 3) % 4, 0, -70 % 4), mode="replicate"), path)
    expected = to_uint8(whole[:, :, :70, : TILE + 3])[0].transpose(1, 2, 0).astype(int)
    assert np.abs(np.asarray(ours.translate(picture, path)) - expected).max() <= 1
    assert not ours.inference.notes


def test_a_model_that_tiles_do_not_know_is_blended_and_said_so_once() -> None:
    ours = Translator(Patches(), {"a": "a", "b": "b"})
    assert [ours.translate(noise(10, TILE + 1), "ab").size for _ in range(2)] == [(TILE + 1, 10)] * 2
    (note,) = ours.inference.notes
    assert "blended tiles" in note and note.endswith("a module with a tiling.rule would be known")


# Many pictures


def test_a_list_is_translated_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = untrained({"a": 3, "b": 3})
    sizes = [(20, 24)] * 3 + [(8, 8)] + [(20, 24)] * 2 + [(TILE + 1, 6)]
    pictures = [noise(*size, seed=number) for number, size in enumerate(sizes)]
    seen: list[int] = []
    real = Inference.translate
    monkeypatch.setattr(Inference, "translate", lambda self, x, *rest: seen.append(len(x)) or real(self, x, *rest))
    found = ours.translate(list(pictures), "ab")
    assert seen == [3, 1, 2, 1]
    for each, picture in zip(found, pictures, strict=True):
        assert np.abs(np.asarray(each).astype(int) - np.asarray(ours.translate(picture, "ab"))).max() <= 1
    assert ours.translate([], "ab") == []


def test_many_pictures_of_any_kind_come_one_by_one(translator: Translator, tmp_path: Path) -> None:
    """Files, images and arrays, grey, in colours and of 16 bits, each as alone, and no more in memory than a batch."""
    Image.fromarray(noise(12, 9)).save(tmp_path / "x.png")
    deep = noise(12, 9).astype(np.uint16) * 257
    kinds = [tmp_path / "x.png", Image.fromarray(noise(20, 24, 1)), noise(12, 9, 4), noise(12, 9, 1), deep]
    given = [*kinds, *kinds]
    taken = []

    def pictures() -> Iterator[Any]:
        for each in given:
            taken.append(each)
            yield each
        raise UserError("damaged")

    found = translator.translate_all(pictures(), "ab")
    assert not taken and next(found) and len(taken) == 2
    rest = []
    with pytest.raises(UserError, match="damaged"):
        for each in found:
            rest.append(each)
    for each, picture in zip(rest, given[1:], strict=True):
        alone = translator.translate(picture, "ab")
        assert type(each) is type(alone)
        assert np.abs(np.asarray(each).astype(int) - np.asarray(alone)).max() <= 1
    with pytest.raises(UserError, match="'ax' is not an image path"):
        translator.translate_all([], "ax")


def test_batches_are_bounded_and_what_comes_before_a_bad_one_is_translated() -> None:
    ours = untrained({"a": 3, "b": 3})

    def pictures() -> Iterator[np.ndarray]:
        yield from (noise(8, 8, seed=number).transpose(2, 0, 1) for number in range(130))
        raise UserError("damaged")

    count = 0
    with pytest.raises(UserError, match="damaged"):
        for _ in ours.stream(pictures(), "ab", repeat(None)):
            count += 1
    assert count == 130


def test_results_of_the_background_come_in_order_and_before_a_failure() -> None:
    def task(number: int) -> Callable[[], int]:
        def work() -> int:
            time.sleep(0.01 * (number % 3 == 0))
            if number == 7:
                raise UserError("the seventh")
            return number

        return work

    for size in 1, AHEAD:
        found = []
        with workers() as pool, pytest.raises(UserError, match="the seventh"):
            for each in ahead(pool, map(task, range(10)), repeat(size)):
                found.append(each)
        assert found == list(range(7))

    def ends() -> Iterator[Callable[[], int]]:
        yield from map(task, range(5))
        raise UserError("no sixth")

    found = []
    with workers() as pool, pytest.raises(UserError, match="no sixth"):
        for each in ahead(pool, ends(), repeat(1)):
            found.append(each)
    assert found == list(range(5))


def test_a_folder_with_a_damaged_picture_has_those_before_it(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abcd":
        Image.fromarray(noise(8, 8)).save(tmp_path / f"in/{name}.png")
    whole = (tmp_path / "in/c.png").read_bytes()
    (tmp_path / "in/c.png").write_bytes(whole[: len(whole) // 2])
    answer = unitkit("translate", trained, "ab", tmp_path / "in", tmp_path / "out")
    assert answer.status == 2 and "c.png" in answer.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "b.png"]


def test_precision(trained: Path, tmp_path: Path) -> None:
    picture = noise(20, 24)
    Image.fromarray(picture).save(tmp_path / "x.png")
    exact = np.asarray(kit.load(trained, device="cpu").translate(picture, "ab")).astype(int)
    half = kit.load(trained, device="cpu", precision="bf16").translate(picture, "ab")
    assert not same(half, exact.astype(np.uint8)) and np.abs(np.asarray(half) - exact).mean() < 3
    answer = unitkit("translate", trained, "ab", tmp_path / "x.png", tmp_path / "y.png", "--precision", "bf16")
    assert answer.status == 0 and same(Image.open(tmp_path / "y.png"), half)
    emulated = emulates_bf16(torch.device("cpu"))
    assert kit.load(trained, device="cpu", precision="auto").inference.precision == ("fp32" if emulated else "bf16")
    with pytest.raises(UserError, match="unknown precision 'fp16'"):
        kit.load(trained, precision="fp16")


# Folders


def test_a_folder_keeps_its_names(trained: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    sizes = {"a.png": (9, 7), "b.JPG": (37, 53), "deep/down/a.webp": (16, 16), "deep/c.tiff": (5, 5), "d.bmp": (8, 3)}
    for name, size in sizes.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(*size)).save(source / name)
    (source / "notes.txt").write_text("no image")
    (source / ".hidden.png").write_bytes(b"")
    (source / "folder.png").mkdir()
    answer = unitkit("translate", trained, "ab", source, out)
    assert answer.status == 0, answer.err
    assert "5 images in" in answer.out
    made = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert made == {*sizes, "translations.jsonl"}
    for name, (height, width) in sizes.items():
        assert Image.open(out / name).size == (width, height)


def test_one_picture_to_a_file_or_into_a_folder(trained: Path, tmp_path: Path) -> None:
    Image.fromarray(noise(9, 7)).save(tmp_path / "x.png")
    (tmp_path / "there").mkdir()
    for target, made in (
        (tmp_path / "y.jpg", tmp_path / "y.jpg"),
        (tmp_path / "new/folder/y.PNG", tmp_path / "new/folder/y.PNG"),
        (tmp_path / "there", tmp_path / "there/x.png"),
    ):
        answer = unitkit("translate", trained, "ba", tmp_path / "x.png", target)
        assert answer.status == 0, answer.err
        assert Image.open(made).size == (7, 9)
    assert not list(tmp_path.rglob(".*"))


def test_ctrl_c_leaves_whole_pictures(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        Image.fromarray(noise(4, 4)).save(tmp_path / f"in/{name}.png")
    moments = [Moment("PIL.Image:Image.save", 2, (signal.SIGINT,))]
    answer = run(tmp_path / "log", "translate", trained, "ab", tmp_path / "in", tmp_path / "out", moments=moments)
    assert (answer.status, answer.err) == (130, "stopped\n")
    made = {path.name for path in (tmp_path / "out").iterdir()} - {"translations.jsonl"}
    assert "a.png" in made <= {"a.png", "b.png", "c.png"}  # what was being written is finished, and nothing else left
    for name in made:
        assert Image.open(tmp_path / "out" / name).convert("RGB").size == (4, 4)


def test_an_output_folder_inside_the_input_folder(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4)).save(tmp_path / "x.png")
    for _ in range(2):  # the second call finds the first one's output there
        assert jobs(tmp_path, tmp_path / "out") == [(tmp_path / "x.png", tmp_path / "out/x.png")]
        write_image([to_array(Image.fromarray(noise(4, 4)))], tmp_path / "out/x.png")


def test_an_input_that_is_the_output_by_another_name(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4)).save(tmp_path / "x.png")
    (tmp_path / "link").symlink_to(tmp_path)
    for target in tmp_path / "link", tmp_path / "link/x.png", tmp_path / "link/link":
        with pytest.raises(UserError, match="is the input"):
            jobs(tmp_path / "x.png", target)


def test_a_disk_that_is_full_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(noise(4, 4))
    write_image([to_array(picture)], tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()

    def full(self: Image.Image, file: Any, **options: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match=r"cannot write .*x.png: No space left on device"):
        write_image([to_array(picture)], tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_picture_that_its_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*wide\.webp"):
        write_image([to_array(Image.new("L", (17_000, 1)))], tmp_path / "wide.webp")
    with pytest.raises(UserError, match=r"cannot write .*wide\.jpg"):
        write_image([to_array(Image.new("L", (66_000, 1)))], tmp_path / "wide.jpg")
    assert not list(tmp_path.iterdir())


def test_a_model_moves_without_its_run(trained: Path, tmp_path: Path) -> None:
    """model.json and model.safetensors are all that it takes."""
    for name in "model.json", "model.safetensors":
        shutil.copy(trained / "checkpoints/step-00000012" / name, tmp_path / name)
    assert same(kit.load(tmp_path).translate(noise(8, 8), "ab"), kit.load(trained).translate(noise(8, 8), "ab"))


def test_no_output_is_another_input_or_another_output(tmp_path: Path) -> None:
    """Not only an output that is its own input: outputs that lie where other inputs do, in a folder or by links."""

    def picture(path: Path, value: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (value,) * 3).save(path)
        return path

    outer, inner = picture(tmp_path / "p/s/x.png", 1), picture(tmp_path / "p/s/s/x.png", 2)
    picture(tmp_path / "in/x.png", 3)
    picture(tmp_path / "in/sub/x.png", 4)
    (tmp_path / "to").mkdir()
    (tmp_path / "to/sub").symlink_to(tmp_path / "in")
    picture(tmp_path / "in2/x.png", 5)
    picture(tmp_path / "in2/sub/x.png", 6)
    (tmp_path / "to2").mkdir()
    (tmp_path / "to2/sub").symlink_to(tmp_path / "to2")
    for source, target, words in (
        (tmp_path / "p/s", tmp_path / "p", f"is the input {outer}"),
        (tmp_path / "in", tmp_path / "to", "is the input"),
        (tmp_path / "in2", tmp_path / "to2", "would both become"),
    ):
        with pytest.raises(UserError, match=words):
            jobs(source, target)
    assert len(jobs(inner.parent, tmp_path / "p2")) == 1


def test_a_folder_is_not_translated_into_the_name_of_an_image(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(4, 4)).save(tmp_path / "in/a.png")
    answer = unitkit("translate", trained, "ab", tmp_path / "in", tmp_path / "out.png")
    one_line(answer, "the output must be one", "out.png has the name of one")
    assert not (tmp_path / "out.png").exists()
