"""Language models without torch: what `load` gives for a file of kind "language"."""

from .._text import Reader as Reader
