"""The whole objective against a transcription of the method's formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace, Normal, kl_divergence

from unitkit import UserError, discriminators, encoders, generators, models, sharing
from unitkit.losses import MODES, Posterior, Term, gan_d, gan_g, kl, l1, l2
from unitkit.losses.bundles import cycle, gan, vae
from unitkit.registry import Spec


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64) * 2 - 1


def posterior(learned: bool = False) -> Posterior:
    mean = random(2, 4, 3, 5) * 2
    spread = random(2, 4, 3, 5).abs() + 0.1 if learned else None
    return Posterior(mean, spread, mean + torch.randn_like(mean) * (1 if spread is None else spread))


def scores(*scales: tuple[int, int]) -> tuple[Tensor, ...]:
    return tuple(random(2, 1, h, w) * 3 for h, w in scales)


def total(terms: list[Term], readings: Mapping[str, Any]) -> Tensor:
    return torch.stack([term.weight * term(readings) for term in terms]).sum()


def close(ours: Any, theirs: Any) -> bool:
    return torch.allclose(ours, theirs, rtol=1e-11, atol=1e-11)


# The textbook, on distributions and probabilities, not on the library's own shortcuts


def textbook_kl(q: Posterior, on: str = "mean") -> Tensor:
    """The released code's KL: the mean over elements of twice KL(q || N(0, I)), or of z^2 after the noise."""
    if on == "sample":
        return (q.sample**2).mean()
    spread = torch.ones_like(q.mean) if q.spread is None else q.spread
    return (2 * kl_divergence(Normal(q.mean, spread), Normal(0.0, 1.0))).mean()


def textbook_laplace(image: Tensor, x: Tensor) -> Tensor:
    """-log p_G(x|z) of a Laplacian of scale 1 around the image, a mean over elements, without its constant log 2."""
    log_p: Tensor = Laplace(image, 1.0).log_prob(x)  # type: ignore[no-untyped-call]
    return -log_p.mean() - math.log(2)


def textbook_gauss(image: Tensor, x: Tensor) -> Tensor:
    """Twice -log p_G(x|z) of a Gaussian of variance 1, without its constant."""
    log_p: Tensor = Normal(image, 1.0).log_prob(x)  # type: ignore[no-untyped-call]
    return -2 * log_p.mean() - math.log(2 * math.pi)


def textbook_judge(real: tuple[Tensor, ...], fakes: list[tuple[Tensor, ...]], mode: str) -> Tensor:
    """What D minimises, the logits being maps at several scales, whose losses are summed."""
    value = torch.zeros((), dtype=torch.float64)
    for scale, on_real in enumerate(real):
        if mode == "least-squares":
            value = value + ((on_real - 1) ** 2).mean()
        elif mode == "hinge":
            value = value + torch.clamp(1 - on_real, min=0).mean()
        else:
            value = value - torch.log(torch.sigmoid(on_real)).mean()
        for fake in fakes:
            if mode == "least-squares":
                value = value + (fake[scale] ** 2).mean() / len(fakes)
            elif mode == "hinge":
                value = value + torch.clamp(1 + fake[scale], min=0).mean() / len(fakes)
            else:
                value = value - torch.log(1 - torch.sigmoid(fake[scale])).mean() / len(fakes)
    return value


def textbook_fool(fake: tuple[Tensor, ...], mode: str) -> Tensor:
    """What E and G minimise."""
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "non-saturating": lambda s: -torch.log(torch.sigmoid(s)).mean(),
        "saturating": lambda s: torch.log(1 - torch.sigmoid(s)).mean(),
        "least-squares": lambda s: ((s - 1) ** 2).mean(),
        "hinge": lambda s: -s.mean(),
    }
    return torch.stack([losses[mode](scale) for scale in fake]).sum()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scales", [((3, 5),), ((8, 6), (4, 3), (2, 1))], ids=["one scale", "three scales"])
