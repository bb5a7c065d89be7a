"""Text and tokens with NumPy alone: what a language model needs where there is no torch."""

from ._normalize import NORMALIZATIONS as NORMALIZATIONS
from ._normalize import normalizer as normalizer
from ._reader import LANGUAGE as LANGUAGE
from ._reader import Continuation as Continuation
from ._reader import Facts as Facts
from ._reader import Reader as Reader
from ._reader import TextGates as TextGates
from ._sampling import probabilities as probabilities
from ._source import Source as Source
from ._stream import Scored as Scored
from ._stream import Stream as Stream
from ._tokenizer import KINDS as KINDS
from ._tokenizer import UNKNOWN as UNKNOWN
from ._tokenizer import Tokenizer as Tokenizer
from ._tokenizer import check_vocabulary as check_vocabulary
from ._tokenizer import learn_tokenizer as learn_tokenizer
from ._tokenizer import tokenizer_from as tokenizer_from
