"""Tables in and out: files, frames and series on a calendar."""

from ._sets import load as load
from .competition import Competition as Competition
from .competition import load_competition as load_competition
from .covariates import Covariate as Covariate
from .files import read_table as read_table
from .frames import to_frame as to_frame
from .frequency import Frequency as Frequency
from .panel import Panel as Panel
from .sequences import SequenceFrame as SequenceFrame