@pytest.mark.parametrize("on", ["mean", "sample"])
@pytest.mark.parametrize("learned", [False, True], ids=["fixed variance", "learned variance"])
def test_the_objective_is_the_papers(mode: Any, scales: tuple[tuple[int, int], ...], on: Any, learned: bool) -> None:
    a, b, aa, bb, ab, ba, aba, bab = (random(2, 3, 4, 6) for _ in range(8))
    q1, q2, q2_of_ab, q1_of_ba = (posterior(learned) for _ in range(4))
    d1, d2, d2_of_ab, d1_of_ba = (scores(*scales) for _ in range(4))
    readings: dict[str, Any] = {"a": a, "b": b, "aa": aa, "bb": bb, "ab": ab, "ba": ba, "aba": aba, "bab": bab}
    readings |= {"code:a": q1, "code:b": q2, "code:ab": q2_of_ab, "code:ba": q1_of_ba}
    readings |= {"score:a": d1, "score:b": d2, "score:ab": d2_of_ab, "score:ba": d1_of_ba}
    l0, l1_, l2_, l3, l4 = 10, 0.1, 100, 0.2, 90

    vae_1 = l1_ * textbook_kl(q1, on) + l2_ * textbook_laplace(aa, a)
    vae_2 = l1_ * textbook_kl(q2, on) + l2_ * textbook_laplace(bb, b)
    cc_1 = l3 * textbook_kl(q1, on) + l3 * textbook_kl(q2_of_ab, on) + l4 * textbook_laplace(aba, a)
    cc_2 = l3 * textbook_kl(q2, on) + l3 * textbook_kl(q1_of_ba, on) + l4 * textbook_laplace(bab, b)
    fooled = l0 * textbook_fool(d2_of_ab, mode) + l0 * textbook_fool(d1_of_ba, mode)
    judged = l0 * textbook_judge(d1, [d1_of_ba], mode) + l0 * textbook_judge(d2, [d2_of_ab], mode)

    l_vae = vae("a", "b", kl=l1_, likelihood=l2_, on=on)
    l_cc = cycle("aba", "bab", kl=l3, likelihood=l4, on=on)
    l_gan = gan("ab", "ba", weight=l0, mode=mode)
    assert close(total(l_vae, readings), vae_1 + vae_2)
    assert close(total(l_cc, readings), cc_1 + cc_2)
    assert close(total(l_gan.d, readings), judged)
    assert close(total(l_vae + l_gan.g + l_cc, readings), vae_1 + vae_2 + fooled + cc_1 + cc_2)


def test_weights_default_to_the_papers() -> None:
    assert [t.weight for t in vae("a")] == [0.1, 100] and [t.weight for t in cycle("aba")] == [0.1, 0.1, 100]
    assert [t.weight for side in gan("ab") for t in side] == [10, 10]


def test_the_saturating_form_is_the_minimax_game() -> None:
    """One value V: D minimises -V, and E and G minimise the part of V that hangs on them."""
    real, fake = scores((4, 4)), scores((4, 4))
    value = torch.log(torch.sigmoid(real[0])).mean() + torch.log(1 - torch.sigmoid(fake[0])).mean()
    (judged,), (fooled,) = gan("ab", weight=1, mode="saturating")
    readings = {"score:b": real, "score:ab": fake}
    assert close(judged(readings), -value)
    assert close(fooled(readings), value - torch.log(torch.sigmoid(real[0])).mean())


def test_kl_summed_over_the_code() -> None:
    """The digits' KL: mu^2 + sd^2 - log sd^2 (and a constant) summed over the code, over the batch size."""
    q = posterior(learned=True)
    assert q.spread is not None
    summed = (q.mean**2 + q.spread**2 - torch.log(q.spread**2)).sum() / 2 - q.mean[0].numel()
    assert close(kl("a", reduce="sum")({"code:a": q}), summed)
    assert close(kl("a")({"code:a": posterior()._replace(mean=q.mean)}), (q.mean**2).mean())  # variance 1: mu^2


def test_a_gaussian_likelihood_is_l2() -> None:
    x, image = random(2, 3, 4, 4), random(2, 3, 4, 4)
    term = vae("a", kl=0, likelihood=1, pixel=l2)[1]
    assert close(term({"a": x, "aa": image}), textbook_gauss(image, x))


@pytest.mark.parametrize("mode", MODES)
def test_translations_into_one_domain_count_together_as_much_as_the_real(mode: Any) -> None:
    real, ab, cb, ca = (scores((4, 3), (2, 2)) for _ in range(4))
    game = gan("ab", "cb", "ca", mode=mode)
    assert [term.paths for term in game.d] == [("b", "ab", "cb"), ("a", "ca")]
    readings = {"score:a": real, "score:b": real, "score:ab": ab, "score:cb": cb, "score:ca": ca}
    assert close(game.d[0](readings), textbook_judge(real, [ab, cb], mode))
    assert close(total(game.g, readings), 10 * torch.stack([textbook_fool(each, mode) for each in (ab, cb, ca)]).sum())


@pytest.mark.parametrize("mode", MODES)
def test_matching_discriminators_reject_the_real_images_that_translations_begin_with(mode: Any) -> None:
    real, ab, cb, a, c = (scores((4, 3), (2, 2)) for _ in range(5))
    game = gan("ab", "cb", "ca", "acb", "bb", "zb", matching=True, mode=mode)
    assert [term.paths for term in game.d] == [("b", "ab", "cb", "acb", "bb", "zb", "a/b", "c/b"), ("a", "ca", "c/a")]
    readings = {"score:b": real, "score:ab": ab, "score:cb": cb, "score:a/b": a, "score:c/b": c}
    (judged,) = gan("ab", "cb", matching=True, mode=mode, weight=1).d
    assert close(judged(readings), textbook_judge(real, [ab, cb, a, c], mode))
    assert gan("ab", "ba", matching=True).g[0].paths == ("ab",)  # whom it fools has not changed


