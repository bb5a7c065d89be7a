"""The equations in NumPy and float64, read aloud: the truth that the fast paths are tested against.

>>> import numpy as np
>>> x, h_0, weight = np.ones((5, 1, 1)), np.zeros((1, 1)), np.full((3, 1), 0.5)
>>> output, h_n, (r, z, n) = gru(x, h_0, weight, weight, np.zeros(3), np.zeros(3))
>>> float(output[-1, 0, 0].round(4))
0.4793
"""

from tidegate.reference.gru import gru as gru
from tidegate.reference.gru import gru_backward as gru_backward
from tidegate.reference.gru import gru_step as gru_step
from tidegate.reference.gru_stacked import gru_stacked as gru_stacked
from tidegate.reference.gru_stacked import gru_stacked_backward as gru_stacked_backward
from tidegate.reference.lstm import lstm as lstm
from tidegate.reference.lstm import lstm_backward as lstm_backward
from tidegate.reference.lstm import lstm_stacked as lstm_stacked
from tidegate.reference.lstm import lstm_stacked_backward as lstm_stacked_backward
from tidegate.reference.min_gru import min_gru as min_gru
from tidegate.reference.min_gru import min_gru_backward as min_gru_backward
from tidegate.reference.min_gru import min_gru_step as min_gru_step
from tidegate.reference.rnn import rnn as rnn
from tidegate.reference.rnn import rnn_backward as rnn_backward
from tidegate.reference.rnn import rnn_stacked as rnn_stacked
from tidegate.reference.rnn import rnn_stacked_backward as rnn_stacked_backward
