"""Do translated faces smile? An independent classifier's verdict, and how much of the face stays.

    python benchmarks/smile.py RUN --data ../shared/data/faces_smile64 [--classifier FILE]

Trains a small convolutional classifier on the training split (its last iterate; with `--classifier` it is kept in
FILE and used again), then scores the held-out images of each domain: the share that it puts in the target domain
before and after translation, its own accuracy on real images, and L1 and SSIM between input and translation. Works
for any data of two domains, not only smiles.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

import unitkit
from unitkit.data.batches import Batches
from unitkit.data.tensors import to_tensor


def classifier(channels: int) -> nn.Module:
    """Four convolutional blocks with batch norm; a logit that is positive for domain b. Shares nothing with UNIT."""
    blocks: list[nn.Module] = []
    for inside, outside in zip((channels, 16, 32, 64), (16, 32, 64, 128), strict=True):
        blocks += [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 1))


def fit(data: unitkit.Data, steps: int, seed: int) -> nn.Module:
    """Train the classifier on the training split, flipped and shifted; last iterate, no selection."""
    torch.manual_seed(seed)
    model = classifier(max(data.channels.values()))
    batches = Batches(data, 32, seed=seed, crop=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        batch = batches.batch(step)
        logits = model(torch.cat([batch["a"], batch["b"]]))[:, 0]
        target = torch.cat([torch.zeros(len(batch["a"])), torch.ones(len(batch["b"]))])
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.binary_cross_entropy_with_logits(logits, target))
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def share_in_b(model: nn.Module, images: Tensor) -> float:
    """The share of images that the classifier puts in domain b."""
    return float(torch.cat([model(part)[:, 0] > 0 for part in torch.split(images, 128)]).float().mean())


@torch.no_grad()
def main() -> None:
    """Print the verdict on a run as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", required=True)
    parser.add_argument("--labels")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--classifier", type=Path)
    options = parser.parse_args()

    data = unitkit.open_data(options.data, size=options.size, domains=2, labels=options.labels)
    translator = unitkit.load(options.run, device="cpu")
    if options.classifier and options.classifier.exists():
        model = classifier(max(data.channels.values())).eval()
        model.load_state_dict(load_file(options.classifier))
    else:
        with torch.enable_grad():
            model = fit(data, options.steps, options.seed)
        if options.classifier:
            save_file(model.state_dict(), options.classifier)
    found: dict[str, dict[str, float]] = {}
    for path in ("ab", "ba"):
        test = data.domains[path[0]].test
        real = to_tensor(np.stack([test.load(i) for i in range(len(test))]))
        translated = torch.cat([translator.model(part, path) for part in torch.split(real, 64)])
        before, after = share_in_b(model, real), share_in_b(model, translated)
        if path == "ba":
            before, after = 1 - before, 1 - after
        found[path] = {
            "n": len(test),
            "classifier_accuracy_on_real": 1 - before,
            "in_target_untranslated": before,
            "in_target_translated": after,
            "l1_of_255": float((translated - real).abs().mean() * 127.5),
            "ssim": float(torch.as_tensor(ssim(translated, real, data_range=2.0))),
        }
    print(json.dumps({"run": options.run, "classifier_steps": options.steps, "seed": options.seed, **found}, indent=1))


if __name__ == "__main__":
    main()
