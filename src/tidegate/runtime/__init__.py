"""Saved models, run without torch: whole sequences, or step by step."""

from ._layers import GRU as GRU
from ._layers import Activation as Activation
from ._layers import AddInput as AddInput
from ._layers import Embedding as Embedding
from ._layers import Last as Last
from ._layers import Layer as Layer
from ._layers import LayerNorm as LayerNorm
from ._layers import Linear as Linear
from ._load import load as load
from ._model import Model as Model
from ._stack import Stack as Stack
from ._stream import Stream as Stream