def test_real_images_do_not_go_into_a_pool_of_translations() -> None:
    with pytest.raises(UserError, match="pool or matching"):
        gan("ab", pool=True, matching=True)


@pytest.mark.parametrize("path", ["zb", "bb"])
def test_matching_is_refused_where_no_other_domain_is_translated(path: str) -> None:
    with pytest.raises(UserError, match=f"translations to 'b' from other domains, not {path}"):
        gan(path, matching=True)


def test_a_real_image_of_a_is_shown_to_the_discriminator_of_b() -> None:
    model = built(unit(channels={"a": 3, "b": 3})).eval()  # without noise
    x = {letter: random(2, 3, 16, 16) for letter in "ab"}
    (term,) = gan("ab", matching=True, weight=1, mode="least-squares").d
    b, ab, a = (model.discriminators["b"](image) for image in (x["b"], model(x["a"], "ab"), x["a"]))
    assert close(term(model.read(x, map(str, term.reads))), textbook_judge(b, [ab, a], "least-squares"))


@pytest.mark.parametrize("mode", MODES)
def test_losses_stay_finite_where_a_probability_underflows(mode: Any) -> None:
    sure = (torch.full((1, 1, 2, 2), 1e4),)
    for readings in ({"score:a": sure, "score:ba": sure}, {"score:a": (-sure[0],), "score:ba": (-sure[0],)}):
        assert gan_d("a", "ba", mode=mode)(readings).isfinite() and gan_g("ba", mode=mode)(readings).isfinite()


# A model with noise, by hand


def unit(strategy: Spec | None = None, channels: dict[str, int] | None = None, **arguments: Any) -> Spec:
    parts = {
        "encoder": encoders.spec("residual", width=4, blocks=2),
        "generator": generators.spec("residual", width=4, blocks=2),
        "discriminator": discriminators.spec("multiscale", width=4, layers=2, scales=2),
        "sharing": strategy or sharing.spec("tie", encoder=1, generator=2),
    }
    return models.spec("unit", channels=channels or {"a": 3, "b": 1}, **{**parts, **arguments})


def built(spec: Spec) -> Any:
    return spec.build().double().train()


def noise(mean: Tensor) -> Tensor:
    return torch.randn(mean.shape).to(mean.dtype)


@pytest.mark.parametrize("strategy", ["tie", "none"])
def test_a_step_is_the_textbooks(strategy: str) -> None:
    arguments = {"encoder": 2, "generator": 2, "discriminator": 1} if strategy == "tie" else {}
    model = built(unit(sharing.spec(strategy, **arguments)))
    batch = {"a": random(2, 3, 16, 24), "b": random(2, 1, 16, 24)}
    l_vae, l_gan, l_cc = vae("a", "b"), gan("ab", "ba"), cycle("aba", "bab")
    generator = l_vae + l_gan.g + l_cc
    names = [str(name) for term in (*generator, *l_gan.d) for name in term.reads] + ["ab", "ba"]
    torch.manual_seed(7)
    readings = model.read(batch, names)

    (e1, e2), (g1, g2), (d1, d2) = (list(getattr(model, part).values()) for part in model.parts)
    x1, x2 = batch["a"], batch["b"]
    torch.manual_seed(7)
    mu1, mu2 = e1(x1), e2(x2)
    z1, z2 = mu1 + noise(mu1), mu2 + noise(mu2)
    x11, x12, x21, x22 = g1(z1), g2(z1), g1(z2), g2(z2)
    mu12, mu21 = e2(x12), e1(x21)
    z12, z21 = mu12 + noise(mu12), mu21 + noise(mu21)
    x121, x212 = g1(z12), g2(z21)
    by_hand = {"aa": x11, "ab": x12, "ba": x21, "bb": x22, "aba": x121, "bab": x212}
    for path, image in by_hand.items():
        assert close(readings[path], image), path
    for path, mean, sample in ("a", mu1, z1), ("b", mu2, z2), ("ab", mu12, z12), ("ba", mu21, z21):
        assert close(readings[f"code:{path}"].mean, mean) and close(readings[f"code:{path}"].sample, sample)

    def cost(x: Tensor, own: Tensor, mu: Tensor, back: Tensor, mu_back: Tensor, judged: tuple[Tensor, ...]) -> Tensor:
        l_vae = 0.1 * (mu**2).mean() + 100 * (x - own).abs().mean()
        l_cc = 0.1 * (mu**2).mean() + 0.1 * (mu_back**2).mean() + 100 * (x - back).abs().mean()
        return l_vae + l_cc + 10 * textbook_fool(judged, "non-saturating")

    expected = cost(x1, x11, mu1, x121, mu12, d2(x12)) + cost(x2, x22, mu2, x212, mu21, d1(x21))
    judged = textbook_judge(d1(x1), [d1(x21)], "non-saturating") + textbook_judge(d2(x2), [d2(x12)], "non-saturating")
    assert close(total(generator, readings), expected)
    assert close(total(l_gan.d, readings), 10 * judged)

    parameters = [*model.encoders.parameters(), *model.generators.parameters()]
    ours = torch.autograd.grad(total(generator, readings), parameters)
    for gradient, wanted in zip(ours, torch.autograd.grad(expected, parameters), strict=True):
        assert torch.allclose(gradient, wanted, rtol=1e-9, atol=1e-9)


