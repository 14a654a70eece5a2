"""The model, and who holds which sentences: two clients of five have wrong labels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

TOPICS = {
    "sport": "match goal team coach race win score league player ball run final",
    "food": "soup bread cook taste oven salt spice dinner fresh bake plate lunch",
    "weather": "rain wind cloud storm sun cold snow warm sky fog degree spring",
    "music": "song band piano melody concert drum chorus record violin tune stage choir",
}
COMMON = "the a of and to in was it very with on for we they had this after before one more"
WORDS = [*COMMON.split(), *" ".join(TOPICS.values()).split()]
VOCABULARY = {word: number for number, word in enumerate(WORDS, start=1)}
LENGTH = 8
WRONG = 0.9  # share of the sentences that such a client files under the next topic
EACH = 60  # sentences a client


@dataclass
class Output:
    """What models of Hugging Face's library return: scores under ``logits``."""

    logits: torch.Tensor


class Classifier(nn.Module):
    """Embed words, mix them by attention, and name the topic; called with ``input_ids``."""

    def __init__(self, width=16):
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY) + 1, width, padding_idx=0)
        self.attention = nn.MultiheadAttention(width, num_heads=2, batch_first=True)
        self.head = nn.Linear(width, len(TOPICS))

    def forward(self, input_ids, attention_mask):
        """Return the scores (logits) of each topic."""
        words = self.embedding(input_ids)
        mixed, _ = self.attention(words, words, words, key_padding_mask=attention_mask == 0)
        shown = attention_mask.unsqueeze(-1)
        return Output(self.head(((words + mixed) * shown).sum(1) / shown.sum(1)))


def sentences(seed, count):
    """Return sentences of a seed as numbers of words ``[count, words]``, 0 for none, and topics."""
    draw = np.random.default_rng(seed)
    topics = draw.integers(len(TOPICS), size=count)
    ids = np.zeros((count, LENGTH), np.int64)
    for row, topic in enumerate(topics):
        words = list(TOPICS.values())[topic].split()
        for place in range(draw.integers(5, LENGTH + 1)):
            pool = words if draw.random() < 0.3 else COMMON.split()
            ids[row, place] = VOCABULARY[draw.choice(pool)]
    return torch.from_numpy(ids), torch.from_numpy(topics)


def batches(ids, topics, size=20):
    """Return batches as a data collator makes them."""
    parts = zip(ids.split(size), topics.split(size), strict=True)
    return [{"input_ids": i, "attention_mask": (i > 0).long(), "labels": t} for i, t in parts]


def load_test():
    """Return batches of sentences that no client holds, with their true topics."""
    return batches(*sentences(10_000, 400))


def load_client(client, clients):
    """Return batches of one client, with the topics that it has for its sentences."""
    ids, topics = sentences(client, EACH)
    if client % 5 in (1, 3):
        wrong = torch.rand(len(topics), generator=torch.Generator().manual_seed(client)) < WRONG
        topics = torch.where(wrong, (topics + 1) % len(TOPICS), topics)
    return batches(ids, topics)


def train(model, loader, epochs, lr):
    """Train by Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            output = model(batch["input_ids"], batch["attention_mask"])
            nn.functional.cross_entropy(output.logits, batch["labels"]).backward()
            optimizer.step()


def accuracy(model, loader):
    """Return the share of sentences whose topic the model names rightly."""
    model.eval()
    right = count = 0
    with torch.no_grad():
        for batch in loader:
            named = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(1)
            right, count = right + int((named == batch["labels"]).sum()), count + len(named)
    return right / count
