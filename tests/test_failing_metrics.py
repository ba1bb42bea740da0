"""Metrics that cannot work, fail, or give no number: said before the training where it can be, and no other's loss."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from commands import TINY, one_line, unitkit
from sets import images, pictures

from unitkit import Recipe, UserError, load_recipe, metrics
from unitkit.ablation.statistics import compare, mean_sd
from unitkit.check import check
from unitkit.commands import evaluate, train
from unitkit.metrics import Metric, Result
from unitkit.metrics.metric import named, registry
from unitkit.recipe import Watch
from unitkit.runs.folder import MEASURED, RunFolder
from unitkit.runs.report import tables

FAILING = """
from unitkit.metrics import Metric, Result

class Accumulator:
    def __init__(self, where):
        self.where = where
        self.at("begin")
    def at(self, where):
        if where == self.where:
            raise RuntimeError(f"lost in {where}")
    def update(self, images):
        self.at("update")
    def result(self, n):
        self.at("outcome")
        return Result({"odd. figure": float(self.where)})

def odd(path: str, *, where: str) -> Metric:
    "A metric that fails, or gives what is no finite number."
    return Metric(f"odd({path}, {where})", (path,), lambda context: Accumulator(where), higher=True)

"""
WHERE = ("begin", "update", "outcome")


def recipe_with(folder: Path, evaluate: str, more: str = "") -> Path:
    """The tiny recipe in a file, with these metrics."""
    text = TINY.read_text().replace('evaluate=[psnr("aa", "a")]', f"evaluate={evaluate}{more}")
    assert evaluate in text
    path = folder / "failing.py"
    path.write_text(text.replace("presets = ", FAILING + "presets = "))
    return path


@pytest.mark.parametrize("where", [*WHERE, "nan", "inf", "-inf"])
def test_a_training_keeps_the_other_figures(tmp_path: Path, where: str) -> None:
    odd = f"odd('ab', where='{where}')"
    watch = f", watch=__import__('unitkit').recipe.Watch([{odd}, psnr('aa', 'a')], every=1)"
    path, out = recipe_with(tmp_path, f"[psnr('aa', 'a'), {odd}]", watch), tmp_path / "run"
    answer = unitkit("train", path, "@quick", "--out", out)
    assert answer.status == 0, answer.err
    (entry,) = json.loads((out / "metrics.json").read_text())["evaluations"]
    name = f"odd(ab, {where})"
    assert math.isfinite(entry["metrics"]["psnr(aa, a)"]["figures"]["psnr"])
    said = f"not measured: RuntimeError: lost in {where}" if where in WHERE else f"odd. figure is {where}"
    assert f"warning: {name}: {said}" in answer.out and name in (out / "report.html").read_text()
    assert len((out / "watched.jsonl").read_text().splitlines()) == 2
    assert unitkit("train", "--resume", "--out", out, "steps=3").status == 0
    again = unitkit("evaluate", out, "--save", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())["metrics"]
    assert "psnr" in found["psnr(aa, a)"]["figures"] and "psnr of reconstruction aa" in again.out
    if where in WHERE:
        one_line(again, name, f"lost in {where}")
    else:
        assert again.status == 0, again.err


# What a metric may give that no file can hold, or no reader takes: an argument of `Result` by what is wrong.
UNFIT = {
    "cells that are no text": "table=Table('t', ('path',), (Row((1,), {'x': 'x'}),))",
    "figures of a table that are no text": "table=Table('t', ('path',), (Row(('p',), {1: 2}),))",
    "a table of uneven rows": "table=Table('t', ('path',), (Row(('ab', 'ba'), {'x': 'x'}),))",
    "a table that is none": "table='table'",
    "a title of a table": "table=Table(5, ('path',), ())",
    "a long text": "details={'text': 'x' * 70000}",
    "a long warning": "warnings=('x' * 70000,)",
    "a large number": "protocol={'hash': 2**64 - 1}",
    "half a character": "warnings=('\\ud800',)",
    "half a character in a name": "protocol={'\\ud800': 1}",
    "nesting": "details={'v': nested(70)}",
    "deep nesting": "details={'v': nested(500)}",
    "itself": "details=endless()",
    "a protocol that is no mapping": "protocol=[1]",
    "figures of one name": "figures={1: 1.0, '1': 2.0}",
    "a long name of a figure": "figures={'x' * 70000: 1.0}",
}
HOSTILE = """
from unitkit.metrics import Metric, Result
from unitkit.metrics.metric import Row, Table

