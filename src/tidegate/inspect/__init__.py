"""What a GRU's gates do, how long it remembers, and what its output came from."""

from ._ablate import Ablation as Ablation
from ._ablate import Held as Held
from ._ablate import ablate as ablate
from ._carry import Carry as Carry
from ._carry import carry as carry
from ._cells import TrainedCell as TrainedCell
from ._cells import train_cells as train_cells
from ._findings import Finding as Finding
from ._flow import Curve as Curve
from ._flow import GradientFlow as GradientFlow
from ._flow import gradient_flow as gradient_flow
from ._gates import Gates as Gates
from ._gates import LayerGates as LayerGates
from ._gates import gates as gates
from ._memory import LayerMemory as LayerMemory
from ._memory import Memory as Memory
from ._memory import memory as memory
from ._probed import Group as Group
from ._report import Report as Report
from ._report import report as report
