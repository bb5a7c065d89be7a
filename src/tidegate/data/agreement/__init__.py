"""Persian sentences whose verb must agree with a subject far before it: made and found."""

from ._grammar import RELATIVES as RELATIVES
from ._grammar import SENTENCE as SENTENCE
from ._grammar import generate as generate
from ._grammar import vocabulary as vocabulary
from ._pair import Pair as Pair
from ._pair import tokenize as tokenize
from ._treebank import Treebank as Treebank
from ._treebank import read_treebank as read_treebank