def nested(depth):
    return [nested(depth - 1)] if depth else []

def endless():
    v = {}
    v["v"] = v
    return v

class Gives:
    def __init__(self, text):
        self.text = text
    def update(self, images):
        pass
    def result(self, n):
        return eval(f"Result(**{{'figures': {{'x': 1.0}}, **dict({self.text})}})")

def gives(name, text):
    return Metric(name, ("aa",), lambda context: Gives(text), higher=True)

"""


def test_no_result_makes_a_file_unreadable_or_loses_anothers(tmp_path: Path) -> None:
    given = ", ".join(f"gives({name!r}, {text!r})" for name, text in UNFIT.items())
    hostile = (
        f"[psnr('aa', 'a'), {given}, gives('warned', 'warnings=(1,)'), gives('x' * 70000, ''), gives('\\ud800', '')]"
    )
    path = recipe_with(tmp_path, hostile, f", watch=__import__('unitkit').recipe.Watch({hostile}[:-2], every=1)")
    path.write_text(path.read_text().replace("presets = ", HOSTILE + "presets = "))
    run = RunFolder(tmp_path / "run")
    answer = unitkit("train", path, "@quick", "--out", run.path)
    assert answer.status == 0 and "psnr of reconstruction aa" in answer.out, answer.err
    (entry,) = run.evaluations()
    fine = {name for name, result in entry["metrics"].items() if result["figures"] and "failed" not in result}
    assert fine == {"psnr(aa, a)", "warned"}
    assert entry["metrics"].keys() - fine == {*UNFIT, "x" * 200, "\\ud800"}
    rows = run.watched()
    assert len(rows) == 2 and all({name for name in row if row[name]} == {"step", *fine} for row in rows)
    again = unitkit("evaluate", run.path, "--save", tmp_path / "found.json")
    one_line(again, *UNFIT)
    assert "psnr of reconstruction aa" in again.out
    assert json.loads((tmp_path / "found.json").read_text())["metrics"].keys() == entry["metrics"].keys()
    assert len(run.evaluations()) == 1


@pytest.mark.parametrize(
    "said", [{"title": 5}, {"units": {"x": None}}, {"units": {1: "dB"}}, {"name": 5}, {"higher": 1}], ids=str
)
def test_a_metric_is_called_by_text(said: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="names, title and units of text"):
        Metric(**{"name": "odd", "reads": ("aa",), "begin": lambda context: None, "higher": True, **said})


def test_figures_are_kept_before_they_are_shown(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("cannot show them")

    out = tmp_path / "run"
    for module, words in (train, ("train", tiny, "@quick", "--out", out)), (evaluate, ("evaluate", out, "--seed", 1)):
        monkeypatch.setattr(module, "print_metrics", fails)
        with pytest.raises(RuntimeError, match="cannot show them"):
            unitkit(*words)
    assert [entry["seed"] for entry in RunFolder(out).evaluations()] == [0, 1]


def test_an_ablation_keeps_the_other_cells(tmp_path: Path) -> None:
    path = recipe_with(
        tmp_path, "[odd('ab', where={4: 'outcome', 5: 'inf', 6: '-inf', 7: '1'}[width]), psnr('aa', 'a')]"
    )
    out = tmp_path / "ablation"
    answer = unitkit("ablate", path, "@quick", "width=4..7", "--out", out, "--metric", "psnr")
    assert answer.status == 0, answer
    text = (out / "ablation.md").read_text()
    assert "psnr of reconstruction aa: mean" in text and "lost in outcome" in text and "4 of 4 cells done" in answer.out
    strange = unitkit("ablate", path, "@quick", "width=4..7", "--out", out, "--metric", "odd(ab, inf)")
    one_line(strange, "odd(ab, inf)")  # the metrics of the first setting are what can be named


def test_statistics_of_what_is_no_number() -> None:
    inf, nan = math.inf, math.nan
    for values in ([inf, -inf], [inf, 1.0], [nan, 1.0], [1e308, 1e308, -1e308], [1e200, -1e200]):
        mean, sd = mean_sd(values)
        assert isinstance(mean, float) and isinstance(sd, float)
    found = compare({0: inf, 1: 1.0}, {0: -inf, 1: inf})
    assert found.verdict == "cannot tell" and found.n == 2


# Too few images


def fewer(recipe: Recipe, count: int) -> Recipe:
    """The recipe with so many held-out images."""
    domains = {
        letter: replace(domain, test=images(np.stack([domain.test.load(i) for i in range(count)])))
        for letter, domain in recipe.data.domains.items()
    }
    return replace(recipe, data=replace(recipe.data, domains=domains))


def greedy(fewest: int, reads: tuple[str, ...] = ("ab", "b")) -> Metric:
    def begin(setting: Any) -> Any:
        raise AssertionError("it was refused too late")

    return Metric("greedy(ab, b)", reads, begin, higher=True, together=False, fewest=fewest)


@pytest.mark.parametrize("fewest", [2, 5, 100])
def test_too_few_images_are_refused_before_the_training(tiny: Path, fewest: int) -> None:
    recipe, said = load_recipe(tiny), f"greedy.*at least {fewest} images of '[ab]+', and there (is|are) {fewest - 1}"
    recipe = fewer(recipe, fewest - 1) if fewest - 1 <= 4 else recipe
    said = said if fewest - 1 <= 4 else f"at least {fewest} images"
    with pytest.raises(UserError, match=said):
        check(replace(recipe, evaluate=[greedy(fewest)]))
    with pytest.raises(UserError, match=said):
        check(replace(recipe, watch=Watch([greedy(fewest)], images=0)))
    with pytest.raises(UserError, match=said):
        metrics.evaluate_images(
            [greedy(fewest)], {"ab": images(pictures(fewest - 1, 0)), "b": images(pictures(fewest + 1, 0))}
        )


def test_a_watch_and_an_evaluation_of_few_images(trained: Path, tiny: Path) -> None:
    recipe = load_recipe(tiny)
    check(replace(recipe, evaluate=[greedy(4)]))
    with pytest.raises(UserError, match="at least 4 images of 'ab', and there are 3"):
        check(replace(recipe, watch=Watch([greedy(4)], images=3)))
    for word in "fid", "kid", "frechet", "kernel":  # whose weights are not needed to be told
        answer = unitkit("evaluate", trained, "--metrics", f"{word}(ab, b)", "--max-images", 1)
        one_line(answer, f"the metric {word}(ab, b", "at least 2 images of 'ab', and there is 1")
    with pytest.raises(UserError, match="at least 2 images of 'ab', and there is 1"):
        check(replace(fewer(recipe, 1), evaluate=[metrics.fid("ab", "b")]))


# Names are data


def others(hint: Any, default: object) -> list[object]:
    """Other values than the default of a metric's option."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(kind) is Literal:
        return [value for value in get_args(kind) if value != default]
    if kind is bool:
        return [not default]
    return [default + 1] if isinstance(default, int) else ["resnet18"]


