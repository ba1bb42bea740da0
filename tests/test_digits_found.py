"""Digits: the sampled protocol, where files are looked for and fetched, and the real ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import numpy as np
import pytest
from digit_files import (
    MNIST_TEST,
    MNIST_TRAIN,
    SIDES,
    SVHN_FIRST,
    USPS_TEST,
    USPS_TRAIN,
    cut_off,
    need,
    only,
    refused,
    rows,
    some,
    stack,
    write_bz2,
    write_idx,
    write_mat,
    write_npz,
    write_plain_idx,
)

from unitkit.data import digits, spec
from unitkit.system.errors import UserError


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(tmp_path, monkeypatch)


# The sampled protocol


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST with 2600 training images and USPS with 2100; class and row stand in an image's first pixels."""
    folder = tmp_path_factory.mktemp("numbered")
    splits = {}
    for name, n in (("mnist", 2600), ("usps", 2100)):
        images, classes = some(name, n)
        images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = classes, np.arange(n) // 256, np.arange(n) % 256
        splits[name] = images, classes
    write_plain_idx(folder, splits["mnist"], some("mnist", 30))
    write_npz("usps")(folder, splits["usps"], some("usps", 20))
    return folder


def test_sampled_counts_and_draws(numbered: Path) -> None:
    drawn = {}
    for seed in (0, 0, 1):
        data = only(numbered, "mnist", protocol="sampled", seed=seed)
        a, b = data.domains.values()
        found = rows(a.train)
        assert len(set(found)) == len(found) == 2000 and len(a.test) == len(b.test) == 30
        # Source and target are the same draw: an oracle sees what the other sees, with its classes.
        assert rows(b.train) == found and b.train_classes is None
        assert drawn.setdefault(seed, found) == found
        heads = [a.train.load(i)[0, 0, 0] for i in range(2000)]
        np.testing.assert_array_equal(a.train_classes, heads)
        assert data.name == "digits mnist -> mnist, sampled" and data.facts["protocol"] == "sampled"
        assert data.facts["domains"]["a"]["training_images"] == 2000
    assert drawn[0] != drawn[1] and 1450 < len(set(drawn[0]) & set(drawn[1])) < 1630  # 2000 * 2000 / 2600 = 1538
    # From the whole split, not its start: 2000 of 2600 rows have a mean of 1299.5 +- 8.
    assert abs(np.mean(drawn[0]) - 1299.5) < 40


def test_sampled_draws_hang_on_the_dataset_and_not_on_its_role(numbered: Path) -> None:
    options: dict[str, Any] = {"folder": str(numbered), "size": 28, "protocol": "sampled", "channels": 1}
    there = digits(source="mnist", target="usps", **options).domains
    back = digits(source="usps", target="mnist", **options).domains
    assert len(there["b"].train) == 1800 and len(there["b"].test) == 20
    assert there["a"].train.fingerprint() == back["b"].train.fingerprint()
    assert there["b"].train.fingerprint() == back["a"].train.fingerprint()
    assert there["b"].train_classes is None and back["b"].train_classes is None
    assert back["a"].train_classes is not None and len(back["a"].train_classes) == 1800


def test_sampled_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    refused("mnist and usps", "target is svhn", source="mnist", target="svhn", protocol="sampled")
    refused("mnist and usps", "source is rendered", target="usps", protocol="sampled")
    write_idx(tmp_path, some("mnist", 30), some("mnist", 10))
    refused("2000", "30", source="mnist", target="mnist", protocol="sampled", folder=str(tmp_path))


# Where files are looked for


def test_arguments_that_cannot_be() -> None:
    refused("'minst'", "Did you mean 'mnist'?", source="minst")
    refused("target 'minst'", target="minst")
    refused("protocol 'sample'", "sampled", protocol="sample")
    refused("domains", "3 are needed", domains=3)
    refused("channels=2", channels=2)
    refused("0x8", size=(0, 8))
    refused("seed=-1", seed=-1)
    refused("n=0", n=0)
    refused("4x4", "8 or more", size=4)
    with pytest.raises(UserError, match="source to be"):
        spec("digits", source="minst")


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    refused("no folder", "mnist", "train-images-idx3-ubyte", source="mnist", folder=str(tmp_path / "none"))
    (tmp_path / "notes.txt").write_text("")
    message = refused("notes.txt", "usps.npz", "usps.h5", "usps.bz2", source="usps", folder=str(tmp_path))
    assert str(tmp_path / "usps") in message and "download" not in message
    (tmp_path / "usps").mkdir()
    (tmp_path / "usps" / "usps.zip").write_text("")
    refused("usps.zip", "notes.txt", source="usps", folder=str(tmp_path))
    (tmp_path / "svhn").mkdir()
    write_mat(tmp_path / "svhn", some("svhn", 3), some("svhn", 3))
    (tmp_path / "svhn" / "train_32x32.mat").unlink()
    refused("train_32x32.mat", "holds: test_32x32.mat", source="svhn", folder=str(tmp_path))


@pytest.mark.parametrize("name", SIDES)
def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("UNITKIT_DATA", str(tmp_path / "mine"))
    cache = tmp_path / "cache" / "unitkit" / "digits"
    places = [tmp_path / "mine" / name, tmp_path / "mine", cache / name, cache]
    refused(*(f"'{place}'" for place in places), "no route to host", "data=FOLDER", "npz", source=name)
    assert list(cache.iterdir()) == []  # what failed leaves nothing


