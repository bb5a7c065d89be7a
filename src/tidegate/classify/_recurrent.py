"""What `GRUClassifier` and `GRURegressor` share, after scikit-learn's contract."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np

from .. import __version__
from .._estimator import BELOW_ONE, Estimator
from .._inspectable import Inspectable
from .._members import arrays_of, networks_of
from .._model_file import read_model, write_model
from .._sequences import NumberReader, Reader, TextReader, read_sequences, reader_of
from ..data import SequenceFrame
from ..errors import InputError
from ..train import History, Progress, Settings
from ._fit import Plan, fit_model
from ._inputs import Inputs, is_frame
from ._labels import read_labels
from ._looked_into import look_into
from ._model import Model
from ._network import CELLS, EACH_STEP, POOLINGS, Network, Shape

Array = np.ndarray

# Longer sequences are read several steps at once, so that there are no more reads than this.
_READS = 64
# Where nothing was said: so many passes over the sequences, within so few and so many batches.
_PASSES, _FEWEST, _MOST = 120, 600, 3000
# The trial holds back its share, but no more than so many sequences; and so few are not worth it.
_ENOUGH, _TOO_FEW = 2000, 10
_VALIDATIONS, _PATIENCE = 40, 20
# Sequences of `fit` that are remembered, to be looked at.
_SHOWN = 16
# Arguments that are whole numbers; the second may be left to the data.
_COUNTS = "hidden_size", "num_layers", "embedding_size", "batch_size", "members"
_CHOSEN = "stride", "steps"


@dataclass(kw_only=True, eq=False, repr=False)
class Recurrent(Estimator):
    """What classifier and regressor share; the fields are the constructor's arguments."""

    _kind: ClassVar[str]
    _estimator_type: ClassVar[str]

    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = True
    cell: str = "gru"
    pooling: str = "attention"
    per_step: bool = False
    stride: int | None = None
    embedding_size: int = 32
    dropout: float = 0.2
    held_out: float = 0.2
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 6e-3
    members: int = 1
    seed: int = 0
    id_col: str = "unique_id"
    time_col: str = "ds"
    label_col: str = "y"

    def fit(
        self, X: Any, y: Any = None, *, progress: Callable[[int, Progress], None] | None = None
    ) -> Self:
        """Learn from labelled sequences.

        Args:
            X: a list of arrays (time, features) or (time,) of any lengths; an array (count, time,
                features) or (count, time); a list of texts; or a long frame. NaN is a missing
                value.
            y: the answer for each sequence; with `per_step`, a list with an answer for each step of
                each. None where X is a frame that has a column of them.
            progress: called after each step, with the number of the network (the trial is 0).

        Raises:
            InputError: the sequences or the answers cannot be used; or an argument
                of the constructor is out of range.
        """
        self._check_arguments()
        inputs, labels = self._read_pair(X, y)
        self._labelled_by_frame = y is None
        self.notes_: list[str] = []
        self.columns_ = None if inputs.frame is None else inputs.frame.features
        self.n_features_in_ = inputs.features
        truth, weights = self._learn_answers(labels)
        self._seen: tuple[Inputs, Any] | None = Inputs(inputs.sequences[:_SHOWN]), truth[:_SHOWN]
        reader = self._learn_reader(inputs)
        plan = self._plan(inputs, reader, self._outputs())
        self.model_, self.history_, self.held_out_ = fit_model(
            reader, inputs.sequences, truth, weights, plan, progress
        )
        if len(self.history_) == plan.members:
            self.notes_.append(
                f"{len(inputs)} sequences are too few to hold a part back: training was not "
                "validated, and probabilities are as the network gave them"
            )
        self._scale_answers()
        return self

    def predict(self, X: Any) -> Any:
        """Answer for each sequence, or each step.

        Returns:
            An array with an answer for each sequence; with `per_step`, a list of arrays with one
            for each step. Where `fit` took the labels from a frame, and X is one: a frame of the
            same kind, with a row for each sequence, or each step, and the answers in the label
            column.

        Raises:
            InputError: the sequences cannot be used, or are not of the kind that was learnt from.
        """
        inputs = self._read(X)
        answers = self._answer(inputs)
        if inputs.frame is not None and self._labelled_by_frame:
            flat = np.concatenate(answers) if self.per_step else answers
            return inputs.frame.answer({self.label_col: flat}, self.id_col, self.per_step)
        return answers

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model, without the data, to one safetensors file.

        Raises:
            InputError: the file cannot be written.
        """
        self._check_fitted()
        model = self.model_
        tensors = arrays_of(model.networks)
        facts: dict[str, Any] = {"version": __version__, "arguments": self._arguments()}
        if isinstance(model.reader, TextReader):
            facts["characters"] = model.reader.characters
        else:
            facts["stride"] = model.reader.stride
            for name in ("mean", "scale", "marked"):
                tensors[name] = np.ascontiguousarray(getattr(model.reader, name))
        facts |= {
            "shape": asdict(model.networks[0].shape),
            "temperature": model.temperature,
            "center": model.center,
            "spread": model.spread,
            "columns": self.columns_,
            "labelled_by_frame": self._labelled_by_frame,
            "notes": self.notes_,
            "history": [history.facts() for history in self.history_],
        }
        write_model(path, self._kind, tensors, facts | self._learnt_facts())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model from a file that `save` wrote.

        Raises:
            InputError: the file is not there, damaged, or of another kind.
        """
        file = read_model(path, cls._kind)
        tensors, facts = file.tensors, file.facts
        try:
            self = cls(**facts["arguments"])
            shape = Shape(**facts["shape"])
            networks = networks_of(lambda: Network(shape), tensors, self.members)
            names = ("temperature", "center", "spread")
            scales = (facts[name] for name in names)
            self.model_ = Model(reader_of(tensors, facts), networks, *scales)
            self.columns_, self.notes_ = facts["columns"], facts["notes"]
            self.history_ = [History.from_facts(each) for each in facts.get("history", ())]
            self._labelled_by_frame = facts["labelled_by_frame"]
            self._take_facts(facts)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path} is damaged: {error}") from None
        self.n_features_in_ = self.model_.reader.features
        self.held_out_, self._seen = None, None
        return self

    def _inspectable(self, input: Any = None, *, known: bool = False) -> Inspectable:
        """Sequences, those of `fit` when none are given, as `tidegate.inspect` looks at them."""
        self._check_fitted()
        if input is None:
            if self._seen is None:
                raise InputError("a loaded model holds no data: give the sequences to look at")
            inputs, truth = self._seen
        else:
            inputs = self._read(input)
            labels = None if inputs.frame is None else inputs.frame.labels
            truth = None if labels is None else self._numbered(labels, inputs)
        shape = self.model_.networks[0].shape
        layers = "layer" if shape.num_layers == 1 else "layers"
        ways = ", both ways" if shape.bidirectional else ""
        title = (
            f"{type(self).__name__}: {shape.num_layers} {layers} of {shape.hidden_size} units{ways}"
        )
        classes = getattr(self, "classes_", None)
        return look_into(self.model_, title, inputs, classes, truth, self.history_)

    def _numbered(self, labels: list[Any], inputs: Inputs) -> Any:
        """Answers as the network learns them."""
        raise NotImplementedError

    def _arguments(self) -> dict[str, Any]:
        return {name: plain(value) for name, value in self.get_params().items()}

    def _learnt_facts(self) -> dict[str, Any]:
        return {}

    def _take_facts(self, facts: dict[str, Any]) -> None:
        """What a kind of its own keeps in the file."""

    def _check_arguments(self) -> None:
        self._check_training()
        self._check_counts(_COUNTS, _CHOSEN)
        self._check_choice("cell", CELLS)
        self._check_choice("pooling", POOLINGS)
        self._check_numbers(BELOW_ONE, "dropout", "held_out")
        if self.per_step and self.stride not in (None, 1):
            raise InputError(f"stride must be 1 with per_step=True, got {self.stride}")

    def _check_fitted(self) -> None:
        if hasattr(self, "model_"):
            return
        message = f"{self!r} is not fitted yet: call fit first"
        if "sklearn" in sys.modules:
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(message)
        raise ValueError(message)

    def _read(self, x: Any) -> Inputs:
        """Sequences to answer for, which must be like those of `fit`."""
        self._check_fitted()
        if is_frame(x):
            frame = SequenceFrame.read(
                x,
                self.id_col,
                self.time_col,
                self.label_col,
                per_step=self.per_step,
                features=self.columns_,
            )
            inputs = Inputs(frame.sequences, frame)
        else:
            inputs = Inputs(read_sequences(x))
        learnt = isinstance(self.model_.reader, TextReader)
        if inputs.is_text != learnt:
            words = ("numbers", "texts")
            raise InputError(
                f"X holds {words[inputs.is_text]}, but the model has learnt from {words[learnt]}"
            )
        if inputs.features != self.n_features_in_:
            raise InputError(
                f"X has {inputs.features} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input, as it has learnt from"
            )
        return inputs

    def _read_pair(self, x: Any, y: Any) -> tuple[Inputs, list[Any]]:
        """Sequences and their answers."""
        if is_frame(x):
            frame = SequenceFrame.read(
                x, self.id_col, self.time_col, self.label_col, per_step=self.per_step and y is None
            )
            if y is None and frame.labels is None:
                raise InputError(
                    f"the frame has no column {self.label_col!r} for the labels; its columns are "
                    f"{', '.join(map(repr, frame.features))}"
                )
            inputs, y = Inputs(frame.sequences, frame), frame.labels if y is None else y
        else:
            inputs = Inputs(read_sequences(x))
        if y is None:
            raise InputError("requires y to be passed, but the target y is None")
        return inputs, read_labels(y, inputs.lengths, self.per_step)

    def _learn_reader(self, inputs: Inputs) -> Reader:
        if inputs.is_text:
            return TextReader.learn(inputs.sequences)
        longest = int(inputs.lengths.max())
        stride = self.stride or (1 if self.per_step else -(-longest // _READS))
        reader = NumberReader.learn(inputs.sequences, stride)
        if stride > 1 and self.stride is None:
            self.notes_.append(
                f"the longest sequence has {longest:,} steps: {2 * stride} of them are read at "
                f"once, every {stride}"
            )
        return reader

    def _plan(self, inputs: Inputs, reader: Reader, outputs: int) -> Plan:
        count = len(inputs)
        size = min(self.batch_size, max(count // 4, 1))
        steps = self.steps or min(max(_PASSES * count // size, _FEWEST), _MOST)
        held_out = min(self.held_out, _ENOUGH / count)
        return Plan(
            shape=Shape(
                inputs=reader.inputs,
                embedding=self.embedding_size if inputs.is_text else 0,
                hidden_size=int(self.hidden_size),
                num_layers=int(self.num_layers),
                bidirectional=self.bidirectional,
                cell=self.cell,
                pooling=EACH_STEP if self.per_step else self.pooling,
                outputs=outputs,
            ),
            settings=Settings(
                steps,
                learning_rate=self.learning_rate,
                validate_every=max(steps // _VALIDATIONS, 1),
                patience=_PATIENCE,
                seed=self.seed,
            ),
            batch_size=size,
            members=self.members,
            dropout=self.dropout,
            held_out=0.0 if count < _TOO_FEW else held_out,
            calibrate=getattr(self, "calibrate", False),
        )

    def _answer(self, inputs: Inputs) -> Any:
        raise NotImplementedError

    def _scored(self, x: Any, y: Any) -> tuple[Inputs, list[Any]]:
        """Sequences and the answers that a score compares with."""
        inputs = self._read(x)
        if y is None and inputs.frame is not None:
            y = inputs.frame.labels
        if y is None:
            raise InputError("y is needed to score, unless X is a frame that has the answers")
        return inputs, read_labels(y, inputs.lengths, self.per_step)

    def _learn_answers(self, labels: list[Any]) -> tuple[Sequence, Array | None]:
        raise NotImplementedError

    def _outputs(self) -> int:
        raise NotImplementedError

    def _scale_answers(self) -> None:
        """Tell the model what its answers stand for."""

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's description of an estimator; asked for by scikit-learn alone."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        classifies = self._estimator_type == "classifier"
        # Its tables are of points, where a number's place is its meaning; a sequence's is in time.
        poor = None if classifies else RegressorTags(poor_score=True)
        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if classifies else None,
            regressor_tags=poor,
            input_tags=InputTags(three_d_array=True, allow_nan=True, string=False),
            non_deterministic=False,
        )


def plain(value: Any) -> Any:
    """An argument as JSON has it."""
    return value.item() if isinstance(value, np.generic) else value
