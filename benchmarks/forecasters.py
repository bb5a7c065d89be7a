"""One forecaster in a process of its own: `python forecasters.py NAME in.npz out.npz seed`.

Needs no Tidegate, so that a peer can run in an environment of its own. `in.npz` holds the panel
(values one after the other, lengths, horizon, season length); `out.npz` gets the forecasts,
(series, horizon), the seconds to fit and to predict, the peak memory and the parameters.
"""

from __future__ import annotations

import importlib
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# What a method imports is imported before its time is taken.
IMPORTS = {
    "tidegate": "tidegate.forecast._forecaster",
    "tidegate_quick": "tidegate.forecast._forecaster",
    "neuralforecast": "neuralforecast",
    "darts": "darts.models",
    "gluonts": "gluonts.torch",
}
FREQUENCIES = {1: "YS", 4: "QS", 12: "MS"}
START = pd.Timestamp("1960-01-01")  # any: the competitions give no dates to rely on


class Task(NamedTuple):
    """What is to be forecast."""

    frame: pd.DataFrame
    horizon: int
    season_length: int
    seed: int

    @property
    def freq(self) -> str:
        return FREQUENCIES[self.season_length]


# Fits, and gives a function that predicts a long frame's column, with the number of parameters.
Fitted = tuple[Callable[[], np.ndarray], int]


def tidegate(task: Task) -> Fitted:
    return _tidegate(task)


def tidegate_quick(task: Task) -> Fitted:
    """As few steps as reach the accuracy of the slowest peer, and more."""
    return _tidegate(task, steps=20, hidden_size=32)


def _tidegate(task: Task, **settings: Any) -> Fitted:
    from tidegate.forecast import GRUForecaster

    model = GRUForecaster(task.horizon, seed=task.seed, **settings).fit(task.frame)
    weights = [
        p.numel() for network in model.networks_ for p in network.parameters() if p.requires_grad
    ]
    return lambda: model.predict()["GRU"].to_numpy(), sum(weights)


def seasonal_naive(task: Task) -> Fitted:
    from statsforecast.models import SeasonalNaive

    return _statsforecast(task, SeasonalNaive(task.season_length))


def theta(task: Task) -> Fitted:
    from statsforecast.models import DynamicOptimizedTheta

    return _statsforecast(task, DynamicOptimizedTheta(task.season_length))


def auto_theta(task: Task) -> Fitted:
    from statsforecast.models import AutoTheta

    return _statsforecast(task, AutoTheta(task.season_length))


def ets(task: Task) -> Fitted:
    from statsforecast.models import AutoETS

    return _statsforecast(task, AutoETS(task.season_length))


def _statsforecast(task: Task, model: object) -> Fitted:
    from statsforecast import StatsForecast

    forecasts = StatsForecast([model], freq=task.freq, n_jobs=1).forecast(
        df=task.frame, h=task.horizon
    )
    return lambda: forecasts.iloc[:, -1].to_numpy(), 0  # pyrefly: ignore[missing-attribute]


def neuralforecast(task: Task) -> Fitted:
    from neuralforecast import NeuralForecast
    from neuralforecast.models import GRU

    model = GRU(
        h=task.horizon,
        input_size=max(2 * task.season_length, 2 * task.horizon // 3),
        encoder_hidden_size=64,
        encoder_n_layers=2,
        decoder_hidden_size=64,
        start_padding_enabled=True,
        scaler_type="robust",
        max_steps=1000,
        random_seed=task.seed,
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
    )
    fitted = NeuralForecast(models=[model], freq=task.freq)
    fitted.fit(task.frame)
    count = sum(p.numel() for p in fitted.models[0].parameters())
    return lambda: fitted.predict()["GRU"].to_numpy(), count


def darts(task: Task) -> Fitted:
    from darts import TimeSeries
    from darts.dataprocessing.transformers import Scaler
    from darts.models import RNNModel

    series = [
        TimeSeries.from_times_and_values(
            pd.DatetimeIndex(group.ds, freq=task.freq), group.y.to_numpy(np.float32)
        )
        for _, group in task.frame.groupby("unique_id", sort=False)
    ]
    scaler = Scaler()
    scaled = scaler.fit_transform(series)
    shortest = min(len(s) for s in series)
    length = min(3 * max(task.season_length, 4), shortest - task.horizon - 1)
    model = RNNModel(
        input_chunk_length=length,
        training_length=min(length + task.horizon, shortest - 1),
        model="GRU",
        hidden_dim=64,
        n_rnn_layers=2,
        batch_size=128,
        n_epochs=10,
        random_state=task.seed,
        pl_trainer_kwargs={"enable_progress_bar": False, "logger": False},
    )
    model.fit(scaled)
    count = sum(p.numel() for p in model.model.parameters())

    def predict() -> np.ndarray:
        forecasts = scaler.inverse_transform(model.predict(task.horizon, series=scaled))
        return np.concatenate([forecast.values().ravel() for forecast in forecasts])

    return predict, count


def gluonts(task: Task) -> Fitted:
    import torch
    from gluonts.dataset.pandas import PandasDataset
    from gluonts.torch import DeepAREstimator

    torch.manual_seed(task.seed)
    frame = task.frame.astype({"y": np.float32})
    data = PandasDataset.from_long_dataframe(
        frame, target="y", item_id="unique_id", timestamp="ds", freq=task.freq
    )
    estimator = DeepAREstimator(
        freq=task.freq,
        prediction_length=task.horizon,
        hidden_size=64,
        trainer_kwargs={"max_epochs": 20, "enable_progress_bar": False, "logger": False},
    )
    predictor = estimator.train(data)
    count = sum(p.numel() for p in predictor.prediction_net.parameters())

    def predict() -> np.ndarray:
        return np.concatenate([np.median(f.samples, 0) for f in predictor.predict(data)])

    return predict, count


FORECASTERS = {
    f.__name__: f
    for f in (
        tidegate,
        tidegate_quick,
        seasonal_naive,
        theta,
        auto_theta,
        ets,
        neuralforecast,
        darts,
        gluonts,
    )
}


def frame_of(values: np.ndarray, lengths: np.ndarray, season_length: int) -> pd.DataFrame:
    """A long frame; series begin together."""
    ids = np.repeat([f"s{i:06d}" for i in range(len(lengths))], lengths)
    dates = pd.date_range(START, periods=int(lengths.max()), freq=FREQUENCIES[season_length])
    ds = np.concatenate([dates[:length] for length in lengths])
    return pd.DataFrame({"unique_id": ids, "ds": ds, "y": values})


def main(name: str, source: str, target: str, seed: str) -> None:
    with np.load(source) as panel:
        lengths, season_length = panel["lengths"], int(panel["season_length"])
        frame = frame_of(panel["values"], lengths, season_length)
        task = Task(frame, int(panel["horizon"]), season_length, int(seed))
    importlib.import_module(IMPORTS.get(name, "statsforecast"))
    begun = time.perf_counter()
    predict, parameters = FORECASTERS[name](task)
    fitted = time.perf_counter()
    forecast = np.asarray(predict(), np.float64).reshape(len(lengths), task.horizon)
    np.savez(
        target,
        forecast=forecast,
        fit=fitted - begun,
        predict=time.perf_counter() - fitted,
        parameters=parameters,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
