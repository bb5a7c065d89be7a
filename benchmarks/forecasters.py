"""One forecaster in a process of its own: `python forecasters.py NAME in.npz out.npz seed`.

Needs no Tidegate, so that a peer can run in an environment of its own. `in.npz` holds the panel
(values one after the other, lengths, horizon, season length); `out.npz` gets the forecasts,
(series, horizon) or (series, horizon, QUANTILES), the seconds to fit (also of the processor, all
threads together) and to predict, the peak memory and the parameters.
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
    "pytorch_forecasting": "pytorch_forecasting",
}
LEVELS = (50, 80, 95)
QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
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


# Fits, and gives a function that predicts all series in the order of the frame, the median alone or
# `QUANTILES`, with the number of parameters.
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
    return lambda: banded(model.predict(), "GRU"), sum(weights)


def banded(forecast: pd.DataFrame, name: str) -> np.ndarray:
    """`QUANTILES` from columns as statsforecast names them."""
    low = [f"{name}-lo-{level}" for level in reversed(LEVELS)]
    return forecast[[*low, name, *(f"{name}-hi-{level}" for level in LEVELS)]].to_numpy()


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
        df=task.frame, h=task.horizon, level=list(LEVELS)
    )
    name = str(forecasts.columns[2])  # pyrefly: ignore[missing-attribute]
    return lambda: banded(forecasts, name), 0  # pyrefly: ignore[bad-argument-type]


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
    from gluonts.dataset.common import ListDataset
    from gluonts.torch import DeepAREstimator

    torch.manual_seed(task.seed)
    freq = {1: "YE", 4: "QE", 12: "ME"}[task.season_length]
    series = task.frame.groupby("unique_id", sort=False).y
    data = ListDataset(
        [{"start": START, "target": y.to_numpy(np.float32)} for _, y in series], freq=freq
    )
    estimator = DeepAREstimator(
        freq=freq,
        prediction_length=task.horizon,
        hidden_size=64,
        trainer_kwargs={"max_epochs": 60, "enable_progress_bar": False, "logger": False},
    )
    predictor = estimator.train(data)
    count = sum(p.numel() for p in predictor.prediction_net.parameters())

    def predict() -> np.ndarray:
        drawn = [np.quantile(f.samples, QUANTILES, 0).T for f in predictor.predict(data)]
        return np.concatenate(drawn)

    return predict, count


def pytorch_forecasting(task: Task) -> Fitted:
    import lightning
    from pytorch_forecasting import MAE, RecurrentNetwork, TimeSeriesDataSet
    from pytorch_forecasting.data import EncoderNormalizer

    lightning.seed_everything(task.seed)
    frame = task.frame.assign(step=task.frame.groupby("unique_id").cumcount())
    frame = frame.astype({"y": np.float32}).drop(columns="ds")
    length = max(3 * task.season_length, 2 * task.horizon)
    data = TimeSeriesDataSet(
        frame,
        time_idx="step",
        target="y",
        group_ids=["unique_id"],
        min_encoder_length=3,
        max_encoder_length=length,
        max_prediction_length=task.horizon,
        time_varying_unknown_reals=["y"],
        target_normalizer=EncoderNormalizer(transformation="log1p"),
    )
    network = RecurrentNetwork.from_dataset(
        data, cell_type="GRU", hidden_size=64, rnn_layers=2, learning_rate=1e-3, loss=MAE()
    )
    trainer = lightning.Trainer(
        max_steps=1000,
        max_epochs=-1,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.fit(network, data.to_dataloader(train=True, batch_size=128, num_workers=0))
    count = sum(p.numel() for p in network.parameters())

    def predict() -> np.ndarray:
        ends = frame.groupby("unique_id", sort=False).tail(1)
        ahead = [ends.assign(step=ends.step + k) for k in range(1, task.horizon + 1)]
        whole = pd.concat([frame, *ahead]).sort_values(["unique_id", "step"], ignore_index=True)
        last = TimeSeriesDataSet.from_dataset(data, whole, predict=True, stop_randomization=True)
        loader = last.to_dataloader(train=False, batch_size=512, num_workers=0)
        return network.predict(loader).numpy(force=True)

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
        pytorch_forecasting,
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
    begun, busy = time.perf_counter(), time.process_time()
    predict, parameters = FORECASTERS[name](task)
    fitted, busy = time.perf_counter(), time.process_time() - busy
    forecast = np.asarray(predict(), np.float64).reshape(len(lengths), task.horizon, -1)
    np.savez(
        target,
        forecast=forecast,
        fit=fitted - begun,
        busy=busy,
        predict=time.perf_counter() - fitted,
        parameters=parameters,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