def test_learned_variance_scales_the_noise() -> None:
    model = built(
        unit(
            sharing.spec("none"),
            encoder=encoders.spec("conv32", width=4),
            generator=generators.spec("conv32", width=4),
            discriminator=discriminators.spec("conv32", width=4, classes=10),
        )
    )
    x = random(3, 3, 32, 32)
    torch.manual_seed(7)
    found = model.read({"a": x}, ["ab", "code:a"])
    model.encoders["a"].train()
    torch.manual_seed(7)
    mean, spread = model.encoders["a"](x)
    z = mean + noise(mean) * spread
    assert close(found["code:a"].sample, z) and close(found["code:a"].spread, spread)
    assert close(found["ab"], model.generators["b"](z))

    model.eval()
    readings = model.read({"a": x}, ["ab", "score:ab", "class:ab", "score:a"])
    assert close(readings["ab"], model.generators["b"](model.encoders["a"](x)[0]))  # evaluation: z is the mean
    logits, classes = model.discriminators["b"](readings["ab"])
    assert close(readings["score:ab"][0], logits) and len(readings["score:ab"]) == 1
    assert close(readings["class:ab"].logits, classes) and classes.shape == (3, 10)


def test_noise_is_a_standard_deviation_and_none_in_evaluation() -> None:
    x = {"a": random(2, 3, 16, 16)}
    model = built(unit(noise=0.25))
    torch.manual_seed(7)
    q = model.read(x, ["code:a"])["code:a"]
    torch.manual_seed(7)
    assert close(q.sample, q.mean + 0.25 * noise(q.mean))
    q = built(unit(noise=0)).read(x, ["code:a"])["code:a"]
    assert q.sample is q.mean
    q = model.eval().read(x, ["code:a"])["code:a"]
    assert q.sample is q.mean


# Three domains


def test_three_domains_of_mixed_channels() -> None:
    model = built(unit(channels={"a": 3, "b": 1, "c": 3}))
    batch = {letter: random(2, channels, 16, 16) for letter, channels in model.channels.items()}
    paths = [x + y for x in "abc" for y in "abc" if x != y]
    terms = [*vae(*"abc"), *gan(*paths).g, *cycle(*(path + path[0] for path in paths)), 5 * l1("abca", "a")]
    names = [str(name) for term in terms for name in term.reads] + paths + ["abc"]
    torch.manual_seed(7)
    readings = model.read(batch, names)
    torch.manual_seed(7)
    e, g = model.encoders, model.generators
    means = {letter: e[letter](batch[letter]) for letter in "abc"}
    z = {letter: mean + noise(mean) for letter, mean in means.items()}
    second = {path: e[path[1]](g[path[1]](z[path[0]])) for path in paths}
    z |= {path: mean + noise(mean) for path, mean in second.items()}
    for path in paths:
        assert close(readings[path], g[path[1]](z[path[0]])) and readings[path].shape == batch[path[1]].shape
        assert close(readings[path + path[0]], g[path[0]](z[path]))
    abc = g["c"](z["ab"])
    assert close(readings["abc"], abc) and readings["abca"].shape == batch["a"].shape
    kls = sum((mean**2).mean() for mean in second.values()) + 3 * sum((m**2).mean() for m in means.values())
    l1s = sum((batch[x] - readings[x + x]).abs().mean() for x in "abc")
    l1s = l1s + sum((batch[p[0]] - readings[p + p[0]]).abs().mean() for p in paths)
    fooled = sum(textbook_fool(model.discriminators[p[1]](readings[p]), "non-saturating") for p in paths)
    longest = 5 * (readings["abca"] - batch["a"]).abs().mean()
    assert close(total(terms, readings), 0.1 * kls + 100 * l1s + 10 * fooled + longest)
