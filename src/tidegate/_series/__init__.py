"""Series as numbers that a network reads, and its answers as forecasts; NumPy alone."""
