"""Pictures in and out. In: whatever a caller calls an image. Out: 8- or 16-bit pixels and what belongs to them (alpha,
profile, EXIF), and the same again in a file or a PIL image.
"""

from runtime.images.finish import Finished, check_scale, finish_picture, result_size, scaled
from runtime.images.finish_strips import FinishedRows
from runtime.images.formats import FORMATS, check_output, check_settings, format_of, result_depth
from runtime.images.picture import MAX_PIXELS, Picture, check_depth
from runtime.images.save import check_free, save_picture
from runtime.images.sources import load_picture, picture_size
from runtime.images.strips import StripWriter, open_strips, streams

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Finished",
    "FinishedRows",
    "Picture",
    "StripWriter",
    "check_depth",
    "check_free",
    "check_output",
    "check_scale",
    "check_settings",
    "finish_picture",
    "format_of",
    "load_picture",
    "open_strips",
    "picture_size",
    "result_depth",
    "result_size",
    "save_picture",
    "scaled",
    "streams",
]
