"""Learn to write from a text, weigh sentences, and see what the gates did, in half a minute.

Needs: pip install 'tidegate[language]'
"""

import itertools

from tidegate.language import LanguageModel

# A little world of sentences; put the path of your own text in its place.
people, sea = ("the captain", "the sailors", "a child"), ("sea", "tide", "harbour", "moon")
verbs = {"the captain": "watches", "the sailors": "watch", "a child": "watches"}
TEXT = "".join(
    f"{who} of the {place} {verbs[who]} the {other}.\n"
    for _, who, place, other in itertools.product(range(12), people, sea, sea)
)

model = LanguageModel(hidden_size=64, steps=300, context_length=50, batch_size=16)
model.fit(TEXT, show=lambda glimpse: print(f"perplexity {glimpse.perplexity:.2f}"))
print(model.sample("the sailors of", length=60, temperature=0.5))

# The subject is far from its verb: which form is likelier?
right, wrong = model.score(["the sailors of the moon watch ", "the sailors of the moon watches"])
print(f"watch {right.total:.2f}, watches {wrong.total:.2f}")

text, gates = model.sample("a child ", length=20, return_gates=True)
for token, update in zip(gates.tokens, gates.update[0], strict=True):
    print(f"{token!r:5} keeps {update.mean():.2f} of what was there")