@pytest.mark.parametrize("word", sorted(registry))
def test_no_two_settings_of_a_metric_share_a_name(word: str) -> None:
    function = registry[word]
    parameters = inspect.signature(function).parameters.values()
    hints = get_type_hints(function, include_extras=True)
    paths = ("ab", "b")[: sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)]
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    free = {"distance": "lpips"} if word == "diversity" else {}  # net and weights are read only there
    made = [function(*paths, **free)]
    for name, default in options.items():
        values = ["maps"] if name == "palette" else others(hints[name], free.get(name, default))
        for value in values:
            made.append(function(*paths, **{**free, name: value}))
    names = [metric.name for metric in made]
    assert len(set(names)) == len(names), names


def test_figures_of_any_name_are_shown() -> None:
    """Nothing is read out of a name: dots, brackets, commas, quotes and markup come through as they are."""

    class Accumulator:
        def update(self, images: Mapping[str, Any]) -> None: ...

        def result(self, n: Mapping[str, int]) -> Result:
            return Result({"a.b(c), [d]": 0.25, "": 1.0, "l1": 2.0})

    metric = Metric(
        "ground_truth(ab).x, [/b]", ("ab",), lambda context: Accumulator(), higher=True, units={"a.b(c), [d]": "%"}
    )
    results = metrics.evaluate_images([metric], {"ab": images(pictures(2, 0))})
    ((_, _, ((title, figures, better, n),)),) = tables(results)
    assert (title, better, n) == ("ground_truth(ab).x, [/b]", "higher", "2")
    assert figures == "a.b(c), [d] 25.0 %,  1, l1 2"


