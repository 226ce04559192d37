"""The text graph: a small causal transformer over CLIP tokens, trained to reproduce the teacher's sentence embeddings.

It starts from the teacher: some of its layers, its positions, and for every CLIP token the teacher's embedding of the
same characters, reduced to `EMBEDDING` dimensions (a factorised embedding as in ALBERT, Lan et al., 2020, arXiv
1909.11942). Training (knowledge distillation) makes up for the causal mask, the missing layers, the other tokens.
"""

import logging
import math
import random
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from action_clip.export.nano.minilm import EPSILON, WIDTH, Layer, MiniLM
from action_clip.export.nano.texts import TextStream
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, END_OF_TEXT, START_OF_TEXT, VOCABULARY_SIZE, Tokenizer

EMBEDDING = 128
TEACHER_LAYERS = (0, 1, 3, 5)
_LOG = logging.getLogger("action_clip")


class Student(nn.Module):
    """(N, L) CLIP tokens, L ≤ 77 → (N, 384) embeddings, not normalised.

    A text's embedding is the mean of its states up to the end-of-text token (the largest id, so its place is the
    argmax); what follows that token changes nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY_SIZE, EMBEDDING)
        self.widen = nn.Linear(EMBEDDING, WIDTH)
        self.positions = nn.Parameter(torch.zeros(CONTEXT_LENGTH, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in TEACHER_LAYERS)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.widen(self.tokens(tokens)) + self.positions[places])
        mask = torch.where(places[None, :] > places[:, None], -1e4, 0.0)
        for layer in self.layers:
            x = layer(x, mask)
        within = (places <= tokens.argmax(1, keepdim=True)).to(x.dtype)
        mean = (x * within[:, :, None]).sum(1) / within.sum(1, keepdim=True)
        embeddings: Tensor = self.output(mean)
        return embeddings


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """What each token of the vocabulary writes."""
    return [tokenizer.decode([token]).strip() for token in range(VOCABULARY_SIZE)]


@torch.no_grad()
def student_of(teacher: MiniLM, tokenizer: Tokenizer) -> Student:
    """An untrained student that starts from its teacher."""
    student = Student()
    pieces = [encoding.ids[1:-1] for encoding in teacher.tokenizer.encode_batch(token_texts(tokenizer))]
    average = teacher.words.mean(0)
    words = torch.stack([teacher.words[ids].mean(0) if ids else average for ids in pieces])
    for token, name in ((START_OF_TEXT, "[CLS]"), (END_OF_TEXT, "[SEP]")):
        words[token] = teacher.words[teacher.tokenizer.token_to_id(name)]
    centre = words.mean(0)
    _, scales, directions = torch.linalg.svd(words - centre, full_matrices=False)
    spread = scales[:EMBEDDING].mean() / math.sqrt(len(words))
    student.tokens.weight.copy_((words - centre) @ directions[:EMBEDDING].T / spread)
    student.widen.weight.copy_(directions[:EMBEDDING].T * spread)
    student.widen.bias.copy_(centre)
    student.positions[: len(teacher.positions)] = teacher.positions[:CONTEXT_LENGTH]
    student.positions[len(teacher.positions) :] = teacher.positions[-1]
    student.norm.load_state_dict(teacher.norm.state_dict())
    for layer, number in zip(student.layers, TEACHER_LAYERS, strict=True):
        layer.load_state_dict(teacher.layers[number].state_dict())
    student.output.weight.copy_(torch.eye(WIDTH))
    student.output.bias.zero_()
    return student.requires_grad_(True)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Texts → (N, L) tokens, L the longest text's length; what does not fit 77 tokens is cut, its end token kept."""
    rows = [tokenizer.tokenize(text)[: CONTEXT_LENGTH - 2] for text in texts]
    tokens = torch.zeros(len(rows), max(map(len, rows)) + 2, dtype=torch.long)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids) + 2] = torch.tensor([START_OF_TEXT, *ids, END_OF_TEXT])
    return tokens


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """4 · (1 - cosine) + 0.3 · in-batch contrastive at temperature 0.05; both (N, D), L2-normalised."""
    cosine = (student * teacher).sum(1).mean()
    own = torch.arange(len(student))
    return 4 * (1 - cosine) + 0.3 * functional.cross_entropy(student @ teacher.T / 0.05, own)


def train(
    student: Student,
    teacher: MiniLM,
    stream: TextStream,
    tokenizer: Tokenizer,
    *,
    steps: int,
    batch: int = 1024,
    chunk: int = 256,
    peak_rate: float = 5e-4,
    seed: int = 0,
) -> None:
    """Train in place on fresh texts at every step, in bfloat16 where the processor has it; logs every 50 steps.

    A batch is sorted by length and goes through teacher and student in chunks, so that short texts pay for no padding.
    """
    rng = random.Random(seed)
    decayed = [p for p in student.parameters() if p.ndim == 2]
    plain = [p for p in student.parameters() if p.ndim != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=peak_rate
    )
    warm_up = min(300, steps // 10 + 1)

    def rate(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    began = time.monotonic()
    student.train()
    for step in range(1, steps + 1):
        texts = sorted(stream.batch(rng, batch), key=len)
        chunks = [texts[i : i + chunk] for i in range(0, batch, chunk)]
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = torch.cat([teacher(part) for part in chunks])
            found = torch.cat([student(encode(tokenizer, part)) for part in chunks])
        found = functional.normalize(found.float(), dim=1)
        loss = distillation_loss(found, wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            cosine = (found.detach() * wanted).sum(1).mean().item()
            seconds = time.monotonic() - began
            _LOG.info("step %d of %d: loss %.4f, cosine %.4f, %.0f s", step, steps, loss.item(), cosine, seconds)
    student.eval()
