"""Learn to write from a text, weigh sentences, and see what the gates did, in a few seconds.

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

model = LanguageModel("words", hidden_size=32, steps=300, learning_rate=0.01)
model.fit(TEXT)
print(f"perplexity {model.perplexity_:.2f}")
print(model.sample("the sailors of", length=30, temperature=0.5))

# A noun of the other number stands before the verb: which form is likelier?
right, wrong = model.score(["the sailors of the moon watch", "the sailors of the moon watches"])
print(f"watch {right.total:.2f}, watches {wrong.total:.2f}")

text, gates = model.sample("a child of the", length=6, return_gates=True)
for token, update in zip(gates.tokens, gates.update[0], strict=True):
    print(f"{token!r:12} keeps {update.mean():.2f} of what was there")
