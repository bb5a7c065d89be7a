"""Tables in and out: frames to series on a calendar, and back."""

from .frames import to_frame as to_frame
from .frequency import Frequency as Frequency
from .panel import Panel as Panel
