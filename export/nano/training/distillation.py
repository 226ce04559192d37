"""Training of the text network to reproduce the teacher's sentence embeddings (knowledge distillation).

The student starts from the teacher: some of its layers, its positions, and for every CLIP token the teacher's embedding
of the same characters, reduced to `EMBEDDING` dimensions. Training makes up for the causal mask, the missing layers and
the other tokens.
"""

import logging
import math
import random
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from action_clip.export.nano.minilm import WIDTH, MiniLM
from action_clip.export.nano.student import EMBEDDING, Student, encode
from action_clip.export.nano.training.texts import TextStream
from action_clip.export.nano.wordnet import WordNet
from action_clip.tokenizer.bpe import (
    CONTEXT_LENGTH,
    END_OF_TEXT,
    START_OF_TEXT,
    VOCABULARY_SIZE,
    Tokenizer,
    default_tokenizer,
)

_LOG = logging.getLogger("action_clip")
# The layers of the teacher whose weights the student's layers start with.
TEACHER_LAYERS = (0, 1, 3, 5)


def trained_student(teacher: MiniLM, wordnet: WordNet, steps: int, seed: int) -> Student:
    """Return the text network, trained for so many steps; the same seed gives the same training texts."""
    tokenizer = default_tokenizer()
    # Words that are one token are common words; that beginnings of words are among them does no harm.
    vocabulary = {*token_texts(tokenizer), *teacher.tokenizer.get_vocab()}
    words = {word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2}
    student = student_of(teacher, tokenizer)
    train(student, teacher, TextStream(wordnet, sorted(words)), tokenizer, steps=steps, seed=seed)
    return student


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """Return the text of each token of the vocabulary, by id."""
    return [tokenizer.decode([token]).strip() for token in range(VOCABULARY_SIZE)]


@torch.no_grad()
def student_of(teacher: MiniLM, tokenizer: Tokenizer) -> Student:
    """Return an untrained student with the teacher's weights as initial values."""
    student = Student()
    pieces = [encoding.ids[1:-1] for encoding in teacher.tokenizer.encode_batch(token_texts(tokenizer))]
    average = teacher.words.mean(0)
    words = torch.stack([teacher.words[ids].mean(0) if ids else average for ids in pieces])
    for token, name in ((START_OF_TEXT, "[CLS]"), (END_OF_TEXT, "[SEP]")):
        words[token] = teacher.words[teacher.tokenizer.token_to_id(name)]
    mean = words.mean(0)
    _, scales, directions = torch.linalg.svd(words - mean, full_matrices=False)
    spread = scales[:EMBEDDING].mean() / math.sqrt(len(words))
    student.tokens.weight.copy_((words - mean) @ directions[:EMBEDDING].T / spread)
    student.widen.weight.copy_(directions[:EMBEDDING].T * spread)
    student.widen.bias.copy_(mean)
    student.positions[: len(teacher.positions)] = teacher.positions[:CONTEXT_LENGTH]
    student.positions[len(teacher.positions) :] = teacher.positions[-1]
    student.norm.load_state_dict(teacher.norm.state_dict())
    for block, number in zip(student.transformer.resblocks, TEACHER_LAYERS, strict=True):
        block.load_state_dict(teacher.transformer.resblocks[number].state_dict())
    student.output.weight.copy_(torch.eye(WIDTH))
    student.output.bias.zero_()
    return student.requires_grad_(True)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 4 · (1 - mean cosine) + 0.3 · contrastive loss within the batch at temperature 0.05, a scalar.

    `student` and `teacher` are the L2-normalised embeddings of the same texts, (N, D).
    """
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
    """Train the student in place, on new texts at every step and with autocast to bfloat16; logs every 50 steps.

    A batch is sorted by length and goes through teacher and student in chunks, so that short texts are padded little.

    Args:
        student: the network that is trained.
        teacher: gives the target embeddings.
        stream: gives the texts.
        tokenizer: makes the student's tokens.
        steps: number of steps.
        batch: texts in each step.
        chunk: texts that go through the networks at once.
        peak_rate: learning rate after warm-up, from which it falls to 0 along a cosine.
        seed: of the texts.
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
                targets = torch.cat([teacher(part) for part in chunks])
            outputs = torch.cat([student(encode(tokenizer, part)) for part in chunks])
        outputs = functional.normalize(outputs.float(), dim=1)
        loss = distillation_loss(outputs, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            cosine = (outputs.detach() * targets).sum(1).mean().item()
            seconds = time.monotonic() - began
            _LOG.info("step %d of %d: loss %.4f, cosine %.4f, %.0f s", step, steps, loss.item(), cosine, seconds)
    student.eval()
