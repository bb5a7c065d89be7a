"""Language models: characters, bytes, words or subwords, read by gated recurrent units."""

from .._text import Continuation as Continuation
from .._text import Scored as Scored
from .._text import TextGates as TextGates
from ._model import Glimpse as Glimpse
from ._model import LanguageModel as LanguageModel
