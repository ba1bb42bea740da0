"""Measurements that carry their protocol: each names the image paths that it reads, and streams over them."""

from .attribute import attribute_success
from .classes import accuracy
from .distances import fid, frechet, kernel, kid
from .measure import evaluate, score
from .metric import Meter, Metric, Outcome, Setting, register, registry
from .paired import counterpart, l1, pixel_accuracy, psnr, ssim
from .perceptual import diversity, lpips
from .record import evaluation
from .spell import parse_metrics

__all__ = [
    "Meter",
    "Metric",
    "Outcome",
    "Setting",
    "accuracy",
    "attribute_success",
    "counterpart",
    "diversity",
    "evaluate",
    "evaluation",
    "fid",
    "frechet",
    "kernel",
    "kid",
    "l1",
    "lpips",
    "parse_metrics",
    "pixel_accuracy",
    "psnr",
    "register",
    "registry",
    "score",
    "ssim",
]