def test_the_variable_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, cache, given = (tmp_path / part for part in ("mine", "cache/unitkit/digits/usps", "given"))
    for folder, n in ((mine, 10), (cache, 20), (given, 30)):
        folder.mkdir(parents=True)
        write_npz("usps")(folder, some("usps", n), some("usps", 5))
    assert len(digits(source="usps").domains["a"].train) == 20
    monkeypatch.setenv("UNITKIT_DATA", str(mine))
    assert len(digits(source="usps").domains["a"].train) == 10
    assert len(digits(source="usps", folder=str(given)).domains["a"].train) == 30


class Answer(io.BytesIO):
    """What a server sends."""

    def __init__(self, url: str, content: bytes) -> None:
        super().__init__(content)
        self.url, self.length = url, len(content)


def test_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    server, asked = tmp_path / "server", []
    server.mkdir()
    splits = {name: (some(name, 12), some(name, 6)) for name in SIDES}
    write_idx(server, *splits["mnist"])
    write_bz2(server, *splits["usps"])
    write_mat(server, *splits["svhn"])

    def urlopen(request: Request, *args: object) -> Answer:
        asked.append(request.full_url)
        if "ossci" in request.full_url:  # the first of two mirrors
            raise URLError("down")
        return Answer(request.full_url, (server / request.full_url.rpartition("/")[2]).read_bytes())

    def md5(name: str) -> str:
        return hashlib.md5((server / name).read_bytes()).hexdigest()

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    cache = tmp_path / "cache" / "unitkit" / "digits"
    # These are not the published files: the download is refused.
    refused("the download failed", "usps.t.bz2", "data=FOLDER", source="usps")
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, md5(name)) for name, _ in datasets.MNIST.resources])
    for dataset in (datasets.USPS, datasets.SVHN):
        listed = {
            split: [url, file, md5(file)] for split, (url, file, _) in dataset.split_list.items() if split != "extra"
        }
        monkeypatch.setattr(dataset, "split_list", listed)
    for name, (train, test) in splits.items():
        data = digits(source=name, target=name, size=SIDES[name], padding=False)  # type: ignore[arg-type]
        np.testing.assert_array_equal(stack(data.domains["a"].train), train[0])
        np.testing.assert_array_equal(data.domains["b"].test_classes, test[1])
    assert sorted(path.name for path in cache.iterdir()) == sorted(SIDES)
    before = len(asked)
    digits(source="usps", target="svhn")
    assert len(asked) == before  # once there, the network is left alone


# The real files


def histogram(classes: np.ndarray | None) -> list[int]:
    assert classes is not None and classes.dtype == np.int64
    return np.bincount(classes, minlength=10).tolist()


def test_real_counts_classes_and_checksums() -> None:
    folder = need("mnist", "usps")
    began = time.process_time()  # others may be using the machine
    data = digits(source="mnist", target="usps", folder=folder)
    assert time.process_time() - began < 2
    a, b = data.domains.values()
    assert [len(split) for split in (a.train, a.test, b.train, b.test)] == [60000, 10000, 7291, 2007]
    assert histogram(a.train_classes) == MNIST_TRAIN and histogram(a.test_classes) == MNIST_TEST
    assert histogram(b.test_classes) == USPS_TEST and b.train_classes is None
    assert data.name == "digits mnist -> usps, full, usps with padding" and data.channels == {"a": 1, "b": 1}
    facts = data.facts["domains"]
    assert facts["a"]["checksum"] == "published" and facts["b"]["checksum"] == "unverified"
    assert len(facts["a"]["files"]) == 4 and facts["b"]["files"] == ["usps.npz"]
    assert data.domains["a"].train.load(59999).shape == (1, 32, 32)
    back = digits(source="usps", target="mnist", folder=folder, protocol="sampled")
    assert [len(d.train) for d in back.domains.values()] == [1800, 2000]
    assert [len(d.test) for d in back.domains.values()] == [2007, 10000]
    assert histogram(digits(source="usps", folder=folder).domains["a"].train_classes) == USPS_TRAIN
    assert back.facts["domains"]["b"]["checksum"] == "published" and len(back.facts["domains"]["b"]["files"]) == 3


def test_real_house_numbers() -> None:
    folder = need("svhn", "mnist")
    data = digits(source="svhn", target="svhn", folder=folder)
    a, b = data.domains.values()
    assert len(a.train) + len(a.test) == len(b.train) + len(b.test) == 1083 and data.channels == {"a": 3, "b": 3}
    assert a.train_classes is not None and a.test_classes is not None
    assert histogram(np.concatenate([a.train_classes, a.test_classes])) == SVHN_FIRST


def test_the_unpacked_files_of_mnist_are_the_published_ones(tmp_path: Path) -> None:
    folder = Path(need("mnist"))
    for path in (folder / "mnist").glob("*.gz"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    packed, plain = (digits(source="mnist", folder=str(place), n=4, n_test=4) for place in (folder, tmp_path))
    assert plain.facts["domains"]["a"]["checksum"] == "published"
    assert plain.fingerprint() == packed.fingerprint()
    labels = tmp_path / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[8] = 0  # relabelled: a 5 becomes a 0
    labels.write_bytes(content)
    noisy = digits(source="mnist", folder=str(tmp_path), n=4, n_test=4)
    assert noisy.facts["domains"]["a"]["checksum"] == "unverified" and noisy.fingerprint() != plain.fingerprint()
