"""What the commands of the command line do, one module each."""

from ._guard import guarded as guarded