def test_a_title_is_in_the_fields_words() -> None:
    assert named("psnr", "aa", "a") == ("psnr(aa, a)", "psnr of reconstruction aa")
    assert named("lpips", "aba", "a", net=("vgg", "alex")) == ("lpips(aba, a, net=vgg)", "lpips of cycle aba, net=vgg")
    for paths in ("ab", "b"), ("a", "a"), ("ab",), ("abcb", "b"):
        assert named("l1", *paths)[1] == f"l1({', '.join(paths)})"


# Figures and images


def metric_of(figures: Any, *, change: bool = False, protocol: Any = None, name: str = "odd(ab)") -> Metric:
    class Accumulator:
        def update(self, images: Mapping[str, Any]) -> None:
            if change:
                images["ab"][...] = 0

        def result(self, n: Mapping[str, int]) -> Result:
            if figures is SystemExit:
                raise SystemExit(3)
            return Result(figures, protocol or {})

    return Metric(name, ("ab",), lambda context: Accumulator(), higher=True)


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5), Fraction(1, 2), 0.5, np.array(0.5)]
)
def test_a_figure_of_any_kind_of_number_is_a_float(value: Any) -> None:
    metric = metric_of({"x": value}, protocol={"seen": value, "where": Path("x"), 3: None})
    result = metrics.evaluate_images([metric], {"ab": images(pictures(2, 0))})["odd(ab)"]
    assert result["figures"] == {"x": 0.5} and type(result["figures"]["x"]) is float
    json.loads(json.dumps(result))


@pytest.mark.parametrize("figures", [{"x": None}, {"x": "0.5"}, {"x": [1.0, 2.0]}, {"x": 1j}, None, 3, SystemExit])
def test_a_figure_that_is_no_number_is_a_failure(figures: Any) -> None:
    both = [metric_of(figures), metric_of({"y": 1.0}, name="good(ab)")]
    found = metrics.evaluate_images(both, {"ab": images(pictures(2, 0))})
    assert found["odd(ab)"]["figures"] == {} and found["odd(ab)"]["failed"]
    assert found["good(ab)"]["figures"] == {"y": 1.0}
    json.loads(json.dumps(found))


def test_a_metric_cannot_change_what_others_see() -> None:
    array = pictures(3, 0)
    sets = {"ab": images(array), "b": images(pictures(3, 1))}
    alone = metrics.evaluate_images([metrics.l1("ab", "b")], sets)
    beside = metrics.evaluate_images([metric_of({"x": 0.0}, change=True), metrics.l1("ab", "b")], sets)
    assert beside["l1(ab, b)"]["figures"] == alone["l1(ab, b)"]["figures"] and array.any()


def test_a_failure_replaces_no_figure(trained: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (run.path / "run.json").write_text((trained / "run.json").read_text())
    head = json.loads((trained / "metrics.json").read_text())["evaluations"][0]
    assert head.keys() >= set(MEASURED)
    said = {"title": "m", "n": {}, "higher": {}, "units": {}, "protocol": {}, "warnings": []}
    good, bad = {**said, "figures": {"x": 1.0}}, {**said, "figures": {}, "failed": "it broke"}
    for result, kept in (bad, bad), (good, good), (bad, good):
        run.add_evaluation({**head, "metrics": {"m": result}})
        assert run.evaluations()[0]["metrics"]["m"] == kept


def test_two_metrics_of_one_name_are_refused(tiny: Path) -> None:
    recipe = load_recipe(tiny)
    twice = [metric_of({"x": 1.0}), metric_of({"x": 2.0})]
    for change in {"evaluate": twice}, {"watch": Watch(twice)}:
        with pytest.raises(UserError, match=r"two metrics .* are called odd\(ab\)"):
            check(replace(recipe, **change))  # type: ignore[arg-type]
