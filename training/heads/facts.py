"""What the metadata of a head's graph say: all that the program needs of the model."""

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from action_clip import __version__
from action_clip.errors import ActionClipError
from action_clip.models.catalog import validators
from action_clip.models.catalog.specs import HEAD, ModelSpec

WITH_TEXTS = ("zero-shot", "tip-adapter")
"""The heads that add to texts: models with them stay zero-shot ones."""
TRAINER = "trainer"
"""The key that says which version of this program has written a folder."""


def trained_spec(
    base: ModelSpec, folder: Path, head: str, classes: Sequence[str], prompts: Sequence[str], *, is_multi_label: bool
) -> ModelSpec:
    """Return the spec of a model that is trained from another one.

    Args:
        base: the other model's.
        folder: where it will be.
        head: one of validators.HEADS.
        classes: in the order of the head's logits.
        prompts: templates, where it has texts.
        is_multi_label: whether each class is scored by itself.

    Raises:
        ActionClipError: a class has a name that cannot be written.
    """
    has_texts = head in WITH_TEXTS
    try:
        names = validators.class_names(list(classes))
    except ValueError:
        raise ActionClipError(
            f"the names of the classes cannot be written: they must be texts of at most {validators.LONGEST_TEXT} "
            "characters in UTF-8"
        ) from None
    return replace(
        base,
        name=os.path.basename(os.path.abspath(folder)),
        kind="zero-shot" if has_texts else "closed-set",
        prompts=tuple(prompts) if has_texts else (),
        classes=names,
        none_texts=base.none_texts if has_texts else (),
        head=head,
        is_multi_label=is_multi_label,
    )


def head_facts(spec: ModelSpec, roles: Collection[str]) -> dict[str, str]:
    """Return the metadata of the head's graph; the other graphs, of these roles, have their own names, ROLE.onnx."""
    from action_clip.export.onnx_writing import model_facts

    facts = {
        **model_facts(spec),
        "role": HEAD,
        "head": spec.head,
        "classes": json.dumps(spec.classes),
        "graphs": json.dumps({role: f"{role}.onnx" for role in roles}),
        "multi_label": json.dumps(spec.is_multi_label),
        TRAINER: f"action_clip {__version__}",
    }
    if spec.none_texts:
        facts["none_texts"] = json.dumps(spec.none_texts)
    if spec.temporal:
        facts["temporal"] = spec.temporal
    return facts
