"""Measurements that carry their protocol: each names the image paths that it reads, and streams over them."""

from .artifacts import border, colour, sharpness, structure, texture
from .attribute import attribute_success
from .classes import accuracy, agreement
from .distances import fid, frechet, kernel, kid
from .evaluation import evaluate, evaluate_images
from .metric import Accumulator, Context, Metric, Result, register, registry
from .paired import ground_truth, l1, pixel_accuracy, psnr, ssim
from .palette import class_accuracy
from .perceptual import diversity, lpips
from .protocol import evaluate_with_protocol
from .spell import parse_metrics

__all__ = [
    "Accumulator",
    "Context",
    "Metric",
    "Result",
    "accuracy",
    "agreement",
    "attribute_success",
    "border",
    "class_accuracy",
    "colour",
    "diversity",
    "evaluate",
    "evaluate_images",
    "evaluate_with_protocol",
    "fid",
    "frechet",
    "ground_truth",
    "kernel",
    "kid",
    "l1",
    "lpips",
    "parse_metrics",
    "pixel_accuracy",
    "psnr",
    "register",
    "registry",
    "sharpness",
    "ssim",
    "structure",
    "texture",
]
