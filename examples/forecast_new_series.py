"""Train on some series and forecast others that the network has never seen.

Needs: pip install 'tidegate[forecast]'
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from tidegate.data import load
from tidegate.forecast import GRUForecaster

df = load("us_employment")
is_new = df.unique_id.isin(["construction", "government"])

with TemporaryDirectory() as folder:
    path = Path(folder) / "model.safetensors"
    GRUForecaster(horizon=6).fit(df[~is_new]).save(path)

    model = GRUForecaster.load(path)  # on another machine, another day
    forecast = model.predict(df[is_new])

print(forecast[["unique_id", "ds", "GRU-lo-80", "GRU", "GRU-hi-80"]].to_string(float_format="%.0f"))
