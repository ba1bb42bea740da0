"""What libraries of image formats print to stderr by themselves, kept off it: a decode says in one line what is wrong.

libtiff prints each fault of a file ("ZIPDecode: Decoding error at scanline 0") to the process's stderr, past Python,
whichever thread decodes. To lead stderr elsewhere meanwhile would swallow what other threads have to say; libtiff
itself, told once, keeps silent. Pillow lets libjpeg and libwebp print nothing.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

from PIL import _imaging


def silence_libtiff() -> None:
    """Let libtiff print nothing, in any thread. Where Pillow hides its copy of it, it goes on printing."""
    with suppress(OSError, AttributeError):
        pillow = ctypes.CDLL(_imaging.__file__)  # by which what it is linked with is found too
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(pillow, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)
