"""Clips in, clips out, through PyAV, an optional package that is imported at the first clip. In: a video file and an
Upscaler. Out: a video file with the same timing, audio and colors.
"""

from runtime.video.codecs import CONTAINERS, VIDEO_CODECS, VIDEO_SUFFIXES, is_video
from runtime.video.restore import VideoReport, restore_video

__all__ = ["CONTAINERS", "VIDEO_CODECS", "VIDEO_SUFFIXES", "VideoReport", "is_video", "restore_video"]
