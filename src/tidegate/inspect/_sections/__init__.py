"""The sections of the page, each from arrays to HTML."""

from .gates import heat as heat
from .gates import saturated as saturated
from .gates import worth as worth
from .memory import flow_back as flow_back
from .memory import remembered as remembered
from .network import WORDS as WORDS
from .network import drawing as drawing
from .network import facts as facts
from .network import found as found
from .output import came_from as came_from
from .output import outcomes as outcomes
from .training import calibrated as calibrated
from .training import judged as judged
from .training import trained as trained
