"""How much of what is shown one by one."""

FEW = 4  # layers, forecasts or trainings
ROWS = 60  # of a table
LOOKS = ("main", "second", "third", "fourth")  # of curves, in their order
