"""`GRUClassifier`: labels of whole sequences, or of each of their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._inputs import Inputs
from ._labels import class_weights, classes_of, encode, read_labels
from ._recurrent import Recurrent, plain

Array = np.ndarray


@dataclass(kw_only=True, eq=False, repr=False)
class GRUClassifier(Recurrent):
    """Labels whole sequences, or each of their steps.

    A GRU reads a sequence, forward and backward; what it says at all steps becomes one vector, and
    the vector a label. Each feature is brought to one scale, which is learnt in `fit`, and a
    missing value (NaN) is taken as the last one known and marked. Sequences may differ in length.

    Part of the sequences is held back in a trial: how well they are labelled says when to stop, and
    by how much the probabilities are too sure of themselves. Then the network learns from
    everything for as long.

    Args:
        hidden_size: units of each layer and direction.
        num_layers: of them.
        bidirectional: also read from the end.
        cell: "gru"; or "mingru", whose gates do not see the state (arXiv:2410.01201).
        pooling: how all steps become one vector: "attention", a learnt weighing of them; "mean"; or
            "last", the state after the last step.
        per_step: label each step.
        stride: steps between two reads; with more than one, a read sees twice as many steps. Chosen
            so that there are at most 64 reads when not given; 1 with `per_step` and for texts.
        embedding_size: numbers that stand for a character of a text.
        dropout: between layers and before the answer.
        held_out: share of the sequences that is held back, at most 2,000 of them; 0 for no trial.
        calibrate: divide the logits by a temperature that is found on the held-out part.
        class_weight: "balanced", so that each class counts the same however many it has; or a
            weight for each label.
        steps: batches to learn from at most; from the number of sequences when not given.
        batch_size: sequences in a batch.
        learning_rate: the highest.
        members: networks to train and average.
        seed: of all random numbers; same seed, machine and threads, same labels.
        id_col: of a frame: the column that tells sequences apart. Without it and `time_col`, a row
            is a sequence.
        time_col: of a frame: the column of time stamps; without it, steps are in the order of rows.
        label_col: of a frame: the column of labels.

    Attributes:
        classes_: the labels, sorted.
        notes_: what was noticed in the data and done about it, a sentence each.
        history_: loss and validation over the trial, if there was one, and each network.
        held_out_: how well the trial did on what it held back: `score`, the `plain` score of the
            commonest answer, and how many `sequences`; None where there was no trial.
        n_features_in_: numbers at each step; 0 of texts.

    Example:
        >>> up = [np.arange(n) + 0.0 for n in range(5, 25)]
        >>> down = [-x for x in up]
        >>> labels = ["up"] * 20 + ["down"] * 20
        >>> model = GRUClassifier(hidden_size=8, steps=50).fit(up + down, labels)
        >>> model.predict([np.arange(30.0)]).tolist()
        ['up']
    """

    _kind, _estimator_type = "classifier", "classifier"

    calibrate: bool = True
    class_weight: str | Mapping[Any, float] | None = None

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, in the order of `classes_`.

        Returns:
            An array (count, classes); with `per_step`, a list of arrays (time, classes).

        Raises:
            InputError: the sequences cannot be used, or are not of the kind that was learnt from.
        """
        return self._probabilities(self._read(X))

    def score(self, X: Any, y: Any = None) -> float:
        """The share of right labels, of all steps with `per_step`; y as in `fit`.

        Raises:
            InputError: the data cannot be used, or hold a label that was not learnt.
        """
        inputs, labels = self._scored(X, y)
        truth = encode(labels, self.classes_, self.per_step)
        found = [p.argmax(-1) for p in self._probabilities(inputs)]
        if self.per_step:
            return float((np.concatenate(found) == np.concatenate(truth)).mean())
        return float((np.array(found) == truth).mean())

    def _probabilities(self, inputs: Inputs) -> Any:
        found = self.model_.probabilities(inputs.sequences)
        return found if self.per_step else np.stack(found)

    def _answer(self, inputs: Inputs) -> Any:
        labels = [self.classes_[p.argmax(-1)] for p in self._probabilities(inputs)]
        return labels if self.per_step else np.array(labels, self.classes_.dtype)

    def _learn_answers(self, labels: list[Any]) -> tuple[Sequence, Array | None]:
        self.classes_ = classes_of(labels, self.per_step)
        truth = encode(labels, self.classes_, self.per_step)
        return truth, class_weights(self.class_weight, self.classes_, truth)

    def _outputs(self) -> int:
        return len(self.classes_)

    def _numbered(self, labels: list[Any], inputs: Inputs) -> Any:
        read = read_labels(labels, inputs.lengths, self.per_step)
        return encode(read, self.classes_, self.per_step)

    def _learnt_facts(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str}

    def _take_facts(self, facts: dict[str, Any]) -> None:
        self.classes_ = np.array(facts["classes"], facts["dtype"])
        if isinstance(self.class_weight, list):
            self.class_weight = dict(self.class_weight)

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        if isinstance(self.class_weight, Mapping):  # JSON knows no keys but text
            pairs = self.class_weight.items()
            arguments["class_weight"] = [[plain(label), plain(w)] for label, w in pairs]
        return arguments
