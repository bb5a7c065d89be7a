"""Forecast monthly employment by sector, and see how good that would have been last year.

Needs: pip install 'tidegate[forecast]'
"""

from tidegate.data import load
from tidegate.forecast import GRUForecaster, seasonal_naive

df = load("us_employment")  # unique_id, ds, y: 23 sectors, ten years of months
model = GRUForecaster(horizon=12).fit(df)
print(model.suggestion_)  # the sizes that were chosen, with reasons
print(model.predict().head(3).to_string(float_format="%.1f"))

# The last year, as if it were not known.
result = model.backtest(df, windows=1)
past = df[df.ds < result.ds.min()]
naive = [seasonal_naive(y.to_numpy(), 12, 12) for _, y in past.groupby("unique_id", sort=False).y]
ours = (result.GRU - result.y).abs().mean()
simple = abs(result.y.to_numpy().reshape(-1, 12) - naive).mean()
print(f"mean absolute error: {ours:.1f} thousand people, seasonal naive {simple:.1f}")
