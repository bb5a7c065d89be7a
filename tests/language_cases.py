"""A small text, and language models that learn it in a moment."""

from tidegate.language import LanguageModel

TEXT = (
    "the tide comes in, the tide goes out\nand nobody knows what it is about\n"
    "the moon pulls hard, the sea gives way\nand comes again another day\n"
) * 30


def small_model(**arguments) -> LanguageModel:
    """A model that trains in a moment."""
    sizes = {
        "hidden_size": 24,
        "steps": 40,
        "context_length": 16,
        "batch_size": 8,
        "learning_rate": 0.02,
    }
    return LanguageModel(**(sizes | arguments))
